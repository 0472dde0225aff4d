"""The whole loop: propose -> apply -> run -> judge -> record -> keep, until a limit or Ctrl-C."""

import structlog

from orchestrator import ask, bounds, measure, turn
from orchestrator.errors import BudgetExhausted, PatchRejected
from orchestrator.executors.local import Crew
from orchestrator.session import Running, Session
from orchestrator.types import Status

log = structlog.get_logger()


def run_session(session: Session) -> str:  # noqa: C901  # the whole loop, to be read at once
    """Run experiments until a limit is met or an interrupt; returns why it ended. Raises AutoresearchError."""
    journal, view = session.journal, session.view
    base, exhausted = bounds.recover(session), ""
    with Crew((session.runner, *session.beside), session.ready) as crew:
        while True:
            best, spent = journal.best(), journal.spent()
            reason = exhausted or bounds.limit(session, base, crew.at_work)
            if reason and not crew.at_work:
                return bounds.end(session, reason, limit=True)
            try:
                if not reason and not turn.must_wait(session, best, crew.at_work) and (runner := crew.free()):
                    candidate = turn.next_candidate(session, best, spent, crew.at_work)
                    running = turn.begin(session, candidate, runner, best)
                    view.begun(running.id, candidate)
                    crew.start(running)
                    ask.ask_ahead(session, best, crew.at_work, base.since(spent), then=crew.wake)
                    continue
                ended = crew.first() if crew.at_work else None
            except PatchRejected as refusal:
                turn.record_invalid(session, str(refusal))
                continue
            except BudgetExhausted as error:
                exhausted = str(error)
                continue
            except KeyboardInterrupt:
                return bounds.interrupt(session, crew)
            if ended is None:
                continue
            running, trial = ended
            outcome = turn.judged(session, running, trial, best)  # the best of now, not of when it began
            if isinstance(outcome, Running):
                crew.start(outcome)
                continue
            crew.done(running)
            experiment = turn.finish(session, running, *outcome)
            if experiment.status is Status.KEEP:
                turn.keep(session, experiment, running.candidate)
            elif (better := measure.settle(session, best)) is not None:
                turn.keep(session, better, turn.reread(session, better.id))
            log.info("experiment.finished", experiment_id=experiment.id, status=experiment.status.value,
                     val_bpb=experiment.val_bpb, rule=experiment.rule, trust=experiment.level,
                     head=journal.head())  # fmt: skip
            view.finished(experiment, journal.best(), journal.spent())
            turn.check(session, experiment)
