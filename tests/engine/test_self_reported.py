"""L0: an unmodified upstream-style script, whose own number is shown for what it is."""

import shutil
import subprocess
from pathlib import Path
from textwrap import indent

import pytest

from orchestrator.host.adopt import SKELETON, adopt_checkout
from orchestrator.shipped import KERNELS_SHIM
from orchestrator.types import Level, Status
from tests.engine.test_session import ROOT, containers, ends, loop, status, task

__all__ = ["task"]  # a fixture
pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]
SCRIPT = ROOT / "tests/scripts/upstream_style.py"


def adopt(task: Path, train: str) -> None:
    """Make the task one of a checkout with this train.py, as `autoresearch new --from` does."""
    folder = task / "checkout"
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(train)
    (folder / "prepare.py").write_text("MAX_SEQ_LEN = 128\n")
    (folder / "program.md").write_text("# Research\n\nLower val_bpb.\n")
    adopt_checkout(folder, task, KERNELS_SHIM)


def filled(script: str) -> str:
    """The script as the skeleton asks for it: what trains is under a main guard, its evaluation gone."""
    head, training = script.split("model = Bigram().to(device)\n")
    training = f"model = Bigram().to(device)\n{training.partition('model.eval()')[0]}"
    training = training.replace("total_training_time < TIME_BUDGET / 2", "prepare.time_left() > 2")
    training = training.replace(
        'make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")', "prepare.dataloader(BATCH, MAX_SEQ_LEN)"
    )
    head = head.replace(", evaluate_bpb, make_dataloader", "")
    skeleton = SKELETON.replace("MODEL_CLASS(CONFIG)", "Bigram()")
    before, after = skeleton.split("    # EVERYTHING THAT TRAINS")
    body = indent(training.replace("x, y, epoch = ", "x, y = "), "    ")
    return f"{head}\n\n{before}{body}{after.partition(chr(10))[2]}"


def test_a_checkout_that_was_filled_in_is_scored_at_l2(task: Path, unique: str) -> None:
    """With nothing but what the skeleton says."""
    adopt(task, filled(SCRIPT.read_text()))
    ends(loop(task, unique, "--hours", "0.0001"))
    (found,) = status(task, unique)["experiments"]

    assert (Status.KEEP, Level.L2) == (found["status"], found["score"]["level"])
    assert 2.0 < found["val_bpb"] < 8.0


def test_an_upstream_script_runs_as_it_is_and_every_view_says_l0(task: Path, unique: str) -> None:
    """Its number, at L0, in status, in the commit, in results.tsv, in the events; and no predictor or scorer ran."""
    adopt(task, SCRIPT.read_text())
    flags = ("--scoring", "self-reported", "--experiments", "1", "--proposer", "sweep")
    output = ends(loop(task, unique, *flags))
    found = status(task, unique)["experiments"]

    assert 2.0 < found[0]["val_bpb"] < 8.0
    assert {Level.L0} == {e["score"]["level"] for e in found if e["score"]}
    assert "val_bpb (L0, self-reported), experiment" in output
    assert "trust=L0" in output
    folder = task / "runs" / unique
    assert all("(L0, self-reported)" in line for line in (folder / "results.tsv").read_text().splitlines()[1:])
    commit = ["git", "-C", str(task), "log", "--format=%B", f"autoresearch/{unique}"]
    assert "(L0, self-reported)" in subprocess.run(commit, check=True, capture_output=True, text=True).stdout
    assert not list(folder.rglob("predictor-*")) + list(folder.rglob("scorer*"))
    assert [] == containers(unique)


def test_l0_and_audited_scores_never_share_a_run(task: Path, unique: str) -> None:
    """The second kind is refused with what to do; and audited, a script that only reports is no candidate."""
    shutil.copy(SCRIPT, task / "mutable/train.py")
    path = task / "mutable/train.py"
    path.write_text('RATE = 0.5\nprint("val_bpb:          0.990000")\n')
    ends(loop(task, unique, "--scoring", "self-reported", "--hours", "0.0001"))
    output = ends(loop(task, unique, "--hours", "0.0001"), 1)

    assert f"run {unique} has scores at L0" in output
    assert "load_model" in ends(loop(task, f"{unique}b", "--hours", "0.0001"), 1)
