"""The whole loop: propose -> apply -> run -> judge -> record -> keep, until a limit or Ctrl-C."""

from orchestrator import ask, bounds, turn
from orchestrator.errors import BudgetExhausted
from orchestrator.executors.local import Crew
from orchestrator.session import Running, Session


def run_session(session: Session) -> str:
    """Run experiments until a limit is met or an interrupt; returns why it ended. Raises AutoresearchError."""
    journal, base, exhausted = session.journal, bounds.recover(session), ""
    with Crew(session.runners, session.ready) as crew:
        while True:
            best, ended = journal.best(), None
            reason = exhausted or bounds.limit(session, base, crew.at_work)
            if reason and not crew.at_work:
                return bounds.end(session, reason, limit=True)
            try:
                if not reason and not turn.must_wait(session, best, crew.at_work) and (runner := crew.free()):
                    candidate = turn.propose(session, best, crew.at_work)
                    if candidate is not None and crew.is_fresh(runner):  # the answer may have taken hours
                        crew.start(turn.begin(session, candidate, runner, best))
                        ask.ask_ahead(session, best, crew.at_work, base.since(journal.spent()), then=crew.wake)
                else:
                    ended = crew.first()
            except BudgetExhausted as error:
                exhausted = str(error)
            except KeyboardInterrupt:
                return bounds.interrupt(session, crew)
            if ended is None:
                continue
            running, trial = ended
            match turn.judged(session, running, trial, best):  # the best of now, not of when it began
                case Running() as once_more:
                    crew.start(once_more)
                case trial, verdict:
                    crew.done(running)
                    experiment = turn.finish(session, running, trial, verdict)
                    turn.keep_best(session, experiment, running.candidate, before=best)
                    turn.announce(session, experiment)
                    turn.check(session, experiment)
