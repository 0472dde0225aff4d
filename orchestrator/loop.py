"""The whole loop: propose, run, judge, record, keep, until a limit or an interrupt."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from orchestrator import classes, files, patch, policy
from orchestrator.claims import continue_duel, has_idle_duel, next_duel_trial
from orchestrator.errors import BudgetExhausted, ConfigError, PatchRejected
from orchestrator.events import ChampionReplaced, CountOffset, ExperimentCommitted, SeedsRevealed
from orchestrator.execution.pool import Pool, SlotReady, TrialEnded
from orchestrator.experiments import (
    begin_experiment,
    finish_experiment,
    keep_experiment,
    reload_candidate,
    repeat_trial,
)
from orchestrator.lifecycle import end_session, interrupt_session, limit_reached, recover, remaining
from orchestrator.policy import Decision, Rerun
from orchestrator.proposals import InFlight, read_source
from orchestrator.protocols import Runner
from orchestrator.record import anchors
from orchestrator.record.experiment_dir import source_path
from orchestrator.record.journal import DUEL
from orchestrator.removals import next_removal
from orchestrator.session import ActiveExperiment, Session
from orchestrator.types import (
    QUEUED_AGAIN,
    Candidate,
    Champion,
    Environment,
    Experiment,
    Plan,
    Proposal,
    Reply,
    Status,
    Trial,
    Verdict,
)


def run_session(session: Session) -> str:
    """Run experiments until a limit is met or an interrupt; return why it ended. Raises AutoresearchError."""
    offset, exhausted = recover(session), ""
    with Pool(session.runners) as pool:
        while True:
            stop = exhausted or limit_reached(session, offset, pool.active)
            try:
                if stop and not pool.active and not start_duel(session, pool):
                    return end_session(session, stop, limit_reached=True)
                wants_slot, late_in_s = not stop and may_start(session, pool.active), session.proposals.late_in_s
                suits = partial(classes.may_run_on, session, pool)
                match pool.next_event(wants_slot=wants_slot, within_s=late_in_s, suits=suits):
                    case SlotReady(runner=runner):
                        start_next(session, pool, runner, offset)
                    case TrialEnded(active=active, trial=trial):
                        conclude(session, pool, active, trial)
            except BudgetExhausted as error:
                exhausted = str(error)
            except KeyboardInterrupt:
                return interrupt_session(session, pool.stop())


def start_duel(session: Session, pool: Pool) -> bool:
    """Start the next trial of the session's duel, all on one device; return whether one is due."""
    journal = session.journal
    due = next_duel_trial(journal, session.environment, session.config.noise)
    if due is None:
        return False
    candidate, plan = due
    runner = pool.wait_for_last(lambda one: classes.class_of(one) == session.environment.hardware)
    pool.start(begin_experiment(journal, candidate, runner, journal.champion(), plan))
    return True


def may_start(session: Session, active: Sequence[ActiveExperiment]) -> bool:
    """Return whether the next choice can be made now, or must wait for an active experiment or a pending proposal."""
    champion, asker = session.journal.champion(), session.proposals.prefetcher
    comparable = champion is not None and champion.conditions == session.environment.conditions
    return not active or (comparable and (not asker.is_asking or (asker.is_late and may_duel(session, active))))


def may_duel(session: Session, active: Sequence[ActiveExperiment]) -> bool:
    """Return whether a trial of a duel can run on an idle device; one at a time does."""
    is_alone = all(one.candidate.reply.proposer != DUEL for one in active)
    return is_alone and has_idle_duel(session.journal, session.environment, session.config.noise)


def start_next(session: Session, pool: Pool, runner: Runner, offset: CountOffset) -> None:
    """Choose what to run next and start it on a free runner; ask for the idea after it."""
    here = classes.find_environment(session, runner)
    champion, parent = classes.find_champion(session.journal, here)
    try:
        with pool.lend_idle():
            candidate, plan = choose_next(session, pool.active, offset, here)
    except PatchRejected as refusal:
        record_invalid(session, champion, parent, runner, str(refusal))
        return
    if pool.is_fresh(runner):  # the answer may have taken hours
        pool.start(begin_experiment(session.journal, candidate, runner, champion, plan))
        if (asks_for := classes.find_next(session, pool)) is not None:
            parent, environment = asks_for
            beside = [one for one in pool.active if one.environment.hardware == environment.hardware]
            left = remaining(session, offset, pool.active)
            session.proposals.ask_ahead(parent, environment, left, in_flight(beside), then=pool.wake)


def choose_next(
    session: Session, active: Sequence[ActiveExperiment], offset: CountOffset, environment: Environment
) -> tuple[Candidate, Plan | None]:
    """Return an attempt that is due, the baseline, the champion once more or without a change, or a new idea.

    While the answer with that is late: the trial of a duel, with a plan of its own. Where the champion is not known
    under the conditions of a slot nothing else is due: it could be compared with nothing. An attempt that is due waits
    for its class of hardware. Raises PatchRejected when no reply led to a patch that applies.
    """
    journal = session.journal
    champion, parent = classes.find_champion(journal, environment)
    retried = {one.candidate.retry_of for one in active}
    comparable = champion is None or champion.conditions == environment.conditions
    others = {classes.class_of(one) for one in session.runners} - {"", environment.hardware}
    for due in journal.queued():
        if due.id not in retried and (comparable or due.remeasures_id is not None) and due.hardware not in others:
            return replace(reload_candidate(journal, due.id), attempt=due.attempt + 1, retry_of=due.id), None
    if champion is None or parent is None:
        return make_baseline(session), None
    here = [one for one in active if one.environment.hardware == environment.hardware]
    is_alone = all(one.candidate.remeasures_id is None for one in here)
    if is_alone and is_remeasurement_due(session, champion, environment):
        return remeasure(champion, champion.conditions.describe_change(environment.conditions)), None
    if not journal.history().is_away(environment.hardware):  # what is claimed is claimed of the run's own class
        if removal := next_removal(journal, session.proposals, champion, in_flight(active)):
            return removal, None
        if session.proposals.prefetcher.wait_until_late() and may_duel(session, active):
            trial = next_duel_trial(journal, environment, session.config.noise, idle=True)
            if trial is not None:
                return trial
    left = remaining(session, offset, active)
    return session.proposals.next_candidate(parent, environment, left, in_flight(here)), None


def in_flight(active: Sequence[ActiveExperiment]) -> list[InFlight]:
    """Return what runs now, as far as a proposal depends on it."""
    candidates = [(one.id, one.candidate) for one in active]
    return [
        InFlight(id=number, hypothesis=c.proposal.hypothesis, source=c.source, removes_id=c.removes_id)
        for number, c in candidates
    ]


def make_baseline(session: Session) -> Candidate:
    """Return the empty patch: train.py as the user left it. Raises ConfigError."""
    path, proposals = session.branch.path, session.proposals
    if session.journal.events(ExperimentCommitted):
        raise ConfigError(
            "every kept experiment was invalidated: their common ancestor cheated when it was measured again"
            f" (see `autoresearch status`); look at {path}, then start another run with --run NAME"
        )
    try:
        source = files.read_text(path)
        patch.check(source, proposals.rules, contract=proposals.needs_contract, python=proposals.is_python)
    except (OSError, UnicodeDecodeError, PatchRejected) as error:
        raise ConfigError(f"{path}: cannot be the baseline: {error}") from error
    idea, reply = Proposal(hypothesis=f"baseline: {proposals.file_name} as it is"), Reply(proposer="baseline")
    return Candidate(
        proposal=idea, source=source, parent_id=None, parent_source=source, reply=reply, suffix=proposals.suffix
    )


def is_remeasurement_due(session: Session, champion: Champion, environment: Environment) -> bool:
    """Return whether the champion is to be measured again. Raises ConfigError if it cannot run on this hardware."""
    now = environment.conditions
    last = session.journal.last_remeasurement(champion.id, now)
    if champion.conditions != now and last and last.status not in QUEUED_AGAIN:
        raise ConfigError(
            f"experiment {champion.id}, the best, ended as {last.status} under today's conditions"
            f" ({champion.conditions.describe_change(now)}); restore them, or start another run with --run NAME"
        )
    return policy.is_remeasurement_due(champion, now)


def remeasure(champion: Champion, why: str) -> Candidate:
    """Return the champion as a candidate, to be measured again."""
    source = read_source(champion.experiment)
    return Candidate(
        proposal=Proposal(hypothesis=f"experiment {champion.id} again, with another seed: {why}"),
        source=source,
        parent_id=champion.id,
        parent_source=source,
        reply=Reply(proposer="remeasure"),
        remeasures_id=champion.id,
        suffix=source_path(champion.experiment.folder).suffix,
    )


def conclude(session: Session, pool: Pool, active: ActiveExperiment, trial: Trial) -> None:
    """Judge what a trial brought: start the next trial of the experiment, or record its verdict and keep it."""
    journal, plan = session.journal, active.plan
    journal.append(SeedsRevealed(experiment_id=active.id, train_seed=plan.train_seed, audit_seed=plan.audit_seed.hex()))
    match policy.next_step(active.attempt_with(trial), journal.history(), session.rules):
        case Rerun() as rerun:
            pool.start(repeat_trial(journal, active, trial, rerun))
        case Decision() as decision:
            pool.release(active)
            before = journal.parent()
            experiment = finish_experiment(journal, active, decision)
            anchors.anchor_head(session.config.anchor_path, journal)
            keep_or_go_back(session, experiment, before)
            require_baseline_score(session, experiment)
            if experiment.proposer == DUEL and (half := continue_duel(journal, active.environment)):
                pool.start(begin_experiment(journal, half[0], active.runner, journal.champion(), half[1]))


def keep_or_go_back(session: Session, experiment: Experiment, before: Champion | None) -> None:
    """Keep this one, or go back to an earlier one if what the next proposal would begin with did not hold."""
    journal, parent = session.journal, session.journal.parent()
    if is_away := journal.history().is_away(experiment.hardware):
        classes.note_start(journal, experiment)
    if experiment.status is Status.KEEP:
        if not is_away:  # the branch follows the run's own class
            keep_experiment(journal, session.branch, experiment)
    elif before is not None and parent is not None and parent.id != before.id:
        journal.append(ChampionReplaced(experiment_id=before.id, champion_id=parent.id, value=parent.value))
        keep_experiment(journal, session.branch, journal.experiment(parent.id))


def require_baseline_score(session: Session, experiment: Experiment) -> None:
    """Raise ConfigError if there is nothing to compare with: the baseline has no score."""
    if session.journal.champion() is None and experiment.is_judged:
        why = f"{experiment.status}: {experiment.reason}"
        raise ConfigError(f"the baseline itself has no score ({why}): fix {session.branch.path}")


def record_invalid(
    session: Session, champion: Champion | None, parent: Champion | None, runner: Runner, reason: str
) -> None:
    """Record an idea whose patch was refused until the attempts were used up; nothing ran."""
    source = read_source(parent.experiment) if parent else ""
    candidate = Candidate(
        proposal=Proposal(hypothesis=f"refused: {reason.splitlines()[0]}"),
        source=source,
        parent_id=parent.id if parent else None,
        parent_source=source,
        reply=session.journal.last_reply(),
        suffix=session.proposals.suffix,
    )
    active = begin_experiment(session.journal, candidate, runner, champion)
    trial = Trial(executions=(), score=None, failure=Status.INVALID, message=reason)
    verdict = Verdict(status=Status.INVALID, reason=reason)
    finish_experiment(session.journal, active, Decision(trial=trial, verdict=verdict))
