"""The whole loop: propose -> apply -> run -> judge -> record -> keep, until a limit or Ctrl-C."""

from orchestrator import ask, bounds, turn
from orchestrator.errors import BudgetExhausted
from orchestrator.execution.pool import Pool
from orchestrator.session import Running, Session


def run_session(session: Session) -> str:
    """Run experiments until a limit is met or an interrupt; returns why it ended. Raises AutoresearchError."""
    journal, base, exhausted = session.journal, bounds.recover(session), ""
    with Pool(session.runners, session.ready) as pool:
        while True:
            best, ended = journal.best(), None
            reason = exhausted or bounds.limit(session, base, pool.at_work)
            if reason and not pool.at_work:
                return bounds.end(session, reason, limit=True)
            try:
                if not reason and not turn.must_wait(session, best, pool.at_work) and (runner := pool.idle_runner()):
                    candidate = turn.propose(session, best, pool.at_work)
                    if candidate is not None and pool.is_fresh(runner):  # the answer may have taken hours
                        pool.start(turn.begin(session, candidate, runner, best))
                        ask.ask_ahead(session, best, pool.at_work, base.since(journal.spent()), then=pool.wake)
                else:
                    ended = pool.next_ended()
            except BudgetExhausted as error:
                exhausted = str(error)
            except KeyboardInterrupt:
                return bounds.interrupt(session, pool)
            if ended is None:
                continue
            running, trial = ended
            match turn.judged(session, running, trial, best):  # the best of now, not of when it began
                case Running() as once_more:
                    pool.start(once_more)
                case trial, verdict:
                    pool.release(running)
                    experiment = turn.finish(session, running, trial, verdict)
                    turn.keep_best(session, experiment, running.candidate, before=best)
                    turn.announce(session, experiment)
                    turn.check(session, experiment)
