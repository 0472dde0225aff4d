"""The sweep in the real loop: deterministic, resumable, never the same point twice."""

import json
import subprocess
from pathlib import Path

import pytest

from orchestrator.config import Config, load
from orchestrator.errors import PatchRejected, ProposerUnavailable
from orchestrator.loop import run_session
from orchestrator.propose import tunables as kn
from orchestrator.propose.sweep import SweepProposer
from orchestrator.types import Context, Reply, Spent, Status, Trial
from tests.support import fakes
from tests.support.journals import champion, kept
from tests.support.sessions import open_session

ROOT = Path(__file__).parents[2]
TRAIN_PY = fakes.TRAIN_PY.replace(
    "LEARNING_RATE = 0.02\n", "LEARNING_RATE = 0.02\nDEPTH = 2\nBATCH = 64\nBIAS = True\n"
)


def bowl(source: str) -> Trial:
    """Best at a learning rate of 0.05 and a depth of 4; deep nets crash."""
    values = {name: float(knob.value) for name, knob in kn.find_tunables(source, "cpu").items()}
    if values["DEPTH"] > 6:
        return fakes.broken(Status.CRASH)
    return fakes.scored(1 + abs(values["LEARNING_RATE"] - 0.05) * 10 + abs(values["DEPTH"] - 4) / 10)


def config_for(tmp_path: Path, experiments: int, train_py: str = TRAIN_PY) -> Config:
    """A task directory under git."""
    (tmp_path / "mutable").mkdir(parents=True, exist_ok=True)
    (tmp_path / "mutable" / "train.py").write_text(train_py)
    (tmp_path / "task.toml").write_text((ROOT / "task.toml").read_text())
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    return load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", "limits.experiments": experiments})


def run(config: Config, seed: int = 0) -> list[tuple[str, str, float | None]]:
    """One session of the real loop; a fresh proposer, as after a restart."""
    loop = open_session(config, SweepProposer(profile="cpu", seed=seed), fakes.ArithmeticRunner(bowl))
    with loop.journal:
        run_session(loop)
        return [(e.status.value, e.hypothesis, e.value) for e in loop.journal.experiments()]


def context(folder: Path, source: str, **changes: object) -> Context:
    """What the loop tells a proposer after the baseline."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(source)
    best = champion(1.0, folder=folder)
    values = {
        "experiment_id": 1,
        "champion": best,
        "champion_source": source,
        "history": [best.experiment],
        "spent": Spent(),
    }
    return Context(**(values | changes))  # type: ignore[arg-type]


def test_a_sweep_finds_better_constants_and_repeats_nothing(tmp_path: Path) -> None:
    """Thirty experiments bring the score down; every hypothesis is new and says what changes."""
    told = run(config_for(tmp_path, 30))
    scores = [bpb for _, _, bpb in told if bpb is not None]
    sources = {(tmp_path / "runs" / "t" / f"{i:04d}" / "train.py").read_text() for i in range(31)}

    assert 31 == len(told) == len(sources)
    assert min(scores) < scores[0] - 0.2
    assert "crash" in {status for status, _, _ in told}
    assert all(" → " in hypothesis for _, hypothesis, _ in told[1:])
    assert all(hypothesis.count("→") <= 3 for _, hypothesis, _ in told[1:])


def test_a_session_in_two_parts_goes_the_way_of_one(tmp_path: Path) -> None:
    """State is what the journal tells: five and then five more are the same ten; another seed differs."""
    whole = run(config_for(tmp_path / "a", 14))
    run(config_for(tmp_path / "b", 7))
    (tmp_path / "c").mkdir()

    parts = run(load(tmp_path / "b", {"tag": "t", "runs": tmp_path / "b" / "runs", "limits.experiments": 7}))
    assert whole == parts
    assert whole != run(config_for(tmp_path / "c", 14), seed=1)


def test_a_proposal_in_flight_is_not_made_again(tmp_path: Path) -> None:
    """Asked ahead with the same history, the sweep names another point."""
    proposer = SweepProposer(profile="cpu")
    first = proposer.read(proposer.ask(context(tmp_path / "0000", TRAIN_PY)))
    second = proposer.read(proposer.ask(context(tmp_path / "0000", TRAIN_PY, in_flight=(first.hypothesis,))))

    assert first.hypothesis != second.hypothesis


def test_when_everything_near_was_tried_it_says_so(tmp_path: Path) -> None:
    """One bool has one other value; after that there is nothing left."""
    source = fakes.TRAIN_PY.replace("LEARNING_RATE = 0.02\n", "BIAS = True\n").replace('"trained", LEARNING_RATE', '""')
    begun = context(tmp_path / "0000", source)
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "train.py").write_text(source.replace("True", "False"))
    other = kept(1.1, id=1, status=Status.DISCARD, folder=tmp_path / "0001")

    assert "BIAS True → False" == SweepProposer(profile="cpu").read(SweepProposer(profile="cpu").ask(begun)).hypothesis
    with pytest.raises(ProposerUnavailable, match="BIAS"):
        SweepProposer(profile="cpu").ask(context(tmp_path / "0000", source, history=[begun.champion.experiment, other]))


def test_a_file_without_constants_cannot_be_swept(tmp_path: Path) -> None:
    """One line that says what to use instead."""
    with pytest.raises(ProposerUnavailable, match="--proposer claude"):
        SweepProposer(profile="cpu").ask(context(tmp_path / "0000", "x = 1\n"))


def test_a_broken_reply_is_refused() -> None:
    """What is not JSON of this shape is a refused patch, never a crash of the loop."""
    for text in ("", "[]", '{"hypothesis": 1}', json.dumps({"hypothesis": "", "expected_effect": "", "edits": [1]})):
        with pytest.raises(PatchRejected, match="not a reply of the sweep"):
            SweepProposer(profile="cpu").read(Reply(proposer="sweep", model="", prompt="", text=text))
