"""Whole files from a folder as the proposer: their order, what is said of them, and bad ones."""

from pathlib import Path

import pytest

from orchestrator import propose
from orchestrator.errors import BudgetExhausted, ConfigError, PatchRejected
from orchestrator.patch import MAX_SOURCE_BYTES
from orchestrator.propose.drafts import DraftsProposer
from orchestrator.record.journal import Journal
from orchestrator.types import Status
from tests.propose import test_ask, test_night
from tests.propose.test_claude import context
from tests.support import fakes
from tests.support.fake_messages_api import FakeMessagesApi


def drawer(tmp_path: Path, **texts: str | bytes) -> DraftsProposer:
    folder = tmp_path / "drafts"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    return DraftsProposer.open(tmp_path, ".py")


def rate(value: float) -> str:
    return f'"""A rate of {value}."""\n' + fakes.TRAIN_PY.replace("RATE = 0.02", f"RATE = {value}")


def test_drafts_are_proposed_by_name_until_none_is_left(tmp_path: Path) -> None:
    """Two sessions go on where the first ended; a draft added in between is taken; other files are not drafts."""
    config = test_ask.task(tmp_path, 2)
    proposer = drawer(tmp_path, a=rate(0.5), b=rate(0.01), c=rate(0.3))
    (tmp_path / "drafts" / "notes.txt").write_text("no draft")
    test_ask.run(config, proposer, lambda source: fakes.scored(fakes.rate_of(source)))
    drawer(tmp_path, d=rate(0.005))
    test_ask.run(config, proposer, lambda source: fakes.scored(fakes.rate_of(source)))

    with Journal.read(config.run_path) as journal:
        found = [e for e in journal.experiments() if e.parent_id is not None]

        assert ["a: A rate of 0.5.", "b: A rate of 0.01.", "c: A rate of 0.3.", "d: A rate of 0.005."] == [
            e.hypothesis for e in found
        ]
        assert [Status.DISCARD, Status.KEEP, Status.DISCARD, Status.KEEP] == [e.status for e in found]


def test_the_last_draft_ends_the_session(tmp_path: Path) -> None:
    """One line says that all were proposed."""
    proposer = drawer(tmp_path, a=rate(0.5))
    reply = proposer.ask(context())

    with pytest.raises(BudgetExhausted, match=r"all 1 draft of .*/drafts were proposed"):
        proposer.ask(context(rejected=((reply, "why"),)))


def test_a_draft_that_runs_is_not_proposed_again(tmp_path: Path) -> None:
    """Side by side the next one is taken."""
    proposer = drawer(tmp_path, a=rate(0.5), b=rate(0.01))
    first = proposer.read(proposer.ask(context()))

    assert "b.py" == proposer.ask(context(in_flight=(first.hypothesis,))).model


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a" * 10_000_000, rf"a\.py: 10000000 bytes, at most {MAX_SOURCE_BYTES}"),
        (b"\xff", r"a\.py: cannot be read: 'utf-8'"),
    ],
)
def test_a_draft_that_cannot_be_read_is_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    """The reply is stored first, as any other, and stays small; the next draft comes after it."""
    proposer = drawer(tmp_path, a=data, b=rate(0.01))
    reply = proposer.ask(context())

    assert len(reply.text) < 1000
    with pytest.raises(PatchRejected, match=problem):
        proposer.read(reply)
    assert "b.py" == proposer.ask(context(rejected=((reply, "why"),))).model


def test_a_task_without_drafts_cannot_use_them(tmp_path: Path) -> None:
    """Named before a device is leased; no folder and an empty one alike."""
    with pytest.raises(ConfigError, match=r"drafts: no \.py file there"):
        DraftsProposer.open(tmp_path, ".py")
    (tmp_path / "drafts").mkdir()
    with pytest.raises(ConfigError, match=r"drafts: no \.py file there"):
        DraftsProposer.open(tmp_path, ".py")


def test_a_task_with_drafts_uses_them_where_there_is_no_key(tmp_path: Path) -> None:
    """A key, a named proposer or a run to replay win."""
    (tmp_path / "drafts").mkdir()
    with FakeMessagesApi() as api:
        config = test_night.task(tmp_path, api, proposer=None)

    assert "drafts" == propose.choose_proposer(config, {}).proposer
    assert "claude" == propose.choose_proposer(config, {"ANTHROPIC_API_KEY": "k"}).proposer
