"""Processors that others use, too: a trial that had to wait for them is not judged, unless that is usual there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from orchestrator.compose import remember_usual_load
from orchestrator.devices.contention import ContentionMonitor, Ours, Then, UsualLoad
from orchestrator.devices.lease import Lease
from orchestrator.devices.load import Sample
from orchestrator.events import ConditionsChanged, Event
from orchestrator.execution.slot import Slot
from orchestrator.loop import run_session
from orchestrator.record.journal import Journal
from orchestrator.types import MachineLoad, Status, Trial
from tests.devices.test_gpu_slot import run
from tests.devices.test_lease import four_cores
from tests.support import fakes, sessions

TRAINED_S = 20.0


def trained(others: float, failure: Status | None = None) -> Trial:
    """A trial during which others used a share of two processors, for which its two threads wait."""
    waited_s = 2 * TRAINED_S * others
    trainer = fakes.execution(duration_s=TRAINED_S, cpu_s=2 * TRAINED_S - waited_s, waited_s=waited_s)
    return replace(fakes.scored(2.0) if failure is None else fakes.broken(failure), executions=(trainer,))


@contextmanager
def slot(
    tmp_path: Path, ends: Sequence[tuple[float, Status | None]], record: Callable[[Event], object]
) -> Iterator[Slot]:
    """A slot on which trials end as given: what others used, and how."""
    left, samples = iter(ends), list[Sample]()

    def end(_: str) -> Trial:
        others, failure = next(left)
        samples[:] = [Sample(from_s=0.0, to_s=TRAINED_S, others_cpu_s=2 * TRAINED_S * others)]
        return trained(others, failure)

    def watch(leased: Lease, ours: Ours, then: Then) -> ContentionMonitor:
        return ContentionMonitor(str, interval_s=60, then=then, samples=samples, cpus=[0, 1])

    with Slot(
        policy=four_cores(tmp_path / "machine"), wait_s=1, make=lambda _: fakes.ArithmeticRunner(end),
        on_wait=lambda _: None, watch=watch, back_off_s=0.001, record=record,
    ) as made:  # fmt: skip
        yield made


def test_a_busy_hour_is_waited_for_and_a_busy_machine_is_not(tmp_path: Path) -> None:
    """The third trial in a row beside others is judged, and it is recorded that this is usual now."""
    recorded: list[Event] = []
    shares = [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    with slot(tmp_path, [(share, None) for share in shares], recorded.append) as leased:
        ended = [run(leased, tmp_path / f"{n}") for n in range(len(shares))]

    assert [False] * 5 + [True] * 3 + [False] == [bool(trial.contended_by) for trial in ended]
    assert "the training waited 50% of its time, usually 0%" in ended[5].contended_by
    assert [ConditionsChanged(others_share=0.5, wait_share=0.5)] == recorded
    assert 0.5 == (ended[5].load or MachineLoad()).others_share


def test_a_crash_beside_others_is_contended_but_teaches_nothing(tmp_path: Path) -> None:
    """A training that ended early says little about the machine."""
    ends = [(0.0, None), *[(0.5, Status.CRASH)] * 3]
    with slot(tmp_path, ends, lambda _: None) as leased:
        ended = [run(leased, tmp_path / f"{n}") for n in range(len(ends))]

    assert [False, True, True, True] == [bool(trial.contended_by) for trial in ended]
    assert 1 == len(leased.usual.recent)


def test_a_session_goes_on_with_what_was_usual(tmp_path: Path) -> None:
    """Of the run's last trials, from the record, with what was told last."""
    config = sessions.task(tmp_path, 1)
    load = MachineLoad(cpus=2, duration_s=10.0, waited_s=4.0, cpu_s=6.0, others_cpu_s=10.0)
    session, _, _ = sessions.session(config, lambda _: fakes.scored(2.0, load=load), ["0.03"])
    with session.journal:
        run_session(session)
    with Journal.open(config.run_path) as journal, slot(tmp_path, [], lambda _: None) as leased:
        journal.append(ConditionsChanged(others_share=0.5, wait_share=0.4))
        remember_usual_load(leased, journal)

    assert UsualLoad(recent=leased.usual.recent, told=0.5) == leased.usual
    assert (0.5, 0.4) == (leased.usual.usual_others(), leased.usual.usual_wait())
