"""What 1 to 10,000 slots would bring, simulated, and what the head itself can do, measured.

    python -m benchmarks.scale

Assumed: an experiment takes 340 s give or take 5 %; the LLM answers in 60 s and is asked for one idea at a time, as the
loop does, or for as many at once as there are slots; of ideas that are tried on the newest champion one in twenty is
kept, and half as many with every champion that came in between (a stale child has to beat what others found meanwhile).
Each experiment takes the head as long as measured here: to choose, record, decide and record again.
"""

import heapq
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from tests.support import fakes, sessions

EXPERIMENT_S, SPREAD = 340.0, 0.05
LLM_S = 60.0
KEEP, STALE_FACTOR = 0.05, 0.5
USD_PER_CALL = 0.05
HOURS = 8.0
SLOTS = (1, 2, 4, 8, 16, 64, 256, 1000, 4000, 10_000)
MEASURED = 150  # experiments
RATES = [f"0.{number:03d}" for number in range(1, 999)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What came of one simulated night."""

    slots: int
    done: int
    kept: int
    stale: int  # whose parent was not the champion when they ended
    idle_share: float  # of the slots' time
    head_share: float  # of the head's time that it worked


def simulate(slots: int, *, llm_s: float, askers: int, head_s: float, chance: random.Random) -> Night:
    """Simulate a night: the head serves one thing at a time, and so many ideas are asked for at once."""
    end, head_free, busy_s, head_busy_s = HOURS * 3600, 0.0, 0.0, 0.0
    answers = [0.0] * askers  # when each asker has its next idea
    free = [(0.0, slot) for slot in range(slots)]
    running: list[tuple[float, int, int]] = []  # end, slot, champions when it began
    champions = done = kept = stale = 0
    heapq.heapify(answers)
    heapq.heapify(free)
    while free or running:
        if free and (not running or max(free[0][0], answers[0], head_free) <= running[0][0]):
            ready, slot = heapq.heappop(free)
            idea = heapq.heappop(answers)
            begin = max(ready, idea, head_free)
            heapq.heappush(answers, begin + llm_s)
            if begin >= end:
                break
            head_free, head_busy_s = begin + head_s / 2, head_busy_s + head_s / 2
            took = chance.gauss(EXPERIMENT_S, SPREAD * EXPERIMENT_S)
            busy_s += min(took, end - begin)
            heapq.heappush(running, (begin + took, slot, champions))
            continue
        ended, slot, seen = heapq.heappop(running)
        ended = max(ended, head_free)
        if ended >= end:
            break
        head_free, head_busy_s = ended + head_s / 2, head_busy_s + head_s / 2
        done, stale = done + 1, stale + (seen < champions)
        if chance.random() < KEEP * STALE_FACTOR ** (champions - seen):
            champions, kept = champions + 1, kept + 1
        heapq.heappush(free, (head_free, slot))
    return Night(
        slots=slots, done=done, kept=kept, stale=stale, idle_share=max(0.0, 1 - busy_s / (slots * end)),
        head_share=min(1.0, head_busy_s / end),
    )  # fmt: skip


def measure_head() -> float:
    """Return the head's seconds per experiment: the real loop and record, with a runner that only computes."""
    with tempfile.TemporaryDirectory() as name:
        config = sessions.task(Path(name), experiments=MEASURED)
        config = config.model_copy(update={"noise": config.noise.model_copy(update={"rule": "lowest"})})
        runner = fakes.ArithmeticRunner(sessions.parabola)
        with Journal.open(config.run_path) as journal:
            session = sessions.open_session(config, fakes.ScriptedProposer(RATES), runner, journal=journal)
            began = time.monotonic()
            run_session(session)
            return (time.monotonic() - began) / len(journal.experiments())


def main() -> None:
    """Print a table for ideas that are asked for one at a time, and one for as many as there are slots."""
    head_s = measure_head()
    print(f"the head takes {1000 * head_s:.0f} ms an experiment here: {1 / head_s:.1f} a second at most")
    for title, llm_s, alone in (
        ("an LLM asked for one idea at a time", LLM_S, True),
        ("an LLM asked for as many at once as there are slots", LLM_S, False),
        ("no LLM: sweep", 0.0, True),
    ):
        print(f"\n{title}, {HOURS:g} h\n slots  experiments  kept  idle %  stale %  head busy %  $ per kept")
        for slots in SLOTS:
            chance = random.Random(slots)  # noqa: S311  # no secret
            night = simulate(slots, llm_s=llm_s, askers=1 if alone else slots, head_s=head_s, chance=chance)
            price = f"{USD_PER_CALL * night.done / night.kept:.2f}" if night.kept and llm_s else "-"
            print(
                f"{slots:6d} {night.done:12d} {night.kept:5d} {100 * night.idle_share:7.1f}"
                f" {100 * night.stale / max(1, night.done):8.1f} {100 * night.head_share:12.1f} {price:>11}"
            )


if __name__ == "__main__":
    main()
