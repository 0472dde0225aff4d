"""Begin, repeat, finish and keep an experiment: its folder, the journal, git, in an order that survives a crash."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from orchestrator import files, patch
from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.events import (
    ExperimentBegun,
    ExperimentCommitted,
    ExperimentDoubted,
    ExperimentFinished,
    TrialRepeated,
    body_of,
)
from orchestrator.policy import Decision, Rerun
from orchestrator.proposals import read_source
from orchestrator.protocols import Runner
from orchestrator.record import checkpoint, experiment_dir
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import canonical
from orchestrator.scoring.self_reported import parse_figures
from orchestrator.session import ActiveExperiment
from orchestrator.types import (
    Candidate,
    Champion,
    Environment,
    Experiment,
    MachineLoad,
    Plan,
    Role,
    Status,
    Trial,
    Usage,
    Verdict,
)

INPUTS = {"data_sha256": "on other data", "locked_sha256": "by other locked files"}


def begin_experiment(
    journal: Journal, candidate: Candidate, runner: Runner, champion: Champion | None, plan: Plan | None = None
) -> ActiveExperiment:
    """Write down what will run and record the intent; nothing untrusted has run when this returns."""
    started, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    plan, environment = plan or Plan.draw(), runner.environment()
    require_same_inputs(journal, environment)
    experiment_id = journal.next_id()
    folder = journal.folder / f"{experiment_id:04d}"
    experiment_dir.write_candidate(folder, candidate)
    journal.append(
        ExperimentBegun(
            experiment_id=experiment_id,
            attempt=candidate.attempt,
            retry_of=candidate.retry_of,
            remeasures_id=candidate.remeasures_id,
            removes_id=candidate.removes_id,
            parent_id=candidate.parent_id,
            reply=candidate.reply,
            proposal=candidate.proposal,
            source_sha256=_sha256(candidate.source),
            seeds=plan.commitment,
            files=experiment_dir.hashes(folder),
            environment=environment,
            patch_notes=candidate.patch_notes,
        )
    )
    to_beat = None if champion is None or candidate.remeasures_id is not None else champion.audit_below
    return ActiveExperiment(
        id=experiment_id, candidate=candidate, runner=runner, environment=environment, folder=folder, started=started,
        started_at=started_at, plan=plan, trial_folder=folder, score_to_beat=to_beat,
    )  # fmt: skip


def repeat_trial(journal: Journal, active: ActiveExperiment, trial: Trial, rerun: Rerun) -> ActiveExperiment:
    """Record that an experiment runs once more with another seed, and return it with that trial.

    Raises ConfigError if data or locked files are no longer those of its first trial.
    """
    require_same_inputs(journal, active.runner.environment())
    plan, number = Plan.draw(), len(active.trials) + 2
    if rerun.suspicion:
        journal.append(ExperimentDoubted(experiment_id=active.id, reason=rerun.suspicion, seeds=plan.commitment))
    else:
        mean = rerun.mean_so_far
        journal.append(
            TrialRepeated(
                experiment_id=active.id, trial=number, at_most=rerun.at_most, mean_so_far=mean, seeds=plan.commitment
            )
        )
    folder = active.folder / f"trial-{number}"
    experiment_dir.make_folder(folder)
    return replace(
        active, plan=plan, trial_folder=folder, score_to_beat=None, trials=(*active.trials, trial),
        suspicion=rerun.suspicion,
    )  # fmt: skip


def finish_experiment(journal: Journal, active: ActiveExperiment, decision: Decision) -> Experiment:
    """Write the result, record the verdict, and bring results.tsv up to date."""
    candidate, trial, verdict = active.candidate, decision.trial, decision.verdict
    trainer = trial.trainer
    experiment = Experiment(
        id=active.id,
        parent_id=candidate.parent_id,
        status=verdict.status,
        reason=verdict.reason,
        hypothesis=candidate.proposal.hypothesis,
        expected_effect=candidate.proposal.expected_effect,
        proposer=candidate.reply.proposer,
        model=candidate.reply.model,
        score=trial.score,
        message=trial.message,
        source_sha256=_sha256(candidate.source),
        started_at=active.started_at,
        duration_s=round(time.monotonic() - active.started, 3),
        train_s=round(trainer.duration_s, 3) if trainer else 0.0,
        usage=candidate.reply.usage if candidate.attempt == 1 else Usage(),
        attempt=candidate.attempt,
        retry_of=candidate.retry_of,
        folder=active.folder,
        fingerprint="" if verdict.status is Status.INVALID else patch.fingerprint(candidate.source),
        host=active.environment.host,
        hardware=active.environment.hardware,
        image_id=active.environment.image_id,
        image_sha256=active.environment.image_sha256,
        settings=active.environment.settings,
        cache_sha256=active.environment.cache_sha256,
        peak_memory_bytes=trainer.peak_memory_bytes if trainer else None,
        repeat_scores=trial.repeat_scores,
        loads=loads_of(active.trials, trial),
        remeasures_id=candidate.remeasures_id,
        removes_id=candidate.removes_id,
        needs_review=verdict.needs_review,
        interrupted=trial.interrupted,
        gain=verdict.gain,
        sure=verdict.sure,
    )
    kept = verdict.status is Status.KEEP
    checkpoint.keep_checkpoint(active.folder, trial.checkpoint_file if kept else None)
    finished = ExperimentFinished(
        experiment=experiment,
        executions=trial.executions,
        checkpoint_sha256=trial.checkpoint_sha256,
        checkpoint_bytes=trial.checkpoint_bytes,
        gpu_used=trial.gpu_used,
        self_reported=parse_figures(trainer.log_tail) if trainer else {},
        revisions=decision.revisions,
    )
    files.write(active.folder / "result.json", canonical(body_of(finished)))
    journal.append(replace(finished, files=experiment_dir.hashes(active.folder)))
    experiment_dir.write_results(journal.folder, journal.experiments(), journal.metric())
    return experiment


def loads_of(earlier: Sequence[Trial], whole: Trial) -> tuple[MachineLoad | None, ...]:
    """Return the load of each trial whose score the whole experiment has, in their order."""
    known = {trial.score.value: trial.load for trial in earlier if trial.score}
    trainers = [execution for execution in whole.executions if execution.role is Role.TRAINER]
    last = trainers[-1].load if trainers else None
    return tuple(known.get(value, last) for value in whole.scores)


def fail_experiment(journal: Journal, active: ActiveExperiment, why: str, *, interrupted: bool = False) -> Experiment:
    """Finish an experiment that the sandbox or an interrupt spoiled; another attempt is due."""
    trial = Trial.infra(why, interrupted=interrupted)
    return finish_experiment(
        journal, active, Decision(trial=trial, verdict=Verdict(status=Status.INFRA, reason=trial.message))
    )


def keep_experiment(journal: Journal, branch: ResultBranch, experiment: Experiment) -> None:
    """Commit a kept file to the run's branch and put it in place, unless the user has changed it."""
    source = read_source(experiment)
    first, _, head = journal.span()
    placed = [recorded.event.experiment_id for recorded in journal.events(ExperimentCommitted)][-1:]
    commit, failure = "", ""
    try:
        commit = branch.commit(experiment, source, first, head, journal.metric())
    except RecordFailed as error:  # a lock of another git, or a full disk: the record has the file
        failure = (
            f"experiment {experiment.id} is no git commit: {error}; the next session tries to commit the best again"
        )
    journal.append(ExperimentCommitted(experiment_id=experiment.id, commit=commit))
    if failure:
        journal.note(failure)
    parent = files.read_text(experiment_dir.parent_path(experiment.folder))
    last = (read_source(journal.experiment(number)) for number in placed)
    if not branch.put(source, ours=(parent, source, *last)):  # the parent may be an older one
        journal.note(
            f"{branch.path} was edited by hand and is left as it is: what this run keeps is not put there, but is in"
            f" {journal.folder}, as {experiment_dir.source_path(experiment.folder).name} of each experiment"
        )
    experiment_dir.write_results(journal.folder, journal.experiments(), journal.metric())


def reload_candidate(journal: Journal, experiment_id: int) -> Candidate:
    """Return the candidate of an earlier experiment, from its folder and the journal."""
    folder = journal.folder / f"{experiment_id:04d}"
    begun = journal.begun(experiment_id)
    source = experiment_dir.source_path(folder)
    texts = {name: files.read_text(folder / name) for name in ("prompt.txt", "reply.txt")}
    return Candidate(
        proposal=begun.proposal,
        source=files.read_text(source),
        parent_id=begun.parent_id,
        parent_source=files.read_text(experiment_dir.parent_path(folder)),
        reply=replace(begun.reply, prompt=texts["prompt.txt"], text=texts["reply.txt"]),
        attempt=begun.attempt,
        retry_of=begun.retry_of,
        remeasures_id=begun.remeasures_id,
        removes_id=begun.removes_id,
        patch_notes=begun.patch_notes,
        suffix=source.suffix,
    )


def require_same_inputs(journal: Journal, environment: Environment) -> None:
    """Raise ConfigError if what scores here did not score the baseline: an easier text is not a better model."""
    baseline = journal.baseline()
    if baseline is None:
        return
    before = journal.begun(baseline.id).environment
    for name, what in INPUTS.items():
        old, new = getattr(before, name), getattr(environment, name)
        if old != new:
            raise ConfigError(
                f"run {journal.folder.name} was scored {what} ({name} {old[:12]}, now {new[:12]}), and scores of both"
                " do not compare: use its own --data and --profile, restore the files, or start another run with"
                " --run NAME"
            )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
