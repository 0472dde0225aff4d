"""The choreography of one experiment, by the stages of its task; each container is a fresh one.

train, predict, score: predictors and scorer wait (they hold the volumes) -> trainer trains and dies -> scorer collects
A's claims -> A is destroyed -> the host hands the audit seed to the scorer -> B answers prefixes -> the scorer sends
its score.
answer, score: the candidate's program and the task's reference answer the scorer's questions, which sends its score.
score: the scorer reads the mutable file and sends its score.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.errors import SandboxError
from orchestrator.events import ContainerStarted, Event, ScoringBegun
from orchestrator.execution.checkpoint_export import export_checkpoint
from orchestrator.execution.early_end import TrainingWatch
from orchestrator.execution.failures import (
    BROKEN_CONTRACT,
    DIVERGED,
    HINT,
    LOST,
    NO_SPACE,
    OUT_OF_RANGE,
    SLOW,
    SUSPECT,
    UNANSWERED,
    UNREPORTED,
    UNSEEN,
    UNSEEN_ANSWER,
    explain,
    failure_of,
    unless_changed,
)
from orchestrator.scoring.messages import (
    CheckpointMessage,
    ClaimsMessage,
    FailedMessage,
    Malformed,
    Message,
    NoAnswerMessage,
    Outcome,
    RefusedMessage,
    RehearsedMessage,
    TooSlowMessage,
    UnsteadyMessage,
    find_message,
    parse_message,
    read_outcome,
)
from orchestrator.scoring.self_reported import parse_reported
from orchestrator.types import Candidate, Environment, ExecutionResult, Kept, Plan, Role, Score, Stages, Status, Trial
from orchestrator.units import MIB
from orchestrator.walls.container import RunningContainer
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import SUFFIX, ExperimentSandbox

POLL_S = 0.05
ENDS = "the session ends"


def ignore(*_: object) -> None:
    """Do nothing with an event or a line, outside a session."""


def keep_nothing() -> Iterable[Kept]:
    """Return no kept files, outside a session."""
    return ()


def kept_before(candidate: Candidate, kept: Iterable[Kept]) -> tuple[Kept, ...]:
    """Return what a candidate is scored beside: all kept files; for one that is measured again, those before it.

    Beside itself a kept file would be a copy.
    """
    number = candidate.remeasures_id
    return tuple(one for one in kept if number is None or one.id < number)


@dataclass(slots=True, kw_only=True)
class ContainerRunner:
    """Runs candidates in containers of one engine, from one image, on one device."""

    place: ExecutionContext
    record: Callable[[Event], object] = ignore
    show: Callable[[int, Role, str], object] = ignore  # called with every line that a container of an experiment prints
    kept: Callable[[], Iterable[Kept]] = keep_nothing  # the files of the run that are kept now, in order
    stopped: threading.Event = field(default_factory=threading.Event)
    _driver: "_ExperimentDriver | None" = None  # of the trial that runs, or of the last one

    def environment(self) -> Environment:
        """Return where experiments run."""
        return self.place.describe()

    def ready(self) -> bool:
        """Return at once: whoever made it holds the device."""
        return False

    def give_back(self) -> None:
        """Do nothing: whoever made it holds the device."""

    def container_ids(self) -> Collection[str]:
        """Return the containers of the trial that runs, or of the last one."""
        return self._driver.container_ids() if self._driver else ()

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Train and score; blocks until every container is gone. Raises SandboxError."""
        kept = () if self.place.config.task.stages is Stages.TRAIN else kept_before(candidate, self.kept())
        with ExperimentSandbox.open(
            self.place, candidate, plan, experiment_id=experiment_id, folder=folder, kept=kept
        ) as box:
            profile = self.place.config.active_profile
            watch = TrainingWatch(time_budget_s=profile.time_budget_s, sees_idle=self.place.gpu_uuid is None)
            self._driver = driver = _ExperimentDriver(
                box=box, record=self.record, show=self.show, plan=plan, best=best, watch=watch
            )
            if self.stopped.is_set():
                driver.end(ENDS)
            return unless_changed(driver.run(), box.find_modified_inputs())

    def stop(self) -> None:
        """End what runs and start nothing more; from another thread."""
        self.stopped.set()
        self.end(ENDS)

    def end(self, why: str) -> None:
        """End what runs now, if anything does; from another thread."""
        if self._driver is not None:
            self._driver.end(why)


@dataclass(slots=True, kw_only=True)
class _ExperimentDriver:
    box: ExperimentSandbox
    record: Callable[[Event], object]
    show: Callable[[int, Role, str], object]
    plan: Plan
    best: float | None
    watch: TrainingWatch
    lost: str = ""  # why its training was ended early
    ending: str = ""  # why it is over before its end
    messages: list[Message | Malformed] = field(default_factory=list)  # the scorer's
    claimed: threading.Event = field(default_factory=threading.Event)
    ended: list[ExecutionResult] = field(default_factory=list)
    checkpoint: Path | None = None  # its copy on the host

    def container_ids(self) -> list[str]:
        return [running.id for running in self.box.running[:]]

    def end(self, why: str) -> None:
        self.ending = self.ending or why
        for running in self.box.running[:]:
            running.kill(why)

    def run(self) -> Trial:
        if self.box.stages is not Stages.TRAIN:  # nothing to wait for: the scorer alone decides when it asks
            self.box.signal_training_done(self.box.place.config.active_profile.load_budget_s)
            self.box.release_audit_seed(self.plan.audit_seed)
        match self.box.stages:
            case Stages.TRAIN:
                return self.run_training()
            case Stages.ANSWER:
                return self.run_answers()
            case Stages.SCORE:
                self.record_scoring()
                return self.conclude(self.wait(self.start(Role.SCORER)))

    def run_answers(self) -> Trial:
        with ThreadPoolExecutor(3) as pool:
            candidate, reference, scorer = pool.map(self.start, (Role.ANSWERER, Role.REFERENCE, Role.SCORER))
        programs = [candidate, reference]
        self.record_scoring()
        while scorer.alive():
            if candidate in programs and self.claimed.is_set():  # the scorer goes on with the reference alone
                programs.remove(candidate)
                candidate.kill("its answers are in")
                self.wait(candidate)
                self.box.signal_candidate_ended()
            for program in programs:
                if not program.alive() and scorer.alive():
                    return self.answerer_died(scorer, program)
            time.sleep(POLL_S)
        for program in programs:
            program.kill("the score is in")
            self.wait(program)
        return self.conclude(self.wait(scorer))

    def answerer_died(self, scorer: RunningContainer, program: RunningContainer) -> Trial:
        died = self.wait(program)
        scorer.kill("a program ended")
        self.wait(scorer)
        failure = failure_of(died) or Status.CRASH
        if died.role is Role.REFERENCE:
            return self.trial(Status.INFRA, explain(failure, "the task's reference", died))
        if self.rehearsed(died.role):
            return self.trial(
                Status.CRASH if failure is Status.INFRA and not died.killed_by else failure, UNSEEN_ANSWER
            )
        return self.trial(failure, explain(failure, "the program", died))

    def record_scoring(self) -> None:
        deadline_s = self.box.place.config.active_profile.score_budget_s
        self.record(ScoringBegun(experiment_id=self.box.experiment_id, deadline_s=deadline_s))

    def run_training(self) -> Trial:
        if self.box.place.config.self_reported:
            return self.reported(self.train())
        with ThreadPoolExecutor(3) as pool:
            waiting = list(pool.map(self.start, (Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER)))
        trained = self.train()
        if (failure := failure_of(trained)) is not None:
            return self.untrained(failure, trained)
        return self.score(*waiting)

    def train(self) -> ExecutionResult:
        """Run the trainer to its end, or until its training is lost."""
        trainer = self.start(Role.TRAINER)
        while trainer.alive() and not self.lost:
            self.end_training(self.watch.look(trainer.cpu_s, time.monotonic()))
            time.sleep(POLL_S)
        return self.wait(trainer)

    def end_training(self, why: str) -> None:
        """End the trainer, if there is a reason; from the thread that reads its output too."""
        trainers = [running for running in self.box.running[:] if running.spec.role is Role.TRAINER and running.alive()]
        if why and trainers and not self.lost:
            self.lost = why
            for running in trainers:
                running.kill(why)

    def untrained(self, failure: Status, trained: ExecutionResult) -> Trial:
        """Return the trial of a training that failed, with the trainer's own words."""
        if self.lost and trained.killed_by == self.lost:
            return self.trial(
                Status.CRASH, f"train.py was ended early: {self.lost}. {LOST}\n{trained.log_tail[-2000:]}"
            )
        return self.trial(failure, explain(failure, "train.py", trained) + self.hint(trained.log_tail))

    def reported(self, trained: ExecutionResult) -> Trial:
        if (failure := failure_of(trained)) is not None:
            return self.untrained(failure, trained)
        task = self.box.place.config.task
        score = parse_reported(trained.log_tail, task.metric)
        if score is None:
            return self.trial(Status.CRASH, f"train.py {UNREPORTED.format(task.metric)}\n{trained.log_tail[-2000:]}")
        return self.believe(replace(score, higher_is_better=task.direction == "higher"))

    def score(self, first: RunningContainer, second: RunningContainer, scorer: RunningContainer) -> Trial:
        self.box.signal_training_done(self.load_budget_s())
        self.record_scoring()
        while not self.claimed.wait(POLL_S) and scorer.alive():
            if not first.alive():
                return self.predictor_died(scorer, first)
        first.kill("its claims are in")
        self.wait(first)
        self.box.release_audit_seed(self.plan.audit_seed)
        while scorer.alive():
            if not second.alive() and scorer.alive():
                time.sleep(POLL_S)
                return self.predictor_died(scorer, second)
            time.sleep(POLL_S)
        return self.judge(self.wait(scorer), second)

    def load_budget_s(self) -> float:
        """Return the seconds load_model may take: training and loading share a budget, so delay gains nothing."""
        box = self.box.place.config.active_profile
        return max(0.0, box.load_budget_s + box.time_budget_s - self.ended[0].duration_s)

    def judge(self, scorer: ExecutionResult, second: RunningContainer) -> Trial:
        outcome = read_outcome(self.messages, self.box.place.config.task.metric)
        if scorer.exit_code == 0 and isinstance(outcome, Score):
            self.export(replace(outcome, higher_is_better=self.box.place.config.task.direction == "higher"))
        second.kill("the score is in")
        self.wait(second)
        return self.conclude(scorer)

    def conclude(self, scorer: ExecutionResult) -> Trial:
        """Return the trial that the scorer's messages amount to."""
        outcome = read_outcome(
            self.messages, self.box.place.config.task.metric, with_claims=self.box.stages is Stages.TRAIN
        )
        if isinstance(outcome, RefusedMessage):
            hint = HINT if find_message(self.messages, UnsteadyMessage) else ""
            return self.trial(Status.CHEAT, f"the scorer refused it: {outcome.reason}{hint}{self.diverged()}")
        if isinstance(outcome, FailedMessage):
            return self.trial(Status.CRASH, outcome.reason)
        if isinstance(outcome, TooSlowMessage | NoAnswerMessage) or scorer.timed_out:
            return self.timeout(outcome)
        if scorer.exit_code != 0:
            return self.trial(
                Status.INFRA, f"the scorer failed with exit code {scorer.exit_code}: {scorer.log_tail[-500:]}"
            )
        if isinstance(outcome, Malformed):
            return self.trial(Status.INFRA, BROKEN_CONTRACT.format(outcome.reason))
        task = self.box.place.config.task
        return self.believe(replace(
            outcome, audit_seed=self.plan.audit_seed.hex(), higher_is_better=task.direction == "higher"
        ))  # fmt: skip

    def believe(self, score: Score) -> Trial:
        """Return a trial with a score, unless that leaves the range in which the task's scores can be."""
        task = self.box.place.config.task
        if task.range is not None and not task.range[0] <= score.value <= task.range[1]:
            low, high = task.range
            return self.trial(Status.CRASH, OUT_OF_RANGE.format(task.metric, score.value, low, high), needs_review=True)
        return self.trial(None, "", score)

    def timeout(self, outcome: Outcome) -> Trial:
        profile, stages = self.box.place.config.active_profile, self.box.stages
        if isinstance(outcome, TooSlowMessage):
            trained_s, budgets = self.ended[0].duration_s, (profile.time_budget_s, profile.load_budget_s)
            return self.trial(
                Status.TIMEOUT,
                SLOW.format(outcome.reason, trained_s, *budgets) if stages is Stages.TRAIN else outcome.reason,
            )
        unanswered = UNANSWERED[stages].format(profile.score_budget_s)
        return self.trial(Status.TIMEOUT, self.suspicion() + unanswered, needs_review=bool(self.suspicion()))

    def export(self, score: Score) -> None:
        """Copy the checkpoint of a would-be champion to the host, while B still holds the volume."""
        recording = self.box.place.config.recording
        if recording.checkpoints and (self.best is None or score.sign * score.value < score.sign * self.best):
            message = find_message(self.messages, CheckpointMessage)
            expected = message.sha256 if message else ""
            result, self.checkpoint = export_checkpoint(self.box, recording.checkpoint_mb * MIB, expected)
            self.ended += [] if result is None else [result]

    def predictor_died(self, scorer: RunningContainer, predictor: RunningContainer) -> Trial:
        died = self.wait(predictor)
        scorer.kill("a predictor died")
        self.wait(scorer)
        failure = failure_of(died) or Status.CRASH
        if self.rehearsed(died.role):
            if failure is Status.INFRA and not died.killed_by:  # its word alone, and another audit is what a liar wants
                failure = Status.CRASH
            return self.trial(failure, self.suspicion() + UNSEEN + self.diverged(), needs_review=bool(self.suspicion()))
        return self.trial(failure, explain(failure, "load_model or the model it returns", died))

    def rehearsed(self, role: Role) -> bool:
        """Return True if a predictor has answered random inputs, so that it failed on validation data."""
        return any(isinstance(m, RehearsedMessage) and m.predictor == SUFFIX[role] for m in self.messages)

    def diverged(self) -> str:
        """Return a hint for the LLM where the training's own last words explain what failed after it."""
        return DIVERGED if self.watch.last_loss_was_lost else ""

    def suspicion(self) -> str:
        """Describe an audit that its predictor cut short: a liar about to be caught could do that."""
        return SUSPECT if self.rehearsed(Role.PREDICTOR_B) else ""

    def hint(self, output: str) -> str:
        size = self.box.place.config.active_profile.out_mb
        return f"\nhint: the checkpoint must fit into {size} MiB" if NO_SPACE in output else ""

    def start(self, role: Role) -> RunningContainer:
        running = self.box.start(role, best=self.best, on_line=lambda text: self.heard(role, text))
        if self.ending:  # it may have come too late to be killed with the others
            raise SandboxError(self.ending)
        self.record(
            ContainerStarted(
                experiment_id=self.box.experiment_id, role=role, container_id=running.id,
                deadline_s=self.box.deadline_s(role),
            )
        )  # fmt: skip
        return running

    def wait(self, running: RunningContainer) -> ExecutionResult:
        result = running.wait()
        self.ended.append(result)
        return result

    def heard(self, role: Role, text: str) -> None:
        if role is Role.SCORER and (message := parse_message(text)) is not None:
            self.messages.append(message)
            if isinstance(message, ClaimsMessage):
                self.claimed.set()
            if isinstance(message, Malformed):  # it would wait for an answer to what it did not say
                self.end(BROKEN_CONTRACT.format(message.reason))
        if role is Role.TRAINER:
            self.end_training(self.watch.hear(text, time.monotonic()))
        self.show(self.box.experiment_id, role, text)

    def trial(
        self, failure: Status | None, message: str, score: Score | None = None, *, needs_review: bool = False
    ) -> Trial:
        if self.ending and failure is not Status.CHEAT:  # what was killed says nothing of itself
            failure, message, score = Status.INFRA, self.ending, None
        checkpoint_message = find_message(self.messages, CheckpointMessage)
        return Trial(
            executions=tuple(self.ended), score=score, failure=failure, message=message,
            checkpoint_sha256=checkpoint_message.sha256 if checkpoint_message else "",
            checkpoint_bytes=(checkpoint_message.bytes if checkpoint_message else None) or 0,
            checkpoint_file=self.checkpoint, needs_review=needs_review,
        )  # fmt: skip
