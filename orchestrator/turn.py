"""The steps of one turn of the loop, each a few lines: what loop.py names, is here."""

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from orchestrator import anchors, ask, measure, patch, plausible, record
from orchestrator.decide import judge
from orchestrator.errors import ConfigError, PatchRejected, RecordFailed, SandboxError
from orchestrator.journal import canonical
from orchestrator.measure import committed, new_plan, revealed
from orchestrator.types import (
    Candidate,
    Experiment,
    Plan,
    Proposal,
    Reply,
    Role,
    Spent,
    Status,
    Trial,
    Usage,
    Verdict,
)

if TYPE_CHECKING:
    from orchestrator.loop import Session

log = structlog.get_logger()
BASELINE = Proposal(hypothesis="baseline: train.py as it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Where this count of experiments and hours began: at the last session that ended at a limit.

    So a killed session resumes its count, and a finished one starts a new one. Money and tokens count over the
    whole run.
    """

    experiments: int = 0
    slot_s: float = 0.0

    def since(self, spent: Spent) -> Spent:
        """What was spent since then."""
        return replace(spent, experiments=spent.experiments - self.experiments, slot_s=spent.slot_s - self.slot_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An experiment that has begun."""

    id: int
    candidate: Candidate
    plan: Plan
    folder: Path
    started_at: str
    started: float  # monotonic


def recover(session: "Session") -> Base:
    """Close what a crash left open, put keeps into git, and say where the counts began."""
    journal = session.journal
    for begun in journal.unfinished():
        candidate = reread(session, begun.experiment_id or 0)
        running = Running(
            id=begun.experiment_id or 0,
            candidate=candidate,
            plan=Plan(train_seed=0, audit_seed=b""),
            folder=journal.folder / f"{begun.experiment_id:04d}",
            started_at=begun.at,
            started=time.monotonic(),
        )
        record.drop_private(running.folder)
        finish(session, running, failed("the orchestrator died while it ran: run again"), None)
    best = journal.best()
    if best is not None:
        source = (best.folder / "train.py").read_text(encoding="utf-8")
        if not best.commit:
            keep(session, best, replace(reread(session, best.id), source=source))
        elif session.keeper.path.read_text(encoding="utf-8") != source:
            log.warning("train_py.differs", path=str(session.keeper.path), goes_on_from=best.id)
    ended = [r.body for r in journal.records("session.ended") if r.body["limit"]]
    base = Base(**ended[-1]["base"]) if ended else Base()
    started = {"task": session.config.task.name, "proposer": session.proposer.name}
    journal.note("session.started", {"facts": session.runner.facts(), **started})
    return base


def end(session: "Session", reason: str, *, limit: bool = False) -> str:
    """Close the session's record."""
    spent = session.journal.spent()
    base = asdict(Base(experiments=spent.experiments, slot_s=spent.slot_s))
    session.journal.note("session.ended", {"reason": reason, "limit": limit, "base": base})
    _anchor(session)
    log.info("session.ended", reason=reason, head=session.journal.head())
    return reason


def gave_up(session: "Session", spent: Spent) -> SandboxError:
    """End a session whose sandbox failed too often: the error to raise, with the last failure."""
    last = session.journal.experiments(order="id DESC", limit=1)[0]
    message = f"{spent.consecutive_infra} failures of the sandbox in a row, the last: {last.rule.splitlines()[0]}"
    return SandboxError(end(session, message))


def next_candidate(session: "Session", best: Experiment | None, spent: Spent) -> Candidate:
    """What to run next: what is owed again, the baseline, or a new idea. Raises PatchRejected after all tries."""
    journal = session.journal
    if queued := journal.queued():
        again = reread(session, queued[0].id)
        return replace(again, attempt=queued[0].attempt + 1, retry_of=queued[0].id)
    if best is None:
        return _baseline(session)
    if (due := measure.again(session, best)) is not None:
        return due
    return ask.next_candidate(session, best, spent)


def _baseline(session: "Session") -> Candidate:
    """The empty patch: train.py as the human left it."""
    path = session.keeper.path
    try:
        source = path.read_text(encoding="utf-8")
        patch.check(source, ask.rules(session))
    except (OSError, UnicodeDecodeError, PatchRejected) as error:
        message = f"{path}: cannot be the baseline: {error}; mend it"
        raise ConfigError(message) from error
    reply = Reply(proposer="baseline", model="", prompt="", text="")
    return Candidate(proposal=BASELINE, source=source, parent_id=None, parent_source=source, reply=reply)


def begin(session: "Session", candidate: Candidate) -> Running:
    """Write down what will run, commit the intent, then hand out the plan."""
    started, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    folder = session.journal.folder / f"{session.journal.next_id():04d}"
    record.write_candidate(folder, candidate)
    plan = new_plan()
    intent = {
        **committed(plan),
        "files": record.hashes(folder),
        **session.runner.facts(),
    }
    experiment_id = session.journal.begin(candidate, intent=intent)
    return Running(
        id=experiment_id, candidate=candidate, plan=plan, folder=folder, started=started, started_at=started_at
    )


def run(session: "Session", running: Running, best: Experiment | None) -> tuple[Trial, Verdict]:
    """Run a candidate and judge it; a best that is hard to believe must first survive another training."""
    try:
        trial = measure.run(session, running, best)
        spread, measures = measure.spread(session), running.candidate.measures
        verdict = judge(trial, best, needed_k=session.config.needed_k, spread=spread, measures=measures)
        if verdict.status is Status.KEEP and best is not None:
            budget = session.config.box.time_budget_s
            why = plausible.doubt(
                trial, best, session.journal.experiments("status = ?", Status.KEEP), time_budget_s=budget
            )
            return _again(session, running, trial, best, why) if why else (trial, verdict)
    except SandboxError as error:
        trial = failed(error)
        verdict = judge(trial, best)
    return trial, verdict


def _again(session: "Session", running: Running, first: Trial, best: Experiment, why: str) -> tuple[Trial, Verdict]:
    """Train and audit a doubtful best once more; the worse of its two scores is the one that counts."""
    plan, folder = new_plan(), running.folder / "again"
    session.journal.note("experiment.doubted", {"why": why, **committed(plan)}, running.id)
    log.warning("experiment.doubted", experiment_id=running.id, why=why)
    record.make_folder(folder)
    again = session.runner.run(running.candidate, plan, experiment_id=running.id, folder=folder, best=None)
    session.journal.note("seeds.revealed", revealed(plan), running.id)
    verdict = plausible.settled(why, first, again, best)
    worse = again.score is None or first.score is None or again.score.val_bpb > first.score.val_bpb
    return replace(again if worse else first, executions=first.executions), verdict


def failed(why: SandboxError | str) -> Trial:
    """A trial that we spoiled ourselves."""
    return Trial(executions=(), score=None, failure=Status.INFRA, message=str(why))


def finish(session: "Session", running: Running, trial: Trial, verdict: Verdict | None) -> Experiment:
    """Write the result, commit the end, and bring results.tsv up to date."""
    verdict = verdict or Verdict(status=Status.INFRA, rule=trial.message)
    candidate, facts = running.candidate, session.runner.facts()
    trainer = next((e for e in trial.executions if e.role is Role.TRAINER), None)
    experiment = Experiment(
        id=running.id,
        parent_id=candidate.parent_id,
        status=verdict.status,
        rule=verdict.rule,
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
        peak_memory_bytes=trainer.peak_memory_bytes if trainer else None,
        measured=trial.measured,
        measures=candidate.measures,
    )
    return _close(session, experiment, trial, record.diff_of(candidate))


def record_invalid(session: "Session", reason: str) -> None:
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
    running = begin(session, candidate)
    trial = Trial(executions=(), score=None, failure=Status.INVALID, message=reason)
    experiment = finish(session, running, trial, Verdict(status=Status.INVALID, rule=reason))
    session.view.finished(experiment, best, session.journal.spent())


def _close(session: "Session", experiment: Experiment, trial: Trial, diff: str) -> Experiment:
    executions = [asdict(execution) for execution in trial.executions]
    facts: dict[str, Any] = {"executions": executions, "checkpoint_sha256": trial.checkpoint_sha256}
    record.write(
        experiment.folder / "result.json",
        canonical({"experiment": session.journal.as_json(experiment), **facts}),
    )
    facts["files"] = record.hashes(experiment.folder)
    session.journal.finish(experiment, diff=diff, facts=facts)
    _anchor(session)
    record.write_results(session.journal.folder, session.journal.experiments())
    return experiment


def _anchor(session: "Session") -> None:
    """Name the head of the chain in the file elsewhere; one that cannot be written costs a line, not the night."""
    if (path := session.config.anchor_path) is not None:
        try:
            anchors.write(path, session.config.tag, *session.journal.span())
        except RecordFailed as error:
            log.warning("anchor.failed", error=str(error))


def keep(session: "Session", experiment: Experiment, candidate: Candidate) -> None:
    """Commit a kept patch and put it in place, if the file is still ours."""
    placed = [done.experiment_id for done in session.journal.records("experiment.committed")][-1:]
    commit = session.keeper.commit(experiment, candidate.source, session.journal.head())
    session.journal.committed(experiment, commit)
    last = (ask.source_of(session.journal.experiment(number)) for number in placed if number is not None)
    ours = (candidate.parent_source, candidate.source, *last)  # the parent may be an older one
    replaced = session.keeper.put(candidate.source, ours=ours)
    if not replaced:
        log.warning("train_py.left_alone", path=str(session.keeper.path), reason="it was changed by hand")
    record.write_results(session.journal.folder, session.journal.experiments())


def reread(session: "Session", experiment_id: int) -> Candidate:
    """The candidate of an earlier experiment, from its folder and the journal."""
    folder = session.journal.folder / f"{experiment_id:04d}"
    begun = next(iter(session.journal.records("experiment.begun", experiment_id))).body
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
        measures=begun.get("measures"),
    )
