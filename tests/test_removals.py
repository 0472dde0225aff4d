"""A change in which a duel found no gain is taken out of the best file, once, and judged as any other."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import duels, policy
from orchestrator.config import Config, load
from orchestrator.events import DuelEnded
from orchestrator.look.lineage import lineage_tree
from orchestrator.loop import run_session
from orchestrator.record import claims
from orchestrator.record.journal import DUEL, REMOVAL, Journal
from orchestrator.removals import take_out
from orchestrator.types import Context, DuelOutcome, Edit, Experiment, Proposal, Reply, Status, Trial
from tests.support import fakes, sessions

TRAIN_PY = fakes.TRAIN_PY.replace("def load_model", "DEPTH = 4\nHEADS = 2\nWIDTH = 1\n\n\ndef load_model")


@pytest.fixture(autouse=True)
def _short_duels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of two trials can pay for duels of four pairs."""
    monkeypatch.setattr(duels, "CLAIM_SHARE", 0.99)
    monkeypatch.setattr(duels, "MOST_PAIRS", 4)


# ---- the file


def test_a_change_is_taken_out_of_its_descendant() -> None:
    """What came later stays, before it and after it, and where lines have moved."""
    before = [f"{n}\n" for n in range(12)]
    changed = [*before[:5], "five\n", "more\n", *before[7:]]
    best = ["first\n", *changed[:2], *changed[3:10], "ten\n", *changed[11:], "last\n"]
    wanted = ["first\n", *before[:2], *before[3:10], "ten\n", *before[11:], "last\n"]

    assert "".join(wanted) == take_out("".join(changed), "".join(before), "".join(best))
    assert "".join(before) == take_out("".join(changed), "".join(before), "".join(changed))


@pytest.mark.parametrize("line", [4, 5, 6, 7])
def test_a_change_stays_where_a_later_one_touches_it(line: int) -> None:
    """In its own lines, or in the one next to them."""
    before = [f"{n}\n" for n in range(12)]
    changed = [*before[:5], "five\n", "six\n", *before[7:]]
    best = [*changed]
    best[line] = "other\n"

    assert take_out("".join(changed), "".join(before), "".join(best)) is None


def test_changes_that_do_not_touch_come_out_in_any_order() -> None:
    """Of many files: two changes apart, then without the first, is the second alone."""
    chance = random.Random(3)  # noqa: S311  # no secret
    for _ in range(200):
        before = [f"{n} {chance.randrange(3)}\n" for n in range(30)]
        first, second = chance.sample(range(0, 30, 4), 2)
        changed = [f"a{n}\n" if n == first else line for n, line in enumerate(before)]
        best = [f"b{n}\n" if n == second else line for n, line in enumerate(changed)]
        alone = [f"b{n}\n" if n == second else line for n, line in enumerate(before)]

        assert "".join(alone) == take_out("".join(changed), "".join(before), "".join(best))


# ---- in the loop


@dataclass(slots=True)
class EditingProposer:
    """Sets one constant after the other."""

    edits: list[tuple[str, str]]
    name: str = "scripted"
    asked: int = 0

    def ask(self, context: Context) -> Reply:
        """The next one, on whatever is best."""
        name, value = self.edits[self.asked % len(self.edits)]
        self.asked += 1
        old = next(line for line in context.champion_source.splitlines() if line.startswith(name))
        text = json.dumps({"search": old, "replace": f"{name} = {value}"})
        return Reply(proposer=self.name, model="script", text=text, parent_id=context.champion.id)

    def read(self, reply: Reply) -> Proposal:
        """Say which."""
        edit = Edit(**json.loads(reply.text))
        return Proposal(hypothesis=edit.replace, edits=(edit,), retry_rationale="a test")


def value_of(source: str, name: str) -> float:
    """Return a constant of a source."""
    return float(next(line for line in source.splitlines() if line.startswith(name)).split("=")[1])


def lucky(worse: float) -> Callable[[str], Trial]:
    """Return a score: a rate of 0.03 is worse by so much, but its first trial says otherwise; WIDTH = 2 gains 0.2."""
    seen = Counter[str]()

    def score(source: str) -> Trial:
        seen[source] += 1
        rate, width = value_of(source, "LEARNING_RATE"), value_of(source, "WIDTH")
        cost = 2.0 - (0.2 if width == 2 else 0.0) + (worse if rate == 0.03 else 0.0)
        if rate == 0.03 and seen[source] == 1:
            cost -= worse + 0.006
        return fakes.scored(cost + 0.002 * (seen[source] % 3 - 1))

    return score


def config_for(tmp_path: Path, experiments: int) -> Config:
    """A task with two constants."""
    sessions.task(tmp_path)
    (tmp_path / "mutable" / "train.py").write_text(TRAIN_PY)
    flags = {"noise.rule": "estimate", "limits.experiments": experiments, "prefetch": 0}
    return load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", **flags})


def go_on(config: Config, edits: list[tuple[str, str]], score: Callable[[str], Trial]) -> list[Experiment]:
    """Run a session, and return its experiments but those of duels."""
    session = sessions.open_session(config, EditingProposer(edits), fakes.ArithmeticRunner(score))
    with session.journal as journal:
        first = journal.next_id()
        run_session(session)
        return [e for e in journal.experiments() if e.id >= first and e.proposer != DUEL]


def refute(config: Config, number: int, rival: int) -> None:
    """Record a duel that found a change to be worse."""
    with Journal.open(config.run_path) as journal:
        refuted = DuelEnded(
            champion_id=number, rival_id=rival, outcome=DuelOutcome.REFUTED, reason="", mean=-0.05, low=-0.06,
            high=-0.01, pairs=4, trials=(), environment=journal.begun(0).environment,
        )  # fmt: skip
        journal.append(refuted)


def test_a_refuted_change_is_taken_out_by_the_next_session(tmp_path: Path) -> None:
    """First of all, once; it is kept for what it gains, and no view names the change any more."""
    score, config = lucky(0.05), config_for(tmp_path, 2)
    first = go_on(config, [("LEARNING_RATE", "0.03"), ("WIDTH", "2")], score)
    refute(config, 1, 0)
    with Journal.read(config.run_path) as journal:
        before, doubtful, told = claims.find_refuted(journal), claims.find_doubtful(journal), claims.describe(journal)
        tree = "".join(str(branch.label) for branch in lineage_tree(journal).children[0].children)
    second = go_on(config_for(tmp_path, 2), [("DEPTH", "5"), ("HEADS", "3")], score)
    with Journal.read(config.run_path) as journal:
        best, after = journal.champion(), claims.find_refuted(journal)
    third = go_on(config_for(tmp_path, 1), [("HEADS", "4")], score)

    assert [Status.KEEP] * 3 == [e.status for e in first]
    assert ({1: -0.05}, True) == (before, 1 not in doubtful)
    wanted = "no gain by a duel with the file it was made to: experiment 1 (-0.05 val_bpb; to be tried without it)"
    assert wanted in told
    assert "no gain by a duel" in tree
    assert [(REMOVAL, 1), ("scripted", None)] == [(e.proposer, e.removes_id) for e in second]
    assert Status.KEEP is second[0].status
    assert TRAIN_PY.replace("WIDTH = 1", "WIDTH = 2") == (second[0].folder / "train.py").read_text()
    assert best is not None
    assert best.id >= second[0].id
    assert {} == after
    assert [None] == [e.removes_id for e in third]


def test_a_removal_that_gains_nothing_is_discarded_and_said(tmp_path: Path) -> None:
    """The change stays, every view says what came of it, and it is not tried again."""
    score, config = lucky(-0.05), config_for(tmp_path, 2)
    go_on(config, [("LEARNING_RATE", "0.03"), ("WIDTH", "2")], score)
    refute(config, 1, 0)  # though it is better
    second = go_on(config_for(tmp_path, 1), [("DEPTH", "5")], score)
    with Journal.read(config.run_path) as journal:
        told = claims.describe_refuted(journal)
    third = go_on(config_for(tmp_path, 1), [("DEPTH", "5")], score)

    assert [(1, Status.DISCARD)] == [(e.removes_id, e.status) for e in second]
    assert f"(-0.05 val_bpb; tried without it: discard, experiment {second[0].id})" in told
    assert [None] == [e.removes_id for e in third]


@pytest.mark.parametrize(
    ("outcome", "mean", "expected"),
    [
        (DuelOutcome.REFUTED, -0.1, True),
        (DuelOutcome.NOT_SHOWN, -0.1, True),
        (DuelOutcome.NOT_SHOWN, 0.1, False),
        (DuelOutcome.SHOWN, 0.1, False),
    ],
)
def test_a_duel_that_is_open_on_the_good_side_refutes_nothing(
    outcome: DuelOutcome, mean: float, expected: bool
) -> None:
    """Only one that is lost, or that found no gain at all."""
    assert expected == policy.is_refuted(outcome, mean)


def test_a_change_that_cannot_be_taken_out_is_noted(tmp_path: Path) -> None:
    """Later ones are to the same line; the session goes on with ideas."""

    def score(source: str) -> Trial:
        return fakes.scored(value_of(source, "LEARNING_RATE"))

    config = config_for(tmp_path, 2)
    go_on(config, [("LEARNING_RATE", "0.01"), ("LEARNING_RATE", "0.001")], score)
    refute(config, 1, 0)
    more = go_on(config_for(tmp_path, 1), [("WIDTH", "3")], score)
    with Journal.read(config.run_path) as journal:
        notes = journal.notes()

    assert ["scripted"] == [e.proposer for e in more]
    wanted = "experiment 1, in which a duel found no gain, stays in the best file: later changes are to the same lines"
    assert [wanted] == [note for note in notes if "experiment 1" in note]
