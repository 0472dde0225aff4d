"""The steps of one turn of the loop: the next candidate, its run, its verdict, its place on record."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from orchestrator import ask, files, measure, patch
from orchestrator.errors import ConfigError, PatchRejected
from orchestrator.measure import committed, new_plan, revealed
from orchestrator.protocols import Runner
from orchestrator.record import anchors, checkpoint, experiment_dir
from orchestrator.record.index import canonical
from orchestrator.scoring import noise, plausible
from orchestrator.scoring.decide import judge
from orchestrator.scoring.self_reported import parse_figures
from orchestrator.session import Running, Session
from orchestrator.types import Candidate, Experiment, Proposal, Reply, Status, Trial, Usage, Verdict, conditions_of

log = structlog.get_logger()
ELSEWHERE = Verdict(
    status=Status.CONTENDED, reason="not judged: its device, image or compile cache is not that of the best"
)
BASELINE = Proposal(hypothesis="baseline: train.py as it is")


def must_wait(session: Session, best: Experiment | None, at_work: Sequence[Running]) -> bool:
    """Whether what to try next depends on what still runs, or is still being asked for."""
    known = best is not None and best.conditions == ask.conditions(session)
    return bool(at_work) and (not known or session.ahead.is_asking)


def propose(session: Session, best: Experiment | None, at_work: Sequence[Running]) -> Candidate | None:
    """What to run next; None if it was refused until the tries were used up, which is on record then."""
    try:
        return next_candidate(session, best, at_work)
    except PatchRejected as refusal:
        record_invalid(session, str(refusal))
        return None


def next_candidate(session: Session, best: Experiment | None, at_work: Sequence[Running]) -> Candidate:
    """What is owed again, the baseline, the best once more, or a new idea. Raises PatchRejected after all tries.

    Where the best is not known under today's conditions nothing else is owed: it could be compared with nothing.
    """
    under_way = {running.candidate.retry_of for running in at_work}
    known = best is None or best.conditions == ask.conditions(session)
    queued = [e for e in session.journal.queued() if e.id not in under_way and (known or e.remeasures_id is not None)]
    if queued:
        again = reread(session, queued[0].id)
        return replace(again, attempt=queued[0].attempt + 1, retry_of=queued[0].id)
    if best is None:
        return _baseline(session)
    measuring = any(running.candidate.remeasures_id is not None for running in at_work)
    if not measuring and (due := measure.again(session, best)) is not None:
        return due
    return ask.next_candidate(session, best, session.journal.spent(), at_work)


def _baseline(session: Session) -> Candidate:
    """The empty patch: train.py as the human left it."""
    path = session.keeper.path
    if session.journal.records("experiment.committed"):
        raise ConfigError(
            "nothing that this run kept is believed any more: run again, what it all was made from ended as cheat"
            f" (`autoresearch status`); look at {path} and start a new run with --run NAME"
        )
    try:
        source = path.read_text(encoding="utf-8")
        patch.check(source, ask.rules(session), contract=not session.config.self_reported)
    except (OSError, UnicodeDecodeError, PatchRejected) as error:
        raise ConfigError(f"{path}: cannot be the baseline: {error}; fix it") from error
    reply = Reply(proposer="baseline", model="", prompt="", text="")
    return Candidate(proposal=BASELINE, source=source, parent_id=None, parent_source=source, reply=reply)


def begin(session: Session, candidate: Candidate, runner: Runner, best: Experiment | None) -> Running:
    """Write down what will run, commit the intent, then hand out the plan."""
    started, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    folder = session.journal.folder / f"{session.journal.next_id():04d}"
    experiment_dir.write_candidate(folder, candidate)
    plan, facts = new_plan(), runner.facts()
    measure.refuse_changed(session.journal, facts)
    below = None if best is None or candidate.remeasures_id is not None else best.value
    intent = {**committed(plan), "files": experiment_dir.hashes(folder), **facts}
    experiment_id = session.journal.begin(candidate, intent=intent)
    session.view.begun(experiment_id, candidate)
    return Running(
        id=experiment_id, candidate=candidate, runner=runner, facts=facts, folder=folder, started=started,
        started_at=started_at, plan=plan, where=folder, below=below,
    )  # fmt: skip


def check(session: Session, experiment: Experiment) -> None:
    """Raise ConfigError if there is nothing to compare with: the baseline has no score."""
    if session.journal.best() is None and experiment.status not in (Status.INFRA, Status.CONTENDED):
        why = f"{experiment.status}: {experiment.reason}"
        raise ConfigError(f"the baseline itself has no score ({why}); fix {session.keeper.path}")


def judged(
    session: Session, running: Running, trial: Trial, best: Experiment | None
) -> tuple[Trial, Verdict] | Running:
    """The verdict on all that its runs brought to light, or the run with another seed that it needs before."""
    session.journal.note("seeds.revealed", revealed(running.plan), running.id)
    if trial.score is not None and (why := _fell(session, running.candidate)):
        return trial, Verdict(status=Status.DISCARD, reason=why)
    measures = running.candidate.remeasures_id
    if trial.score and best and measures is None and conditions_of(running.facts) != best.conditions:
        return trial, ELSEWHERE
    if running.doubt and running.before is not None and best is not None:
        return _settled(running, running.before, trial, best)
    if best is not None and measures not in (None, best.id):  # it was the best when this began
        best = session.journal.experiment(measures or 0)
    trial = noise.joined(running.before, trial, first=best is None) if running.before else trial
    if more := measure.once_more(session, running, trial, best):
        return more
    spread = ask.spread(session)
    verdict = judge(trial, best, needed_k=session.config.needed_k, spread=spread, remeasures_id=measures)
    if verdict.status is Status.KEEP and best is not None:
        kept = session.journal.experiments("status = ?", Status.KEEP)
        if why := plausible.doubt(trial, best, kept, time_budget_s=session.config.active_profile.time_budget_s):
            return measure.doubted(session, running, trial, why)
    return trial, verdict


def _fell(session: Session, candidate: Candidate) -> str:
    """Why nothing made from its parent counts: meanwhile that was found to cheat, or to come from what does."""
    if candidate.parent_id is None:
        return ""
    parent = session.journal.experiment(candidate.parent_id)
    return (
        "" if parent.status is Status.KEEP else f"its parent, experiment {parent.id}, is kept no more: {parent.reason}"
    )


def _settled(running: Running, first: Trial, again: Trial, best: Experiment) -> tuple[Trial, Verdict]:
    """A doubtful best was trained and audited once more: the worse of its two scores is the one that counts."""
    if again.contended_by:
        return again, judge(again, best)
    verdict = plausible.settled(running.doubt, first, again, best)
    worse = again.score is None or first.score is None or again.score.value > first.score.value
    return replace(again if worse else first, executions=(*first.executions, *again.executions)), verdict


def finish(session: Session, running: Running, trial: Trial, verdict: Verdict | None) -> Experiment:
    """Write the result, commit the end, and bring results.tsv up to date."""
    verdict = verdict or Verdict(status=Status.INFRA, reason=trial.message)
    candidate, facts = running.candidate, running.facts
    trainer = trial.trainer
    experiment = Experiment(
        id=running.id,
        parent_id=candidate.parent_id,
        status=verdict.status,
        reason=verdict.reason,
        hypothesis=candidate.proposal.hypothesis,
        expected_effect=candidate.proposal.expected_effect,
        proposer=candidate.reply.proposer,
        model=candidate.reply.model,
        score=trial.score,
        message=trial.message,
        source_sha256=hashlib.sha256(candidate.source.encode()).hexdigest(),
        started_at=running.started_at,
        duration_s=round(time.monotonic() - running.started, 3),
        train_s=round(trainer.duration_s, 3) if trainer else 0.0,
        usage=candidate.reply.usage if candidate.attempt == 1 else Usage(),
        attempt=candidate.attempt,
        retry_of=candidate.retry_of,
        folder=running.folder,
        fingerprint="" if verdict.status is Status.INVALID else patch.fingerprint(candidate.source),
        image_id=facts.get("image_id", ""),
        hardware=facts.get("hardware", ""),
        warm_sha256=facts.get("warm_sha256", ""),
        peak_memory_bytes=trainer.peak_memory_bytes if trainer else None,
        repeat_scores=trial.repeat_scores,
        remeasures_id=candidate.remeasures_id,
    )
    kept = verdict.status is Status.KEEP
    checkpoint.settle(running.folder, kept=kept, checkpoint_sha256=trial.checkpoint_sha256)
    return _close(session, experiment, trial, experiment_dir.diff_of(candidate))


def record_invalid(session: Session, reason: str) -> None:
    """Record a turn whose patch was refused until the tries were used up; nothing ran."""
    best = session.journal.best()
    reply = session.journal.last_reply()
    parent = (best.folder / "train.py").read_text(encoding="utf-8") if best else ""
    candidate = Candidate(
        proposal=Proposal(hypothesis=f"refused: {reason.splitlines()[0]}"),
        source=parent,
        parent_id=best.id if best else None,
        parent_source=parent,
        reply=reply,
    )
    running = begin(session, candidate, session.runner, best)
    trial = Trial(executions=(), score=None, failure=Status.INVALID, message=reason)
    announce(session, finish(session, running, trial, Verdict(status=Status.INVALID, reason=reason)))


def announce(session: Session, experiment: Experiment) -> None:
    """Tell how an experiment ended."""
    log.info("experiment.finished", experiment_id=experiment.id, status=experiment.status.value,
             value=experiment.judged_value, reason=experiment.reason, trust=experiment.level,
             head=session.journal.head())  # fmt: skip
    session.view.finished(experiment, session.journal.best(), session.journal.spent())


def _close(session: Session, experiment: Experiment, trial: Trial, diff: str) -> Experiment:
    executions = [asdict(execution) for execution in trial.executions]
    facts: dict[str, Any] = {
        "executions": executions,
        "checkpoint_sha256": trial.checkpoint_sha256,
        "checkpoint_bytes": trial.checkpoint_bytes,
        "gpu_used": trial.gpu_used,
        "told": parse_figures(trial.trainer.log_tail) if trial.trainer else {},
    }
    files.write(
        experiment.folder / "result.json",
        canonical({"experiment": session.journal.as_json(experiment), **facts}),
    )
    facts["files"] = experiment_dir.hashes(experiment.folder)
    session.journal.finish(experiment, diff=diff, facts=facts)
    anchors.name_head(session.config, session.journal)
    experiment_dir.write_results(session.journal.folder, session.journal.experiments())
    return experiment


def keep_best(session: Session, experiment: Experiment, candidate: Candidate, *, before: Experiment | None) -> None:
    """Keep this one, or go back to an earlier one where the best from before did not hold."""
    if experiment.status is Status.KEEP:
        keep(session, experiment, candidate)
    elif (better := measure.settle(session, before)) is not None:
        keep(session, better, reread(session, better.id))


def keep(session: Session, experiment: Experiment, candidate: Candidate) -> None:
    """Commit a kept patch and put it in place, if the file is still ours."""
    placed = [done.experiment_id for done in session.journal.records("experiment.committed")][-1:]
    first, _, head = session.journal.span()
    commit = session.keeper.commit(experiment, candidate.source, first, head)
    session.journal.committed(experiment, commit)
    last = (ask.source_of(session.journal.experiment(number)) for number in placed if number is not None)
    ours = (candidate.parent_source, candidate.source, *last)  # the parent may be an older one
    replaced = session.keeper.put(candidate.source, ours=ours)
    if not replaced:
        log.warning("train_py.left_alone", path=str(session.keeper.path), reason="it was changed by hand")
    experiment_dir.write_results(session.journal.folder, session.journal.experiments())


def reread(session: Session, experiment_id: int) -> Candidate:
    """The candidate of an earlier experiment, from its folder and the journal."""
    folder = session.journal.folder / f"{experiment_id:04d}"
    begun = session.journal.records("experiment.begun", experiment_id)[0].body
    texts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("train.py", "parent.py", "prompt.txt", "reply.txt")
    }
    meta = begun["reply"]
    return Candidate(
        proposal=session.journal.proposal(begun["proposal"]),
        source=texts["train.py"],
        parent_id=begun["parent_id"],
        parent_source=texts["parent.py"],
        reply=Reply(
            proposer=meta["proposer"],
            model=meta["model"],
            prompt=texts["prompt.txt"],
            text=texts["reply.txt"],
            usage=Usage(**meta["usage"]),
        ),
        attempt=begun["attempt"],
        retry_of=begun["retry_of"],
        remeasures_id=begun.get("remeasures_id"),
    )
