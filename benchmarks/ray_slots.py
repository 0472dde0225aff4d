"""What a cluster is worth: experiments per hour on eight slots against one, and what the way to another host costs.

    python -m benchmarks.ray_slots

The real loop, a real Ray cluster in network namespaces, and slots that only wait: nothing but the loop, the driver and
Ray is measured. The overhead is that of one experiment on a slot, against the same runner in the loop's own process.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from orchestrator.config import Config
from orchestrator.events import ExperimentFinished
from orchestrator.loop import run_session
from orchestrator.protocols import Runner
from orchestrator.record.journal import Journal
from tests.support import fakes, sessions
from tests.support.ray_cluster import stand_in_cluster
from tests.support.stand_in_slot import PausingRunner, parabola

PAUSE_S = 5.0  # of a stand-in experiment; real ones take 25 to 300
SHORT_S = 0.2
EACH = 16  # experiments per slot
RATES = [f"0.{number:03d}" for number in range(1, 400)]


def rate(slots: tuple[int, ...], experiments: int, pause_s: float) -> float:
    """Return experiments per hour on a cluster with hosts of so many slots, its baseline left out."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        config = sessions.task(Path(name), experiments=experiments).model_copy(update={"parallel": sum(slots)})
        cluster = stack.enter_context(stand_in_cluster(Path(name), slots=slots, pause_s=pause_s))
        journal = stack.enter_context(Journal.open(config.run_path))
        runners = cluster.runners(config, journal.append)
        for runner in runners:
            runner.ready()
        return measure(config, journal, runners)


def local_rate(experiments: int, pause_s: float) -> float:
    """Return the same of the runner in the loop's own process."""
    with tempfile.TemporaryDirectory() as name:
        config = sessions.task(Path(name), experiments=experiments)
        runner = PausingRunner(parabola, pause_s=pause_s)
        with Journal.open(config.run_path) as journal:
            return measure(config, journal, (runner,))


def measure(config: Config, journal: Journal, runners: tuple[Runner, ...]) -> float:
    """Run a session; experiments per hour after the baseline."""
    config = config.model_copy(update={"noise": config.noise.model_copy(update={"rule": "lowest"})})
    ended = list[float]()

    def note(finished: object) -> None:
        if isinstance(finished, ExperimentFinished):
            ended.append(time.monotonic())

    journal.subscribe(lambda recorded: note(recorded.event))
    run_session(sessions.open_session(config, fakes.ScriptedProposer(RATES), *runners, journal=journal))
    return 3600 * (len(ended) - 1) / (ended[-1] - ended[0])


def main() -> None:
    """Print the ratio and the overhead."""
    one = rate((1,), EACH, PAUSE_S)
    eight = rate((4, 4), 8 * EACH, PAUSE_S)
    print(f"experiments of {PAUSE_S:g} s an hour: 1 slot {one:.0f}, 8 slots {eight:.0f}, {eight / one:.2f} times")
    here, there = local_rate(40, SHORT_S), rate((1,), 40, SHORT_S)
    each_s, far_s = 3600 / here, 3600 / there
    print(f"one of {SHORT_S:g} s: {each_s:.3f} s here, {far_s:.3f} s on a slot: {1000 * (far_s - each_s):.0f} ms more")


if __name__ == "__main__":
    main()
