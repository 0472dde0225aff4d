"""`make aa` in short, through real containers, on a task that trains for seconds."""

from pathlib import Path

import pytest

from orchestrator import compose
from orchestrator.config import load
from orchestrator.host.source import IN_IMAGE
from orchestrator.record.journal import Journal
from orchestrator.walls.engine import Engine
from tests.soak import aa
from tests.soak.aa import Gain, Patches

ROOT = Path(__file__).parents[2]
GAIN = Gain(constant="LEARNING_RATE", worse="0.00001", shipped="0.003", worth=1.0)
BUDGETS = {"time_budget_s": 10.0, "grace_s": 6.0, "score_budget_s": 60.0}  # short, and patient with a busy machine
pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_a_planted_gain_is_found_and_each_trial_has_its_load(tmp_path: Path, unique: str) -> None:
    """Before a null patch; what the host saw of the machine is on record beside every score."""
    task = aa.make_task(tmp_path, [GAIN], ROOT / "examples" / "code-size")
    data = task / "locked" / "make_data.py"
    data.write_text(data.read_text().replace("30_000", "3_000"))
    flags: dict[str, object] = {"tag": unique, "runs": task / "runs", "profile_name": "cpu", "proposer": "sweep"}
    flags |= {"limits.experiments": 0, "contention.max_extra_wait_share": 1.0}
    config = load(task, {**flags, **{f"profile.cpu.{name}": seconds for name, seconds in BUDGETS.items()}})
    engine = Engine.connect()
    try:
        compose.prepare_data(config, IN_IMAGE, engine, print)
        counts = aa.run(config, Patches(plan=[GAIN, None]))
    finally:
        engine.reap()
    with Journal.read(config.run_path) as journal:
        experiments = journal.experiments()

    assert (1, 1, 1) == (counts.nulls, counts.planted, counts.found)
    loads = [load for e in experiments for load in e.loads]
    assert len(loads) == sum(len(e.scores) for e in experiments)
    for seen in loads:
        assert seen is not None
        assert seen.cpus == 2
        assert seen.cpu_s is not None
        assert seen.waited_s is not None
        assert seen.others_cpu_s is not None
        assert seen.pace_before is not None
