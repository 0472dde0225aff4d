"""Ten cycles of examples/drift in the real loop, with its drafts and its scorer as a program, without containers."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import compose
from orchestrator.cli import app
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError
from orchestrator.execution.experiment import kept_before
from orchestrator.loop import run_session
from orchestrator.propose import prompts
from orchestrator.propose.drafts import DraftsProposer
from orchestrator.propose.history import select_history
from orchestrator.record import claims
from orchestrator.record.journal import Journal
from orchestrator.record.verify import find_damage
from orchestrator.scoring.messages import FailedMessage, Message, RefusedMessage, parse_message, read_outcome
from orchestrator.types import Context, Kept, Score, Spent, Status, Trial
from tests.support import fakes
from tests.support.journals import candidate, champion
from tests.support.sessions import open_session

ROOT = Path(__file__).parents[2]
DRIFT = ROOT / "examples" / "drift"
ENDS = {RefusedMessage: Status.CHEAT, FailedMessage: Status.CRASH}


@dataclass(frozen=True)
class Scorer:
    """Runs the scorer on a post, with what was kept so far; stands in for the containers."""

    folder: Path
    kept: Callable[[], list[Kept]]

    def __call__(self, source: str) -> Trial:
        """Return the trial that the scorer's messages amount to."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "kept").mkdir(parents=True)
        (self.folder / "post.md").write_text(source)
        for kept in self.kept():
            (self.folder / "kept" / f"{kept.id:04d}.md").write_text(kept.source)
        path = f"{DRIFT / 'locked'}:{ROOT / 'orchestrator' / 'runtime'}"
        command = [sys.executable, "-B", str(DRIFT / "locked" / "score.py"), f"--kept={self.folder / 'kept'}"]
        done = subprocess.run(
            [*command, str(self.folder / "post.md")],
            env={"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        messages = [message for line in done.stdout.splitlines() if isinstance(message := parse_message(line), Message)]
        outcome = read_outcome(messages, "post_score")
        if isinstance(outcome, Score):
            return replace(fakes.scored(0), executions=(), score=replace(outcome, higher_is_better=True))
        assert isinstance(outcome, RefusedMessage | FailedMessage), done.stderr
        return replace(fakes.broken(ENDS[type(outcome)], outcome.reason), executions=())


def run(tmp_path: Path, experiments: int) -> Config:
    """A session of the loop on a copy of the task."""
    if not (tmp_path / "drift").exists():
        shutil.copytree(DRIFT, tmp_path / "drift")
        subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path / "drift")], check=True)
    root = tmp_path / "drift"
    config = load(root, {"tag": "t", "runs": tmp_path / "runs", "limits.experiments": experiments})
    journal = Journal.open(config.run_path)
    runner = fakes.ArithmeticRunner(Scorer(tmp_path / "box", lambda: compose.list_kept(journal)))
    session = open_session(config, DraftsProposer.open(root, ".md"), runner, journal=journal)
    session = replace(
        session, proposals=replace(session.proposals, needs_contract=False, file_name=config.task.mutable.name)
    )
    with session.journal:
        run_session(session)
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Ten cycles, in two sessions."""
    tmp_path = tmp_path_factory.mktemp("drift")
    run(tmp_path, 6)
    return run(tmp_path, 4)


def test_good_drafts_are_kept_and_bad_ones_refused_by_name(config: Config) -> None:
    """In the order of the drawer; a kept post reached the threshold, whatever the ones before it had."""
    with Journal.read(config.run_path) as journal:
        found = [e for e in journal.experiments() if e.remeasures_id is None]
    expected = ["keep", "keep", "discard", "keep", "discard", "keep", "discard", "keep", "discard", "keep", "cheat"]

    assert expected == [e.status.value for e in found]
    assert all(e.value >= 70 for e in found if e.status is Status.KEEP and e.value)
    assert "copy: 63% of its runs of four words stand in the archived post" in found[-1].message


def test_the_reasons_and_parts_are_on_record(config: Config) -> None:
    """What the proposer is shown next."""
    with Journal.read(config.run_path) as journal:
        cliches, vague = (journal.experiment(number).score for number in (2, 4))

    assert cliches and vague
    assert 'needless-to-say (filler): "Needless to say": then do not say it' in cliches.reasons
    assert dict(vague.parts)["substance"] == vague.value < 30


def test_the_newest_kept_post_is_what_the_next_one_follows(config: Config) -> None:
    """Though an earlier one, the best, has more points; a second session goes on from it too, and notes nothing."""
    with Journal.read(config.run_path) as journal:
        ideas = [e for e in journal.experiments() if e.parent_id is not None]
        best, parent, notes = journal.champion(), journal.parent(), journal.notes()
        told = claims.describe(journal)

    assert [0, 1, 1, 3, 3, 5, 5, 7, 7, 9] == [e.parent_id for e in ideas]
    assert best and parent and (9, True) == (parent.id, best.value > parent.value)
    assert (f"the newest kept, which the next one follows: experiment 9, {parent.value:.6g} post_score",) == told
    assert [] == notes


TRAINING = re.compile(
    r"train\.py|\b(train(s|ed|er|ing)?|val_bpb|bits/byte|loss(es)?|models?|checkpoints?|predictors?|GPU)\b",
    re.IGNORECASE,
)


def shown(config: Config, *command: str) -> str:
    """What a command prints of the run."""
    done = CliRunner().invoke(app, [*command, "--run", "t", "--task", str(config.root), "--runs", str(config.runs)])

    assert 0 == done.exit_code, done.output
    return done.output


@pytest.mark.parametrize(
    "command",
    [("status",), ("show", "1"), ("show", "2"), ("show", "10"), ("diff", "1", "3"), ("diff", "3", "3"), ("lineage",)],
)
def test_no_view_of_a_text_speaks_of_training(config: Config, command: tuple[str, ...]) -> None:
    """Nothing is trained here, whatever the language-model task has."""
    output = shown(config, *command)

    assert 1 < len(output.splitlines()) or "the same file" in output
    assert [] == TRAINING.findall(output.replace(str(config.runs), ""))


def test_the_report_of_a_text_speaks_of_no_training(config: Config) -> None:
    """But for what each level means; scripts and styles are the same for every task."""
    shown(config, "report")
    page = (config.run_path / "report.html").read_text()
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)

    assert "post_score" in text
    assert [] == [found[0] for found in TRAINING.findall(text)]


def test_the_prompt_for_a_text_speaks_of_no_training(config: Config) -> None:
    """It shows the newest kept post, and says what it is."""
    with Journal.read(config.run_path) as journal:
        parent, memory = journal.parent(), select_history(journal, champion())
        assert parent
        context = Context(
            experiment_id=11, champion=parent, champion_source="# A title\n", history=[], spent=Spent(), memory=memory
        )
        text = prompts(config).build(context).text

    assert "# The newest kept post.md\n" in text and "```markdown\n# A title" in text
    assert [] == [found[0] for found in TRAINING.findall(text)]


def test_a_post_edited_by_hand_stays_and_the_note_names_where_posts_are(tmp_path: Path) -> None:
    """By the name that they have in the folder of an experiment."""
    done = run(tmp_path, 1)
    (done.root / "mutable" / "post.md").write_text("# Mine\n\nEdited by hand.\n")
    run(tmp_path, 2)  # the second draft is refused, the third one kept
    with Journal.read(done.run_path) as journal:
        notes = journal.notes()

    assert (done.root / "mutable" / "post.md").read_text().startswith("# Mine")
    assert any(note.endswith("as source.md of each experiment") for note in notes)
    assert [] == [found[0] for note in notes for found in TRAINING.findall(note)]


def test_a_kept_post_that_is_measured_again_is_no_copy_of_itself(config: Config) -> None:
    """It is scored beside what was kept before it; so is none of the others."""
    with Journal.read(config.run_path) as journal:
        files = compose.list_kept(journal)

    assert [0, 1, 3] == [one.id for one in kept_before(candidate(remeasures_id=5), files)]
    assert files == [*kept_before(candidate(), files)]


@pytest.mark.parametrize(
    ("command", "why"),
    [("confirm", "task drift has no holdout"), ("claim", 'task drift has noise = "none" in task.toml')],
)
def test_what_makes_no_sense_for_a_text_is_refused_in_one_line(config: Config, command: str, why: str) -> None:
    """Before a container is started: a new trial would say what the first one said."""
    where = ("--run", "t", "--task", str(config.root), "--runs", str(config.runs))
    done = CliRunner().invoke(app, [command, "9", *where])

    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(why)


def test_an_index_that_is_lost_is_built_anew(config: Config) -> None:
    """From the record, which has the whole archive; nothing is missing."""
    with Journal.read(config.run_path) as journal:
        before = journal.experiments(), compose.list_kept(journal)
    (config.run_path / "index.db").unlink()
    with Journal.read(config.run_path) as journal:
        after = journal.experiments(), compose.list_kept(journal)

    assert before == after
    assert [] == list(find_damage(config.run_path))


def test_the_archive_of_ten_cycles_verifies(config: Config) -> None:
    """The record is the only state: the kept posts come from it, oldest first, and it is whole."""
    with Journal.read(config.run_path) as journal:
        kept = compose.list_kept(journal)

    assert [0, 1, 3, 5, 7, 9] == [one.id for one in kept]
    assert kept[-1].source == (DRIFT / "drafts" / "09-stairs.md").read_text()
    assert (config.root / "mutable" / "post.md").read_text() == kept[-1].source
    assert [] == list(find_damage(config.run_path))
