"""Duels in the loop: which is due, its next trial, and its end on record. duels.py says what follows from what."""

import secrets
from collections.abc import Sequence

from orchestrator import duels
from orchestrator.duels import Duel, NextTrial, Result
from orchestrator.events import DuelBegun, DuelEnded, ExperimentBegun
from orchestrator.proposals import read_source
from orchestrator.record.claims import find_doubtful
from orchestrator.record.journal import DUEL, Journal
from orchestrator.settings import Noise
from orchestrator.types import (
    Candidate,
    Champion,
    Conditions,
    DuelOutcome,
    Environment,
    Experiment,
    Plan,
    Proposal,
    Reply,
)
from orchestrator.units import SECONDS_PER_HOUR


def next_duel_trial(
    journal: Journal, environment: Environment, noise: Noise, *, idle: bool = False
) -> tuple[Candidate, Plan] | None:
    """Return the trial of a duel that is due, None if none is; records where a duel begins or ends.

    At the end of a session, which is not `idle`, a duel that was begun in idle time gives way to the champion's.
    """
    while True:
        if (begun := find_duel(journal)) is None:
            begin = plan_duel(journal, environment.conditions, noise, idle=idle)
            if begin is None:
                return None
            journal.append(begin)
            continue
        seq, duel = begun
        trials = duel_trials(journal, seq)
        step = duels.next_step(duel, trials)
        if isinstance(step, NextTrial) and duel.idle and not idle:
            step = Result(outcome=DuelOutcome.UNFINISHED, reason="the session ended before its last pair")
        if isinstance(step, NextTrial):
            return make_trial(journal, duel, step)
        end_duel(journal, duel, step, trials, environment)


def continue_duel(journal: Journal, environment: Environment) -> tuple[Candidate, Plan] | None:
    """Return the second trial of the pair that a duel is in, None if no pair is open; records where a duel ends."""
    if (begun := find_duel(journal)) is None:
        return None
    seq, duel = begun
    trials = duel_trials(journal, seq)
    step = duels.next_step(duel, trials)
    if isinstance(step, Result):
        end_duel(journal, duel, step, trials, environment)
        return None
    return None if step.source_id is None else make_trial(journal, duel, step)


def has_idle_duel(journal: Journal, environment: Environment, noise: Noise) -> bool:
    """Return whether a duel is open, or can begin in idle time."""
    return find_duel(journal) is not None or plan_duel(journal, environment.conditions, noise, idle=True) is not None


def plan_duel(journal: Journal, conditions: Conditions, noise: Noise, *, idle: bool) -> DuelBegun | None:
    """Return the next duel of the session, None if none is wanted or the session cannot pay for it."""
    champion = journal.champion()
    if noise.is_off or champion is None or champion.conditions != conditions:
        return None
    trial_s = trial_seconds(champion.experiment)
    pairs = min(count_pairs(journal, trial_s, noise.claim_hours, idle=idle), duels.MOST_PAIRS)
    if pairs < duels.LEAST_PAIRS:
        return None
    wanted = find_wanted(journal, champion, idle=idle)
    return DuelBegun(champion_id=wanted[0][0], rival_id=wanted[0][1], pairs=pairs, idle=idle) if wanted else None


def find_wanted(journal: Journal, champion: Champion, *, idle: bool = False) -> list[tuple[int, int]]:
    """Return the duels that the session has not had yet, each of a kept experiment and its rival, in order.

    First the champion with the baseline, once, and at the end of the session only; then each change that is in doubt,
    the least likely gain first, with the file that it was made to.
    """
    baseline, doubtful = journal.baseline(), find_doubtful(journal)
    ended = [r.event for r in journal.events(DuelEnded, after=journal.session_seq())]
    finished = {(event.champion_id, event.rival_id) for event in ended if event.outcome is not DuelOutcome.UNFINISHED}
    has_headline = any(baseline is not None and not one.idle and one.rival_id == baseline.id for one in ended)
    headline = [] if idle or has_headline or baseline is None else [(champion.id, baseline.id)]
    parents = {number: journal.experiment(number).parent_id for number in sorted(doubtful, key=lambda n: doubtful[n])}
    wanted = headline + [(number, parent) for number, parent in parents.items() if parent is not None]
    return [pair for pair in dict.fromkeys(wanted) if pair not in finished and pair[0] != pair[1]]


def count_pairs(journal: Journal, trial_s: float, claim_hours: float, *, idle: bool = False) -> int:
    """Return how many pairs the session can still pay for; what it used before its last duels is paid for.

    Duels at its end and duels in idle time have a share each, and the latter at most half of `claim_hours`.
    """
    begins, ended = journal.session_seq(), journal.events(DuelEnded)
    paid = [number for r in ended if r.seq < begins and not r.event.idle for number in r.event.trials]
    device_s = journal.device_seconds(after=max(paid, default=-1), without=DUEL)
    used = {
        way: sum(len(r.event.trials) for r in ended if r.seq > begins and r.event.idle is way) for way in (False, True)
    }
    allowed = duels.pairs_within(claim_hours * SECONDS_PER_HOUR, trial_s)
    left = allowed / 2 - (used[True] + 1) // 2 if idle else allowed - (used[False] + used[True] + 1) // 2
    return min(duels.affordable_pairs(device_s, trial_s, claim_hours) - (used[idle] + 1) // 2, int(left))


def find_duel(journal: Journal) -> tuple[int, Duel] | None:
    """Return the duel that has begun in this session and not ended, with the seq of its beginning."""
    begun, ended = journal.last_event(DuelBegun), journal.last_event(DuelEnded)
    if begun is None or begun.seq < max(journal.session_seq(), ended.seq if ended else 0):
        return None
    event = begun.event
    duel = Duel(champion_id=event.champion_id, rival_id=event.rival_id, most=event.pairs, idle=event.idle)
    return begun.seq, duel


def trial_seconds(experiment: Experiment) -> float:
    """Return the device time of one trial."""
    return experiment.duration_s / max(1, len(experiment.scores))


def duel_trials(journal: Journal, begun: int) -> list[Experiment]:
    """Return the finished trials of the duel that began with a seq, in order."""
    after = journal.events(ExperimentBegun, after=begun)
    return journal.find([r.event.experiment_id for r in after if r.event.reply.proposer == DUEL])


def make_trial(journal: Journal, duel: Duel, due: NextTrial) -> tuple[Candidate, Plan]:
    """Return a trial of a duel with fresh seeds; both trials of a pair train with the same one."""
    source_id = due.source_id
    if source_id is None:
        source_id = secrets.choice((duel.champion_id, duel.rival_id))
    plan = Plan.draw()
    if due.seed_of is not None:
        plan = Plan(train_seed=journal.begun(due.seed_of).seeds.train_seed, audit_seed=plan.audit_seed)
    source = read_source(journal.experiment(source_id))
    idea = f"duel of experiment {duel.champion_id} with {duel.rival_id}: experiment {source_id}"
    candidate = Candidate(
        proposal=Proposal(hypothesis=idea), source=source, parent_id=source_id, parent_source=source,
        reply=Reply(proposer=DUEL), remeasures_id=source_id,
    )  # fmt: skip
    return candidate, plan


def end_duel(
    journal: Journal, duel: Duel, result: Result, trials: Sequence[Experiment], environment: Environment
) -> None:
    """Record how a duel ended."""
    found = result.interval
    journal.append(
        DuelEnded(
            champion_id=duel.champion_id,
            rival_id=duel.rival_id,
            outcome=result.outcome,
            reason=result.reason,
            mean=found.mean if found else None,
            low=found.low if found else None,
            high=found.high if found else None,
            pairs=found.pairs if found else 0,
            trials=tuple(one.id for one in trials),
            environment=environment,
            idle=duel.idle,
        )
    )


def reserved_seconds(journal: Journal, noise: Noise, hours: float) -> float:
    """Return how much of a session's hours is left to its duel; nothing while the baseline is the champion."""
    champion, baseline = journal.champion(), journal.baseline()
    if noise.is_off or champion is None or baseline is None or champion.id == baseline.id:
        return 0.0
    return min(hours * duels.CLAIM_SHARE, noise.claim_hours) * SECONDS_PER_HOUR
