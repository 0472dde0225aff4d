"""The whole loop: propose -> apply -> run -> judge -> record -> keep, until a limit or Ctrl-C."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from orchestrator import ask, limits, measure, turn
from orchestrator.config import Config
from orchestrator.errors import BudgetExhausted, ConfigError, PatchRejected
from orchestrator.journal import Journal
from orchestrator.keep import Keeper
from orchestrator.propose.prefetch import Ahead
from orchestrator.types import Proposer, Runner, Status, View

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a session works with; put together in cli.py."""

    config: Config
    journal: Journal
    proposer: Proposer
    runner: Runner
    keeper: Keeper
    view: View
    ahead: Ahead = field(default_factory=Ahead)
    ready: Callable[[], bool] = lambda: False  # waits until an experiment may start; says whether it had to
    started: float = field(default_factory=time.monotonic)


def run_session(session: Session) -> str:  # noqa: C901  # the whole loop, to be read at once
    """Run experiments until a limit is met or an interrupt; returns why it ended. Raises AutoresearchError."""
    journal, config = session.journal, session.config
    base = turn.recover(session)
    while True:
        spent = journal.spent()
        reason = limits.reached(config.limits, base.since(spent), time.monotonic() - session.started)
        if reason is not None:
            return turn.end(session, reason, limit=True)
        if limits.gave_up(config.limits, spent):
            raise turn.gave_up(session, spent)
        best = journal.best()
        try:
            if session.ready():
                continue  # time has passed: is a limit met?
            candidate = turn.next_candidate(session, best, spent)
        except PatchRejected as refusal:
            turn.record_invalid(session, str(refusal))
            continue
        except BudgetExhausted as exhausted:
            return turn.end(session, str(exhausted), limit=True)
        except KeyboardInterrupt:
            return turn.end(session, "interrupted")
        running = turn.begin(session, candidate)
        session.view.begun(running.id, candidate)
        ask.ask_ahead(session, best, candidate.proposal.hypothesis, base.since(spent))
        try:
            trial, verdict = turn.run(session, running, best)
        except KeyboardInterrupt:
            turn.finish(session, running, turn.failed("interrupted: run again at the next start"), None)
            return turn.end(session, "interrupted")
        experiment = turn.finish(session, running, trial, verdict)
        if verdict.status is Status.KEEP:
            turn.keep(session, experiment, candidate)
        elif (better := measure.settle(session, best)) is not None:
            turn.keep(session, better, turn.reread(session, better.id))
        log.info("experiment.finished", experiment_id=experiment.id, status=verdict.status.value,
                 val_bpb=experiment.val_bpb, rule=verdict.rule, head=journal.head())  # fmt: skip
        session.view.finished(experiment, journal.best(), journal.spent())
        if journal.best() is None and verdict.status not in (Status.INFRA, Status.CONTENDED):
            message = f"the baseline itself has no score ({verdict.status}: {verdict.rule}); mend {session.keeper.path}"
            raise ConfigError(message)
