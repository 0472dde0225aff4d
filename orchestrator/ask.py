"""From a run so far to the next candidate: ask, store the reply, read it, apply it, refuse what was tried before."""

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from orchestrator import limits, patch
from orchestrator.errors import PatchRejected
from orchestrator.propose import similarity
from orchestrator.propose.history import History, select_history
from orchestrator.scoring import noise
from orchestrator.session import Running, Session
from orchestrator.types import (
    Candidate,
    Conditions,
    Context,
    Experiment,
    Proposal,
    Reply,
    Spent,
    Status,
    conditions_of,
)

log = structlog.get_logger()
SIMILAR = 8  # earlier experiments that share words with a proposal and are compared with it
NOT_AGAIN = (Status.DISCARD, Status.CHEAT)  # a failure may be fixed, and fixing it stays close to it


def next_candidate(session: Session, best: Experiment, spent: Spent, at_work: Sequence[Running]) -> Candidate:
    """Ask until a patch applies, each refusal told word for word. Raises PatchRejected after all tries."""
    journal, proposer = session.journal, session.proposer
    session.ahead.wait()  # a reply that is on its way is stored by then
    rejected: list[tuple[Reply, str]] = []
    while True:
        pending = journal.pending_reply()
        if pending is None:
            told = context(session, best, spent, in_flight=ideas(at_work), rejected=tuple(rejected))
            pending = journal.reply(proposer.ask(told))
        seq, reply = pending
        try:
            candidate = _candidate(session, best, reply, proposer.read(reply))
            _refuse_twin(candidate, at_work)
        except PatchRejected as refusal:
            journal.note("reply.rejected", {"reply": seq, "reason": str(refusal)})
            log.info("reply.rejected", reason=str(refusal).splitlines()[0])
            rejected.append((reply, str(refusal)))
            if len(rejected) >= session.config.claude.max_attempts:
                raise
        else:
            return candidate


def ask_ahead(
    session: Session, best: Experiment | None, at_work: Sequence[Running], spent: Spent, then: Callable[[], None]
) -> None:
    """Ask for the proposal after those at work, unless there will be no turn for it. `spent` is this count's."""
    after = replace(spent, experiments=spent.experiments + len(at_work))
    elapsed_s = time.monotonic() - session.started
    ends = limits.reached(session.config.limits, after, elapsed_s) is not None
    if best is None or ends or not session.config.asks_ahead or session.journal.pending_reply() is not None:
        return
    told = context(session, best, session.journal.spent(), in_flight=ideas(at_work))
    session.ahead.start(lambda: session.journal.reply(session.proposer.ask(told)), then)


def ideas(at_work: Sequence[Running]) -> tuple[str, ...]:
    """What is being tried right now."""
    return tuple(running.candidate.proposal.hypothesis for running in at_work)


def context(
    session: Session,
    best: Experiment,
    spent: Spent,
    *,
    in_flight: tuple[str, ...] = (),
    rejected: tuple[tuple[Reply, str], ...] = (),
) -> Context:
    """What the proposer is told; costs the same however long the run is."""
    return Context(
        experiment_id=session.journal.next_id(),
        best=best,
        best_source=source_of(best),
        history=History(session.journal),
        spent=spent,
        memory=select_history(session.journal, best),
        in_flight=in_flight,
        spread=spread(session),
        minutes_left=limits.minutes_left(session.config.limits, time.monotonic() - session.started),
        hardware=conditions(session)[0],
        rejected=rejected,
    )


def spread(session: Session) -> float | None:
    """How far single runs of one source lie apart here; None if that is not known yet, or not asked for."""
    if session.config.noise.baseline_runs == 1:
        return None
    return noise.spread(e.runs for e in session.journal.repeated() if e.conditions == conditions(session))


def conditions(session: Session) -> Conditions:
    """What scores depend on besides the source: they compare only where it is the same."""
    return conditions_of(session.runner.facts())


def source_of(experiment: Experiment) -> str:
    """The train.py that an experiment ran."""
    return (experiment.folder / "train.py").read_text(encoding="utf-8")


def rules(session: Session) -> tuple[tuple[str, str], ...]:
    """The task's patterns and the reasons for them."""
    return tuple((rule.pattern, rule.reason) for rule in session.config.rules)


def _candidate(session: Session, best: Experiment, reply: Reply, proposal: Proposal) -> Candidate:
    """The full file that a proposal makes of its parent. Raises PatchRejected."""
    parent = _parent(session, best, reply, proposal)
    parent_source = source_of(parent)
    source = patch.apply(parent_source, proposal, rules(session), contract=not session.config.self_reported)
    _refuse_repeat(session, source)
    if not proposal.retry_rationale:
        _refuse_close(session, best, proposal, parent_source, source)
    return Candidate(proposal=proposal, source=source, parent_id=parent.id, parent_source=parent_source, reply=reply)


def _parent(session: Session, best: Experiment, reply: Reply, proposal: Proposal) -> Experiment:
    """The file the edits are made to: the one named, else the best when it was asked, else the best."""
    wanted = proposal.parent_id if proposal.parent_id is not None else reply.parent_id
    if wanted is None or wanted == best.id:
        return best
    found = session.journal.experiments("id = ? AND status = ?", wanted, Status.KEEP)
    if not found:
        raise PatchRejected(
            f"parent_id {wanted}: no kept experiment has this number; leave it out to change the best, {best.id}"
        )
    return found[0]


def _refuse_repeat(session: Session, source: str) -> None:
    """An exact repeat of what was judged before costs no experiment."""
    for earlier in session.journal.repeats(patch.fingerprint(source)):
        raise PatchRejected(f"this is experiment {earlier.id} again, which ended as {earlier.status}: {earlier.reason}")


def _refuse_twin(candidate: Candidate, at_work: Sequence[Running]) -> None:
    """What runs right now is no new question."""
    for running in at_work:
        if patch.fingerprint(running.candidate.source) == patch.fingerprint(candidate.source):
            raise PatchRejected(f"this is experiment {running.id} again, which is running right now")


def _refuse_close(session: Session, best: Experiment, proposal: Proposal, parent_source: str, source: str) -> None:
    """What is close to an earlier discarded experiment is shown with its outcome: something else, or a reason."""
    diff = "".join(difflib.unified_diff(parent_source.splitlines(keepends=True), source.splitlines(keepends=True), n=0))
    for earlier in session.journal.similar(f"{proposal.hypothesis}\n{similarity.words(diff)}", SIMILAR):
        if earlier.status not in NOT_AGAIN:
            continue
        try:
            tried = (earlier.folder / "patch.diff").read_text(encoding="utf-8")
        except OSError:
            continue  # its folder was cleaned up
        if similarity.compare(diff, tried) >= similarity.CLOSE:
            outcome = "no score" if earlier.value is None else f"{session.config.task.metric} {earlier.value:.6f}"
            raise PatchRejected(
                f"this is close to experiment {earlier.id}, {earlier.status} with {outcome} (the best has"
                f" {best.value}): {earlier.hypothesis!r}. Propose something else, or the same again with"
                " retry_rationale: why it would end differently now"
            )
