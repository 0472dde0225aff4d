"""A duel on request: is a kept experiment better than the baseline? Outside a session, by the same rule, on record."""

from collections.abc import Callable

from orchestrator import duels, policy
from orchestrator.claims import duel_trials, end_duel, make_trial
from orchestrator.duels import Duel, NextTrial
from orchestrator.errors import ConfigError
from orchestrator.events import DuelBegun, SeedsRevealed
from orchestrator.execution.pool import run_trial
from orchestrator.execution.slot import Slot
from orchestrator.experiments import begin_experiment, fail_experiment, finish_experiment
from orchestrator.policy import Decision, Rules
from orchestrator.record.journal import Journal
from orchestrator.types import Status


def run_duel(journal: Journal, slot: Slot, rules: Rules, duel: Duel, on_progress: Callable[[str], None]) -> None:
    """Run and record a duel. Raises ConfigError for one that is not kept, SandboxError if the device is lost."""
    require_kept(journal, duel)
    begun = journal.append(DuelBegun(champion_id=duel.champion_id, rival_id=duel.rival_id, pairs=duel.most))
    while isinstance(step := duels.next_step(duel, trials := duel_trials(journal, begun.seq)), NextTrial):
        candidate, plan = make_trial(journal, duel, step)
        while slot.ready():
            pass  # it took a while: may it still start?
        active = begin_experiment(journal, candidate, slot, journal.champion(), plan)
        try:
            trial = run_trial(active)
        except KeyboardInterrupt:
            slot.stop()
            fail_experiment(journal, active, "interrupted; the duel has no result", interrupted=True)
            raise
        seeds = SeedsRevealed(experiment_id=active.id, train_seed=plan.train_seed, audit_seed=plan.audit_seed.hex())
        journal.append(seeds)
        decision = policy.next_step(active.attempt_with(trial), journal.history(), rules)
        if isinstance(decision, Decision):  # a trial of a kept experiment is never repeated
            ended = finish_experiment(journal, active, decision)
            score = "no score" if ended.value is None else f"{ended.value:.6f}"
            on_progress(f"trial {len(trials) + 1}: experiment {candidate.remeasures_id}: {ended.status}, {score}")
    end_duel(journal, duel, step, trials, slot.environment())


def require_kept(journal: Journal, duel: Duel) -> None:
    """Raise ConfigError if there is nothing to claim."""
    experiment = journal.experiment(duel.champion_id)
    if experiment.status is not Status.KEEP:
        raise ConfigError(
            f"experiment {experiment.id} ended as {experiment.status}; only a kept one has a gain to claim"
        )
    if experiment.id == duel.rival_id:
        raise ConfigError(f"experiment {experiment.id} is the baseline: there is no gain to claim")
