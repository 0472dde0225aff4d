"""Running a candidate as often as its score needs it: once, or again with other seeds while luck may explain it."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import structlog

from orchestrator.ask import conditions, source_of, spread
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.execution.slot import Slot
from orchestrator.record import experiment_dir
from orchestrator.record.journal import QUEUED_AGAIN, Journal
from orchestrator.scoring import noise
from orchestrator.scoring.decide import judge
from orchestrator.session import Running, Session
from orchestrator.types import Candidate, Experiment, Plan, Proposal, Reply, Status, Trial

SCORED_BY = {"data_sha256": "on other data", "locked_sha256": "by other locked files"}
TRIES = 3  # of a run outside the loop, while others use the device
log = structlog.get_logger()


def once_more(session: Session, running: Running, trial: Trial, best: Experiment | None) -> Running | None:
    """The next run of an experiment, if luck may explain what its runs brought so far, or too small an audit."""
    known, measures, runs = spread(session), running.candidate.remeasures_id, len(trial.runs)
    most = noise.wants(trial, best, known, session.config.noise, remeasures_id=measures)
    if runs >= most and _too_small(session, running, trial, best):
        most = runs + 1
    if runs >= most or (running.before is not None and runs == len(running.before.runs)):
        return None
    plan = new_plan()
    session.view.again(running.id, runs + 1, most, fmean(trial.runs))
    so_far = {"run": runs + 1, "most": most, "val_bpb": fmean(trial.runs)}
    session.journal.note("experiment.run_again", {**so_far, **committed(plan)}, running.id)
    where = running.folder / f"run-{runs + 1}"
    experiment_dir.make_folder(where)
    return replace(running, plan=plan, where=where, below=None, before=trial)


def _too_small(session: Session, running: Running, trial: Trial, best: Experiment | None) -> bool:
    """Whether it is a new best but for its audit: that was small, as the best was a better one when it began."""
    if running.before is not None or trial.score is None or running.candidate.remeasures_id is not None:
        return False
    would_be = judge(trial, best, spread=spread(session)).status is Status.KEEP
    return would_be and trial.score.audited_positions < session.config.needed_k


def doubted(session: Session, running: Running, trial: Trial, why: str) -> Running:
    """The run, audited in full, that a best which is hard to believe has to survive."""
    plan, where = new_plan(), running.folder / "again"
    session.journal.note("experiment.doubted", {"why": why, **committed(plan)}, running.id)
    log.warning("experiment.doubted", experiment_id=running.id, why=why)
    experiment_dir.make_folder(where)
    return replace(running, plan=plan, where=where, below=None, before=trial, doubt=why)


def again(session: Session, best: Experiment) -> Candidate | None:
    """The best, to be measured again if that is due."""
    journal, now = session.journal, conditions(session)
    last = journal.experiments("json_extract(body, '$.remeasures_id') = ?", best.id, order="id DESC", limit=1)
    if best.conditions != now and last and last[0].conditions == now and last[0].status not in QUEUED_AGAIN:
        raise ConfigError(
            f"experiment {best.id}, the best, ended as {last[0].status} on this hardware; start a new run (--run NAME)"
        )
    since = journal.count("id > ?", max(best.id, *(e.id for e in last), 0))
    if not noise.is_due(best, now, since, session.config.noise):
        return None
    source = source_of(best)
    why = "does it hold?" if best.conditions == now else "what is it worth on this hardware?"
    return Candidate(
        proposal=Proposal(hypothesis=f"experiment {best.id} once more, with another seed: {why}"),
        source=source,
        parent_id=best.id,
        parent_source=source,
        reply=Reply(proposer="again", model="", prompt="", text=""),
        remeasures_id=best.id,
    )


def settle(session: Session, before: Experiment | None) -> Experiment | None:
    """After the best was measured again: the best there is now, if it is another one."""
    now = session.journal.best()
    if before is None or now is None or now.id == before.id:
        return None
    log.warning("keep.did_not_hold", experiment_id=before.id, goes_back_to=now.id)
    session.journal.note("keep.did_not_hold", {"goes_back_to": now.id, "val_bpb": now.value}, before.id)
    return now


def refuse_changed(journal: Journal, facts: Mapping[str, str]) -> None:
    """Raise ConfigError if what scores here is not what scored the baseline: an easier text is no better model."""
    for baseline in journal.experiments("status = ?", Status.KEEP, limit=1):
        said = journal.records("experiment.begun", baseline.id)[0].body
        for name, what in SCORED_BY.items():
            before, now = str(said.get(name, "")), facts.get(name, "")
            if before != now:
                raise ConfigError(
                    f"run {journal.folder.name} was scored {what} than this ({name} {before[:12]}, now {now[:12]}), and"
                    " scores of both do not compare: name its own with --data and --profile, put back what was there,"
                    " or start a new run with --run NAME"
                )


def alone(slot: Slot, source: str, folder: Path, plans: Callable[[], Plan] | None = None) -> Trial:
    """One run of a source with seeds of the host's choice, again while others use the device. Raises SandboxError."""
    reply = Reply(proposer="host", model="", prompt="", text="")
    proposal = Proposal(hypothesis="as it is")
    candidate = Candidate(proposal=proposal, source=source, parent_id=None, parent_source=source, reply=reply)
    for number in range(TRIES):
        slot.ready()
        place = folder / f"{number}"
        place.mkdir(parents=True, mode=0o700)
        trial = slot.run(candidate, (plans or new_plan)(), experiment_id=number, folder=place, best=None)
        if not trial.contended_by:
            return trial
    raise SandboxError(f"{trial.contended_by} used the device each of {TRIES} times; try again when it is idle")


def new_plan() -> Plan:
    """Seeds of the host's choice."""
    return Plan(train_seed=secrets.randbelow(2**31), audit_seed=secrets.token_bytes(32))


def committed(plan: Plan) -> dict[str, int | str]:
    """What the record says of a plan before it runs: the audit seed by its hash only."""
    return {"train_seed": plan.train_seed, "audit_seed_sha256": hashlib.sha256(plan.audit_seed).hexdigest()}


def revealed(plan: Plan) -> dict[str, int | str]:
    """What the record says of a plan once its run is over: whoever holds the hash can check the audit's positions."""
    return {"train_seed": plan.train_seed, "audit_seed": plan.audit_seed.hex()}
