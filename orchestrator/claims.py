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
from orchestrator.types import Candidate, Champion, Conditions, Environment, Experiment, Plan, Proposal, Reply
from orchestrator.units import SECONDS_PER_HOUR


def next_duel_trial(journal: Journal, environment: Environment, noise: Noise) -> tuple[Candidate, Plan] | None:
    """Return the trial of a duel that is due, None if none is; records where a duel begins or ends."""
    while True:
        begin_duel(journal, environment.conditions, noise)
        if (begun := find_duel(journal)) is None:
            return None
        seq, duel = begun
        trials = duel_trials(journal, seq)
        step = duels.next_step(duel, trials)
        if isinstance(step, NextTrial):
            return make_trial(journal, duel, step)
        end_duel(journal, duel, step, trials, environment)


def begin_duel(journal: Journal, conditions: Conditions, noise: Noise) -> None:
    """Record that the next duel of the session begins, if one is wanted and the session can pay for it."""
    champion = journal.champion()
    if noise.is_off or champion is None or champion.conditions != conditions or find_duel(journal) is not None:
        return
    pairs = min(count_pairs(journal, trial_seconds(champion.experiment), noise.claim_hours), duels.MOST_PAIRS)
    wanted = find_wanted(journal, champion)
    if wanted and pairs >= duels.LEAST_PAIRS:
        journal.append(DuelBegun(champion_id=wanted[0][0], rival_id=wanted[0][1], pairs=pairs))


def find_wanted(journal: Journal, champion: Champion) -> list[tuple[int, int]]:
    """Return the duels that the session has not begun yet, each of a kept experiment and its rival, in order.

    First the champion with the baseline; then each change that is in doubt, the least likely gain first, with the file
    that it was made to.
    """
    baseline, doubtful = journal.baseline(), find_doubtful(journal)
    begun = [r.event for r in journal.events(DuelBegun, after=journal.session_seq())]
    wanted = [] if baseline is None else [(champion.id, baseline.id)]
    for number in sorted(doubtful, key=lambda one: doubtful[one]):
        parent = journal.experiment(number).parent_id
        wanted += [] if parent is None else [(number, parent)]
    known = {(event.champion_id, event.rival_id) for event in begun}
    headline = bool(begun) and begun[0].rival_id == (baseline.id if baseline else None)
    new = [pair for pair in dict.fromkeys(wanted) if pair not in known and pair[0] != pair[1]]
    return [pair for pair in new if not (headline and pair == wanted[0])]  # one headline a session


def count_pairs(journal: Journal, trial_s: float, claim_hours: float) -> int:
    """Return how many pairs the session can still pay for; what it used before its last duels is paid for."""
    before = [r.event.trials for r in journal.events(DuelEnded) if r.seq < journal.session_seq()]
    since = journal.after(max((number for trials in before for number in trials), default=-1))
    device_s = sum(e.duration_s for e in since if e.proposer != DUEL)
    here = {r.event.experiment_id for r in journal.events(ExperimentBegun, after=journal.session_seq())}
    used = sum(e.proposer == DUEL for e in since if e.id in here)
    return duels.affordable_pairs(device_s, trial_s, claim_hours) - (used + 1) // 2


def find_duel(journal: Journal) -> tuple[int, Duel] | None:
    """Return the duel that has begun in this session and not ended, with the seq of its beginning."""
    begun, ended = journal.last_event(DuelBegun), journal.last_event(DuelEnded)
    if begun is None or begun.seq < max(journal.session_seq(), ended.seq if ended else 0):
        return None
    event = begun.event
    return begun.seq, Duel(champion_id=event.champion_id, rival_id=event.rival_id, most=event.pairs)


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
        )
    )


def reserved_seconds(journal: Journal, noise: Noise, hours: float) -> float:
    """Return how much of a session's hours is left to its duel; nothing while the baseline is the champion."""
    champion, baseline = journal.champion(), journal.baseline()
    if noise.is_off or champion is None or baseline is None or champion.id == baseline.id:
        return 0.0
    return min(hours * duels.CLAIM_SHARE, noise.claim_hours) * SECONDS_PER_HOUR
