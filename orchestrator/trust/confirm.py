"""L3: what a kept train.py is worth with other seeds, on text that no experiment was ever scored on.

The val score of a kept experiment is the best of many, so chance and over-fitting to the val text flatter it. The
baseline was not selected. So both are trained again and scored on the holdout: the part of the gain that is left there
is real, and the difference is the optimism of the val score. No proposer is ever told: the holdout must not select
ideas.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator import policy
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.events import ConfirmationBegun, ConfirmationFailed, ExperimentConfirmed, SeedsRevealed
from orchestrator.execution.slot import Slot
from orchestrator.experiments import require_same_inputs
from orchestrator.proposals import read_source
from orchestrator.record import experiment_dir
from orchestrator.record.confirmations import HoldoutScores, list_confirmations, value_of
from orchestrator.record.journal import Journal
from orchestrator.trust.retrain import run_alone
from orchestrator.types import Conditions, Experiment, Level, Plan, Status, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A kept experiment next to the baseline, on both texts."""

    kept: HoldoutScores
    baseline: HoldoutScores
    sign: int = 1  # -1 where the higher score is better

    @property
    def is_baseline(self) -> bool:
        """Return whether there is nothing to compare with."""
        return self.kept.experiment_id == self.baseline.experiment_id

    @property
    def gains(self) -> tuple[float, float]:
        """Return the gain over the baseline: on val, and on the holdout."""
        on_val, on_holdout = self.baseline.value - self.kept.value, self.baseline.mean - self.kept.mean
        return self.sign * on_val, self.sign * on_holdout

    @property
    def optimism(self) -> float:
        """Return by how much the val score was too good; unknown for the baseline."""
        on_val, on_holdout = self.gains
        return on_val - on_holdout

    @property
    def standard_error(self) -> float:
        """Return the standard error of the gain on the holdout."""
        return math.hypot(self.kept.standard_error, self.baseline.standard_error)


def confirm_experiment(
    journal: Journal, slot: Slot, experiment_id: int, seeds: int, on_progress: Callable[[str], None]
) -> Confirmation:
    """Retrain a kept experiment and the baseline, unless that was confirmed here before, and record both.

    Raises ConfigError for one that is not kept, SandboxError if a trial of it has no score.
    """
    kept, baseline = journal.experiment(experiment_id), journal.baseline()
    if kept.status is not Status.KEEP or baseline is None:
        raise ConfigError(f"experiment {experiment_id} ended as {kept.status}; only a kept one can be confirmed")
    if kept.score is not None and kept.score.level is Level.L0:
        raise ConfigError(
            f"experiment {experiment_id} is at L0, and so would be its score on the holdout; run it audited first"
        )
    environment = slot.environment()
    require_same_inputs(journal, environment)
    if kept.id == baseline.id:
        scores = _retrain(journal, slot, kept, seeds, on_progress)
        return Confirmation(kept=scores, baseline=scores)
    before = find_confirmation(journal, baseline, environment.conditions, seeds)
    return Confirmation(
        baseline=before or _retrain(journal, slot, baseline, seeds, on_progress),
        kept=_retrain(journal, slot, kept, seeds, on_progress),
        sign=kept.sign,
    )


def find_confirmation(
    journal: Journal, experiment: Experiment, conditions: Conditions, seeds: int
) -> HoldoutScores | None:
    """Return an earlier confirmation under the same conditions with at least so many seeds; None if there is none."""
    found = [one for one in list_confirmations(journal, experiment, conditions) if len(one.holdout) >= seeds]
    return found[-1] if found else None


def _retrain(
    journal: Journal, slot: Slot, experiment: Experiment, seeds: int, on_progress: Callable[[str], None]
) -> HoldoutScores:
    home = journal.folder / "confirm" / f"{experiment.id:04d}-{journal.head()[:8]}"
    experiment_dir.make_folder(home)
    source, trials, plans = read_source(experiment), list[Trial](), list[Plan]()

    def draw() -> Plan:
        plan = Plan.draw()
        plans.append(plan)
        journal.append(ConfirmationBegun(experiment_id=experiment.id, seeds=plan.commitment))
        return plan

    for number in range(1, seeds + 1):
        trials.append(run_alone(slot, source, home / f"trial-{number}", draw))
        if (score := trials[-1].score) is None:
            break
        on_progress(f"experiment {experiment.id}, trial {number} of {seeds}: {score.value:.6f} on the holdout")
    for plan in plans:
        journal.append(
            SeedsRevealed(experiment_id=experiment.id, train_seed=plan.train_seed, audit_seed=plan.audit_seed.hex())
        )
    return _record(journal, slot, experiment, trials, home)


def _record(journal: Journal, slot: Slot, experiment: Experiment, trials: list[Trial], home: Path) -> HoldoutScores:
    """Record what the trials brought. Raises SandboxError if the last one has no score."""
    scores = tuple(trial.score for trial in trials if trial.score)
    folder, hashes = home.relative_to(journal.folder).as_posix(), experiment_dir.hashes(home)
    environment, last = slot.environment(), trials[-1]
    if last.score is not None:
        holdout = tuple(score.value for score in scores)
        journal.append(
            ExperimentConfirmed(
                experiment_id=experiment.id, value=experiment.value, holdout=holdout, scores=scores,
                checkpoints=tuple(trial.checkpoint_sha256 for trial in trials), folder=folder, files=hashes,
                environment=environment,
            )
        )  # fmt: skip
        return HoldoutScores(experiment_id=experiment.id, value=value_of(experiment), holdout=holdout)
    cheated = last.failure is Status.CHEAT
    revisions = policy.invalidate(experiment.id, journal.kept(), "on the holdout") if cheated else ()
    journal.append(
        ConfirmationFailed(
            experiment_id=experiment.id, failure=last.failure or Status.INFRA, message=last.message, scores=scores,
            folder=folder, files=hashes, environment=environment, revisions=revisions,
        )
    )  # fmt: skip
    experiment_dir.write_results(journal.folder, journal.experiments(), journal.metric())
    consequence = "; it is not kept any more, nor is what descends from it" if cheated else ""
    raise SandboxError(
        f"experiment {experiment.id} has no score on the holdout: {last.failure}: {last.message}{consequence}"
    )


def describe_confirmation(found: Confirmation) -> list[str]:
    """Return the report, for a terminal."""
    rows = [f"{'':16}{'val':>10}{'holdout':>12}"]
    for name, scores in ((f"experiment {found.kept.experiment_id}", found.kept), ("baseline", found.baseline)):
        rows.append(f"{name:16}{scores.value:10.6f}{scores.mean:12.6f} ± {scores.standard_error:.6f}")
    if found.is_baseline:
        note = "this is the baseline: nothing was selected on val yet, so there is no optimism to report"
        return [*rows[:2], f"level: L3; {note}"]
    on_val, on_holdout = found.gains
    verdict = "holds" if on_holdout > policy.STANDARD_ERRORS * found.standard_error else "is not shown to hold"
    return [
        *rows,
        f"{'gain':16}{on_val:10.6f}{on_holdout:12.6f} ± {found.standard_error:.6f}, which {verdict}",
        f"level: L3; the val score was optimistic by {found.optimism:+.6f}",
    ]
