"""L3: what a kept train.py is worth with other seeds, on text that no experiment was ever scored on.

The val score of a kept experiment is the lowest of many, so chance and over-fitting to the val text made it look better
than it is. The baseline was not picked. So both are trained anew and scored on the holdout: what of the gain over the
baseline is left there is real, and the difference is by how much the val score was optimistic. Nothing of it is ever
told to a proposer: a holdout that ideas are chosen by is none.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from orchestrator import measure
from orchestrator.ask import source_of
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.execution.slot import Slot
from orchestrator.record import experiment_dir
from orchestrator.record.confirmations import KIND, Runs, confirmations, val_bpb
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, Level, Plan, Status, Trial, conditions_of

FAILED = "experiment.not_confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A kept experiment beside the baseline, on both texts."""

    kept: Runs
    baseline: Runs

    @property
    def is_baseline(self) -> bool:
        """Whether there is nothing to compare it with."""
        return self.kept.experiment_id == self.baseline.experiment_id

    @property
    def gains(self) -> tuple[float, float]:
        """What it gains over the baseline: on val, and on the holdout."""
        return (
            self.baseline.value - self.kept.value,
            self.baseline.holdout_bpb - self.kept.holdout_bpb,
        )

    @property
    def optimism(self) -> float:
        """By how much the val score was too good, in bpb; for the baseline it is not known."""
        on_val, on_holdout = self.gains
        return on_val - on_holdout

    @property
    def standard_error(self) -> float:
        """Of the gain on the holdout."""
        return math.hypot(self.kept.standard_error, self.baseline.standard_error)


def confirm(journal: Journal, slot: Slot, experiment_id: int, seeds: int, told: Callable[[str], None]) -> Confirmation:
    """Retrain a kept experiment and the baseline, unless that was confirmed here before, and record both.

    Raises ConfigError for one that is not kept, SandboxError where a run of it has no score.
    """
    kept = journal.experiment(experiment_id)
    if kept.status is not Status.KEEP or kept.value is None:
        raise ConfigError(f"experiment {experiment_id} ended as {kept.status}; only a kept one can be confirmed")
    if kept.score is not None and kept.score.level is Level.L0:
        raise ConfigError(
            f"experiment {experiment_id} is at L0, and so would be its score on the holdout; run it audited first"
        )
    measure.refuse_changed(journal, slot.facts())
    baseline = journal.experiments("status = ?", Status.KEEP, limit=1)[0]
    if kept.id == baseline.id:
        runs = _run(journal, slot, kept, seeds, told)
        return Confirmation(kept=runs, baseline=runs)
    before = known(journal, baseline, slot.facts(), seeds) or _run(journal, slot, baseline, seeds, told)
    return Confirmation(kept=_run(journal, slot, kept, seeds, told), baseline=before)


def known(journal: Journal, experiment: Experiment, facts: dict[str, str], seeds: int) -> Runs | None:
    """What an earlier confirmation under the same conditions, with at least so many seeds, has found."""
    found = [runs for runs in confirmations(journal, experiment, conditions_of(facts)) if len(runs.holdout) >= seeds]
    return found[-1] if found else None


def _run(journal: Journal, slot: Slot, experiment: Experiment, seeds: int, told: Callable[[str], None]) -> Runs:
    home = journal.folder / "confirm" / f"{experiment.id:04d}-{journal.head()[:8]}"
    experiment_dir.make_folder(home)
    source, trials, plans = source_of(experiment), [], []

    def planned() -> Plan:
        plans.append(measure.new_plan())
        journal.note("experiment.confirming", measure.committed(plans[-1]), experiment.id)
        return plans[-1]

    for number in range(1, seeds + 1):
        trial = measure.alone(slot, source, home / f"run-{number}", planned)
        trials.append(trial)
        if trial.score is None:
            break
        told(f"experiment {experiment.id}, run {number} of {seeds}: {trial.score.value:.6f} on the holdout")
    for plan in plans:
        journal.note("seeds.revealed", measure.revealed(plan), experiment.id)
    holdout = tuple(trial.score.value for trial in trials if trial.score)
    where = {"folder": home.relative_to(journal.folder).as_posix(), "files": experiment_dir.hashes(home)}
    body = {**_record(trials), **where, "val_bpb": val_bpb(experiment), "holdout": holdout, "facts": slot.facts()}
    if trials[-1].score is None:
        _not_confirmed(journal, experiment, trials[-1], body)
    journal.note(KIND, {**body, "level": Level.L3}, experiment.id)
    return Runs(experiment_id=experiment.id, value=val_bpb(experiment), holdout=holdout)


def _not_confirmed(journal: Journal, experiment: Experiment, trial: Trial, body: dict[str, Any]) -> NoReturn:
    """Record what came in the way, and raise SandboxError; one that cheated is no best any more."""
    journal.note(FAILED, {**body, "failure": trial.failure, "message": trial.message}, experiment.id)
    experiment_dir.write_results(journal.folder, journal.experiments())
    fell = "; it is kept no more, nor is what was made from it" if trial.failure is Status.CHEAT else ""
    raise SandboxError(
        f"experiment {experiment.id} has no score on the holdout: {trial.failure}: {trial.message}{fell}"
    )


def _record(trials: list[Trial]) -> dict[str, Any]:
    scores = [asdict(trial.score) for trial in trials if trial.score]
    return {"scores": scores, "checkpoints": [trial.checkpoint_sha256 for trial in trials]}


def lines(found: Confirmation) -> list[str]:
    """The report, for a terminal."""
    rows = [f"{'':16}{'val':>10}{'holdout':>12}"]
    for name, runs in ((f"experiment {found.kept.experiment_id}", found.kept), ("baseline", found.baseline)):
        rows.append(f"{name:16}{runs.value:10.6f}{runs.holdout_bpb:12.6f} ± {runs.standard_error:.6f}")
    if found.is_baseline:
        return [*rows[:2], "level: L3; nothing was picked by its val score yet, so there is no optimism to tell"]
    on_val, on_holdout = found.gains
    verdict = "holds" if on_holdout > 2 * found.standard_error else "is not shown to hold"
    return [
        *rows,
        f"{'gain':16}{on_val:10.6f}{on_holdout:12.6f} ± {found.standard_error:.6f}, which {verdict}",
        f"level: L3; the val score was optimistic by {found.optimism:+.6f} bpb",
    ]
