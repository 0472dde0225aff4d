"""The loop with a scripted proposer and an arithmetic runner: its decisions, its record, its resumption."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, EngineUnavailable, JournalError, SandboxError
from orchestrator.events import ExperimentDoubted, NoteRecorded
from orchestrator.lifecycle import load_offset
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import Context, Edit, Proposal, Reply, Status, Trial
from tests.support import fakes
from tests.support.sessions import git, open_session, parabola, session, statuses, task


def test_only_strict_improvements_are_kept(tmp_path: Path) -> None:
    """Baseline first, then better, worse, better: the best file ends up in place and on the branch."""
    config = task(tmp_path)
    loop, _, _ = session(config, parabola, ["0.03", "0.9", "0.04"])
    with loop.journal:
        reason = run_session(loop)

    assert "3 experiments done" == reason
    assert [(0, "keep"), (1, "keep"), (2, "discard"), (3, "keep")] == statuses(config)
    assert 0.04 == fakes.rate_of(config.mutable_path.read_text())
    assert "LEARNING_RATE = 0.04" in git(config, "show", "autoresearch/t:mutable/train.py")
    assert "3" == git(config, "rev-list", "--count", "autoresearch/t")
    assert "" == git(config, "diff", "--cached", "--name-only", "--diff-filter=M")


def test_equal_is_discarded(tmp_path: Path) -> None:
    """The same score is no improvement."""
    config = task(tmp_path, 1)
    loop, _, _ = session(config, lambda _: fakes.scored(1.0), ["0.03"])
    with loop.journal:
        run_session(loop)

    assert [(0, "keep"), (1, "discard")] == statuses(config)


def test_a_crash_with_a_good_number_is_not_kept(tmp_path: Path) -> None:
    """A trial that failed has no score, whatever it printed."""
    config = task(tmp_path, 1)

    def run(source: str) -> Trial:
        return parabola(source) if fakes.rate_of(source) == 0.02 else fakes.broken(Status.CRASH)

    loop, _, _ = session(config, run, ["0.05"])
    with loop.journal:
        run_session(loop)

    assert [(0, "keep"), (1, "crash")] == statuses(config)
    assert 0.02 == fakes.rate_of(config.mutable_path.read_text())


def test_a_refused_patch_is_answered_then_counts_as_invalid(tmp_path: Path) -> None:
    """Three refusals make one invalid experiment that cost no run."""
    config = task(tmp_path, 2)
    loop, proposer, runner = session(config, parabola, ["nonsense", "nonsense", "nonsense", "0.05"])
    with loop.journal:
        run_session(loop)

    assert [(0, "keep"), (1, "invalid"), (2, "keep")] == statuses(config)
    assert 4 == proposer.asked
    assert 2 == len(runner.ran)


def test_an_exact_repeat_is_refused_for_free(tmp_path: Path) -> None:
    """What was judged is not run again."""
    config = task(tmp_path, 3)
    loop, _, runner = session(config, parabola, ["0.9", "0.9", "0.8", "0.7"])
    with loop.journal:
        run_session(loop)

    assert [0.02, 0.9, 0.8, 0.7] == [fakes.rate_of(source) for source in runner.ran]


def test_infra_is_run_again_and_not_blamed_on_the_patch(tmp_path: Path) -> None:
    """The same candidate gets a new id and another attempt."""
    config = task(tmp_path, 1)
    failures = iter([True])

    def run(source: str) -> Trial:
        if fakes.rate_of(source) != 0.02 and next(failures, False):
            raise EngineUnavailable("the engine died")
        return parabola(source)

    loop, proposer, _ = session(config, run, ["0.05"])
    with loop.journal:
        run_session(loop)

    assert [(0, "keep"), (1, "infra"), (2, "keep")] == statuses(config)
    assert 1 == proposer.asked
    with Journal.read(config.run_path) as journal:
        assert (2, 1) == (journal.experiment(2).attempt, journal.experiment(2).retry_of)


def test_infra_in_a_row_ends_the_session(tmp_path: Path) -> None:
    """Three failures of ours are no weather any more; once they are fixed, the same run goes on."""
    config = task(tmp_path, 9)

    def run(source: str) -> Trial:
        raise EngineUnavailable("no engine")

    loop, _, _ = session(config, run, ["0.05"])
    with loop.journal, pytest.raises(SandboxError, match="3 failures of the sandbox in a row, the last: no engine"):
        run_session(loop)
    fixed, _, _ = session(task(tmp_path, 1), lambda _: fakes.scored(2.0), ["0.05"])
    with fixed.journal:
        run_session(fixed)

    assert ["infra", "infra", "infra", "keep", "discard"] == [status for _, status in statuses(config)]


def test_an_interrupt_closes_the_record_and_the_next_session_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in mid-run: nothing is left open, the candidate is run again."""
    config = task(tmp_path, 1)
    interrupts = iter([True])

    def run(source: str) -> Trial:
        if fakes.rate_of(source) != 0.02 and next(interrupts, False):
            raise KeyboardInterrupt
        return parabola(source)

    for expected in ("interrupted", "1 experiment done"):
        loop, _, _ = session(config, run, ["0.05"])
        with loop.journal:
            assert expected == run_session(loop)

    assert [(0, "keep"), (1, "infra"), (2, "keep")] == statuses(config)


def test_a_session_killed_in_mid_run_is_resumed(tmp_path: Path) -> None:
    """What was running is closed as infra and run again; the limit of three still holds."""
    config = task(tmp_path, 3)
    deaths = iter([True])

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == 0.9 and next(deaths, False):
            raise SystemExit  # as sudden as it gets within one process
        return parabola(source)

    loop, _, _ = session(config, run, ["0.03", "0.9", "0.04"])
    with loop.journal, pytest.raises(SystemExit):
        run_session(loop)
    loop, _, _ = session(config, run, ["0.04"])
    with loop.journal:
        run_session(loop)

    assert [(0, "keep"), (1, "keep"), (2, "infra"), (3, "discard"), (4, "keep")] == statuses(config)


def test_a_finished_count_starts_anew(tmp_path: Path) -> None:
    """`make loop EXPERIMENTS=2` twice runs two and then two more."""
    config = task(tmp_path, 2)
    for rates in (["0.9", "0.8"], ["0.7", "0.6"]):
        loop, _, _ = session(config, parabola, rates)
        with loop.journal:
            assert loop.journal.spent().experiments == load_offset(loop.journal).experiments
            run_session(loop)

    assert 5 == len(statuses(config))


def test_a_train_py_changed_by_hand_is_left_alone(tmp_path: Path) -> None:
    """The loop replaces the file only if it still is what it last put there."""
    config = task(tmp_path, 1)

    def run(source: str) -> Trial:
        config.mutable_path.write_text("# mine\n")
        return parabola(source)

    loop, _, _ = session(config, run, ["0.05"])
    with loop.journal:
        run_session(loop)

    assert "# mine\n" == config.mutable_path.read_text()
    assert "LEARNING_RATE = 0.05" in git(config, "show", "autoresearch/t:mutable/train.py")
    with Journal.read(config.run_path) as journal:
        (note,) = [one.event.text for one in journal.events(NoteRecorded)]
    assert note.startswith(f"{config.mutable_path} was edited by hand and is left as it is: what this run keeps is not")


def test_an_edit_by_hand_between_two_sessions_is_said(tmp_path: Path) -> None:
    """That it is not used, and how to start from it: on record, once a session."""
    config = task(tmp_path, 1)
    for edit in ("", "# mine\n", "# mine\n"):
        if edit:
            config.mutable_path.write_text(edit)
        loop, _, _ = session(config, parabola, ["0.05", "0.04"])
        with loop.journal:
            run_session(loop)
    with Journal.read(config.run_path) as journal:
        notes = [one.event.text for one in journal.events(NoteRecorded)]
        newest = journal.notes()

    assert 2 == len(notes)
    assert notes[-1:] == newest
    assert notes[0].startswith(
        f"{config.mutable_path} was edited by hand, and this run does not use it: it continues from"
    )
    assert notes[0].endswith("; to start from your file, begin another run with --run NAME")


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_text(f"{path.read_text()}# more\n"), lambda path: path.unlink()]
)
def test_a_kept_file_that_is_not_what_ran_is_named(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """Nothing is made from it, and nothing is lost: once it is restored the run goes on."""
    config = task(tmp_path, 1)
    first, _, _ = session(config, parabola, ["0.05"])
    with first.journal:
        run_session(first)
    kept = config.run_path / "0001" / "train.py"
    was = kept.read_bytes()
    damage(kept)
    second, _, runner = session(config, parabola, ["0.04"])
    with second.journal, pytest.raises(JournalError, match=rf"^{kept}: .*; restore it \(commits of kept files name"):
        run_session(second)

    assert [] == runner.ran
    kept.write_bytes(was)
    third, _, runner = session(config, parabola, ["0.04"])
    with third.journal:
        run_session(third)
    assert 1 == len(runner.ran)


def test_a_broken_baseline_ends_the_session(tmp_path: Path) -> None:
    """Nothing can be compared with a baseline that has no score."""
    config = task(tmp_path, 1)
    loop, _, _ = session(config, lambda _: fakes.broken(Status.CRASH, "boom"), ["0.05"])
    with loop.journal, pytest.raises(ConfigError, match="boom"):
        run_session(loop)

    assert [(0, "crash")] == statuses(config)


def test_a_train_py_that_does_not_parse_is_named(tmp_path: Path) -> None:
    """Before anything runs: the file and what is wrong with it."""
    config = task(tmp_path, 1)
    config.mutable_path.write_text("def load_model(:\n")
    loop, _, _ = session(config, parabola, ["0.05"])
    with loop.journal, pytest.raises(ConfigError, match=r"train\.py"):
        run_session(loop)

    assert [] == statuses(config)


def test_the_folder_of_an_experiment_holds_what_it_was(tmp_path: Path) -> None:
    """train.py, the patch, prompt and reply word for word, and results.tsv in five columns."""
    config = task(tmp_path, 1)
    loop, _, _ = session(config, parabola, ["0.03"])
    with loop.journal:
        run_session(loop)

    folder = config.run_path / "0001"
    assert "+LEARNING_RATE = 0.03" in (folder / "patch.diff").read_text()
    assert "best is 0" == (folder / "prompt.txt").read_text()
    assert '"replace": "LEARNING_RATE = 0.03"' in (folder / "reply.txt").read_text()
    rows = [line.split("\t") for line in (config.run_path / "results.tsv").read_text().splitlines()]
    assert ["commit", "val_bpb", "memory_gb", "status", "description"] == rows[0]
    assert ("1.020000", "keep") == (rows[2][1], rows[2][3])
    assert 7 == len(rows[2][0])


def test_a_doubtful_best_must_survive_another_training(tmp_path: Path) -> None:
    """A jump far beyond the run's history: run twice, discarded when the second training does not confirm it."""
    config = task(tmp_path, 1)
    lucky = iter([True])

    def run(source: str) -> Trial:
        if fakes.rate_of(source) == 0.05:
            return fakes.scored(0.2 if next(lucky, False) else 1.5)
        return parabola(source)

    loop, _, runner = session(config, run, ["0.05"])
    with loop.journal:
        run_session(loop)
        doubts = loop.journal.events(ExperimentDoubted)

    assert [(0, "keep"), (1, "discard")] == statuses(config)
    assert [0.02, 0.05, 0.05] == [fakes.rate_of(source) for source in runner.ran]
    assert "far beyond" in doubts[0].event.reason
    with Journal.read(config.run_path) as journal:
        assert 1.5 == journal.experiment(1).value


def test_a_doubtful_best_that_is_confirmed_counts_with_its_worse_score(tmp_path: Path) -> None:
    """Kept, at the score that promises less."""
    config = task(tmp_path, 1)
    scores = iter([0.2, 0.3])
    loop, _, _ = session(
        config, lambda s: fakes.scored(next(scores)) if fakes.rate_of(s) == 0.05 else parabola(s), ["0.05"]
    )
    with loop.journal:
        run_session(loop)

    assert [(0, "keep"), (1, "keep")] == statuses(config)
    with Journal.read(config.run_path) as journal:
        assert 0.3 == journal.experiment(1).value


def test_a_proposer_is_told_what_the_session_s_limits_leave(tmp_path: Path) -> None:
    """Counted from where the count began, by this session's clock, whatever earlier sessions used."""
    config = task(tmp_path, 2)
    left: list[tuple[int | None, float | None]] = []
    for rates in (["0.9", "0.8"], ["0.7", "0.6"]):
        limits = config.limits.model_copy(update={"hours": 8.0})
        loop, proposer, _ = session(config.model_copy(update={"limits": limits}), parabola, rates)
        ask = proposer.ask

        def listen(context: Context, ask: Callable[[Context], Reply] = ask) -> Reply:
            left.append((context.experiments_left, context.hours_left))
            return ask(context)

        listening = replace(loop.proposals, proposer=Listening(listen, proposer))
        with loop.journal:
            run_session(replace(loop, proposals=listening))

    assert [2, 1, 2, 1] == [experiments for experiments, _ in left]
    assert all(hours is not None and 7.9 < hours <= 8.0 for _, hours in left)


@dataclass(frozen=True, slots=True)
class Listening:
    """A proposer that is listened to."""

    ask: Callable[[Context], Reply]
    proposer: fakes.ScriptedProposer
    name: str = "scripted"

    def read(self, reply: Reply) -> Proposal:
        """Parse what it answered."""
        return self.proposer.read(reply)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_train_py_keeps_its_line_ends_and_byte_order_mark(tmp_path: Path, bom: str, end: str) -> None:
    """From the baseline to the commit of a kept patch, whose diff is one line."""
    config = task(tmp_path, 1)
    before = (bom + fakes.TRAIN_PY.replace("\n", end)).encode()
    config.mutable_path.write_bytes(before)
    loop, _, runner = session(config, parabola, ["0.05"])
    with loop.journal:
        run_session(loop)

    after = before.replace(b"0.02", b"0.05")
    committed = ["git", "-C", str(tmp_path), "show", "autoresearch/t:mutable/train.py"]
    assert [before, after] == [runner.ran[0].encode(), runner.ran[-1].encode()]
    assert after == config.mutable_path.read_bytes()
    assert after == subprocess.run(committed, check=True, capture_output=True).stdout
    assert 2 == (config.run_path / "0001" / "patch.diff").read_bytes().count(b"LEARNING_RATE =")


def test_a_linked_train_py_stays_a_link(tmp_path: Path) -> None:
    """The file that it names gets the kept patch."""
    config = task(tmp_path, 1)
    target = config.mutable_path.rename(tmp_path / "mine.py")
    config.mutable_path.symlink_to("../mine.py")
    loop, _, _ = session(config, parabola, ["0.05"])
    with loop.journal:
        run_session(loop)

    assert config.mutable_path.is_symlink()
    assert "LEARNING_RATE = 0.05" in target.read_text()


def test_what_of_a_patch_was_not_taken_word_for_word_is_on_record(tmp_path: Path) -> None:
    """A search text that differs in white space, in the event and in the folder."""
    config = task(tmp_path, 1)

    class Careless(fakes.ScriptedProposer):
        def read(self, reply: Reply) -> Proposal:
            edit = Edit(search="LEARNING_RATE  = 0.02 ", replace="LEARNING_RATE = 0.05")
            return Proposal(hypothesis="blanks", edits=(edit,))

    loop = open_session(config, Careless(["0.05"]), fakes.ArithmeticRunner(parabola))
    with loop.journal:
        run_session(loop)
        notes = loop.journal.begun(1).patch_notes

    assert ["edit 1: white space of the search text differs from the file (line 3)"] == list(notes)
    assert list(notes) == json.loads((config.run_path / "0001" / "proposal.json").read_text())["notes"]
