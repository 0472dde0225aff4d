"""Log one line per event: for session.log, and for the screen where there is no live view."""

from orchestrator.events import (
    ChampionReplaced,
    ConditionsChanged,
    ConfirmationFailed,
    ContainerStarted,
    DuelBegun,
    DuelEnded,
    Event,
    ExperimentBegun,
    ExperimentCommitted,
    ExperimentConfirmed,
    ExperimentDoubted,
    ExperimentFinished,
    LessonsDistilled,
    LoopWaiting,
    NoteRecorded,
    ReplyRejected,
    ScoringBegun,
    SessionStarted,
    TrialRepeated,
)
from orchestrator.logger import log
from orchestrator.record.record_file import Recorded
from orchestrator.text import sanitise
from orchestrator.types import Experiment

TEXT_LIMIT = 300  # characters; the record has the whole text


def log_event(  # noqa: C901, PLR0912  # one case per kind of event
    recorded: Recorded[Event], metric: str = "value"
) -> None:
    """Log an event under its kind, with its facts as keywords; scores are logged under the metric's name.

    The end of a session is logged before its event, which has the hash of the log.
    """
    event, head = recorded.event, recorded.hash
    facts: dict[str, object]
    level = log.info
    match event:
        case SessionStarted(task=task, proposer=proposer):
            facts = {"task": task, "proposer": proposer, "head": head}
        case LoopWaiting(reason=reason):
            facts = {"reason": _text(reason)}
        case NoteRecorded(text=text):
            level, facts = log.warning, {"note": _text(text)}
        case ConditionsChanged():
            level, facts = log.warning, {"reason": event.describe}
        case ReplyRejected(reason=reason):
            facts = {"reason": _text(next(iter(reason.splitlines()), ""))}
        case LessonsDistilled(reply=reply, lessons=lessons, reason=reason):
            facts = {"lessons": len(lessons), "model": reply.model, "cost_usd": round(reply.usage.cost_usd, 4)}
            facts |= {"reason": _text(reason)} if reason else {}
        case ExperimentBegun(experiment_id=number, proposal=proposal, environment=environment):
            where = {"host": _text(environment.host)} if environment.host else {}
            facts = {"experiment_id": number, "hypothesis": _text(proposal.hypothesis), **where}
        case ContainerStarted(experiment_id=number, role=role, deadline_s=deadline_s):
            facts = {"experiment_id": number, "role": role.value, "deadline_s": round(deadline_s)}
        case ScoringBegun(experiment_id=number, deadline_s=deadline_s):
            facts = {"experiment_id": number, "deadline_s": round(deadline_s)}
        case TrialRepeated(experiment_id=number, trial=trial, at_most=at_most, mean_so_far=mean):
            facts = {"experiment_id": number, "trial": trial, "at_most": at_most, metric: mean}
        case ExperimentDoubted(experiment_id=number, reason=reason):
            level, facts = log.warning, {"experiment_id": number, "reason": _text(reason)}
        case ExperimentFinished(experiment=experiment):
            level = log.warning if experiment.needs_review else log.info
            facts = {**_describe(experiment, metric), "head": head}
        case ExperimentCommitted(experiment_id=number, commit=commit) if commit:
            facts = {"experiment_id": number, "commit": commit}
        case ChampionReplaced(experiment_id=number, champion_id=champion_id, value=value):
            level, facts = log.warning, {"experiment_id": number, "champion_id": champion_id, metric: value}
        case DuelBegun(champion_id=number, rival_id=rival_id, pairs=pairs, idle=idle):
            facts = {"experiment_id": number, "rival_id": rival_id, "pairs": pairs, "idle": idle}
        case DuelEnded(champion_id=number, rival_id=rival_id, outcome=outcome, reason=reason):
            facts = {"experiment_id": number, "rival_id": rival_id, "outcome": outcome.value, "reason": _text(reason)}
            facts |= {"gain": event.mean, "low": event.low, "high": event.high}
        case ExperimentConfirmed(experiment_id=number, holdout=holdout):
            facts = {"experiment_id": number, "holdout": list(holdout)}
        case ConfirmationFailed(experiment_id=number, failure=failure, message=message):
            level = log.warning
            facts = {"experiment_id": number, "status": failure.value, "reason": _text(message)}
        case _:
            return
    level(event.kind, **facts)


def _describe(experiment: Experiment, metric: str) -> dict[str, object]:
    facts: dict[str, object] = {
        "experiment_id": experiment.id,
        "status": experiment.status.value,
        metric: experiment.judged_value,
        "reason": _text(experiment.reason),
        "trust": experiment.level,
    }
    return facts | {"needs_review": True} if experiment.needs_review else facts


def _text(text: str) -> str:
    return sanitise(text, limit=TEXT_LIMIT)
