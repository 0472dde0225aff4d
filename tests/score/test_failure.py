"""How a container that did not end well failed, and what is said of it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.execution.early_end import TrainingWatch
from orchestrator.execution.experiment import _ExperimentDriver, explain, failure_of, ignore
from orchestrator.scoring.messages import NoAnswerMessage
from orchestrator.types import Level, Plan, Role, Score, Stages, Status, Trial
from tests.support import fakes

FULL = (
    'Traceback (most recent call last):\n  File "/mutable/train.py", line 349, in train\n'
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of 79.11 GiB\n"
)  # fmt: skip
ADVICE = (
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be"
    " incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable"
    " device-side assertions.\n\n"
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"log_tail": FULL}, None),
        ({"exit_code": 1}, Status.CRASH),
        ({"exit_code": 1, "log_tail": FULL}, Status.OOM),
        ({"exit_code": 1, "log_tail": FULL.replace("torch.", "torch.cuda.")}, Status.OOM),
        ({"exit_code": 1, "log_tail": FULL + "\n".join(["then", "another", "error"] * 4)}, Status.CRASH),
        ({"exit_code": 137, "oom_killed": True}, Status.OOM),
        ({"exit_code": None, "timed_out": True, "log_tail": FULL}, Status.TIMEOUT),
    ],
)
def test_a_failure_has_one_name(facts: dict[str, object], expected: Status | None) -> None:
    """A GPU that was full is told by the last words of the traceback, and only of a program that failed."""
    assert expected is failure_of(fakes.execution(**facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("AcceleratorError: CUDA error: out of memory", Status.OOM),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Status.OOM),
        ("torch._inductor.exc.InductorError: OutOfMemoryError: CUDA out of memory.", Status.OOM),
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", Status.INFRA),
        ("RuntimeError: CUDA error: uncorrectable NVLink error detected during the execution", Status.INFRA),
        ("RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", Status.INFRA),
        ("NVMLError_GpuIsLost: GPU is lost", Status.INFRA),
        ("torch.AcceleratorError: CUDA error: unspecified launch failure", Status.CRASH),
        ("torch.AcceleratorError: CUDA error: device-side assert triggered", Status.CRASH),
    ],
)
def test_what_cuda_says_is_known_in_every_form(said: str, expected: Status) -> None:
    """With CUDA's advice behind it, and only of a program that failed; a broken GPU is not the patch's fault."""
    ended = fakes.execution(exit_code=1, log_tail=f"Traceback (most recent call last):\n{said}\n{ADVICE}")

    assert expected is failure_of(ended)
    assert failure_of(fakes.execution(log_tail=said)) is None


def test_a_broken_gpu_is_not_called_killed() -> None:
    """Nor is the engine blamed."""
    said = explain(Status.INFRA, "train.py", fakes.execution(exit_code=1, log_tail="uncorrectable ECC error"))

    assert said.startswith(
        "train.py could not use its GPU, which is broken or somebody else's: see `autoresearch doctor`\n"
    )
    assert "was killed from outside" in explain(Status.INFRA, "train.py", fakes.execution(killed_by="something"))


def test_a_full_gpu_is_not_called_killed() -> None:
    """The fix is for the memory that was short."""
    said = explain(Status.OOM, "train.py", fakes.execution(exit_code=1, log_tail=FULL))

    assert said.startswith("train.py ran out of GPU memory: make the model or its batches smaller\nTraceback")
    assert "was killed for memory" in explain(Status.OOM, "train.py", fakes.execution(exit_code=137, oom_killed=True))


@pytest.mark.parametrize(
    ("line", "expected"), [("rehearsed: b", Status.INFRA), ('{"event": "rehearsed", "predictor": "b"}', Status.CRASH)]
)
def test_a_predictor_talks_itself_into_no_second_audit(line: str, expected: Status) -> None:
    """Before it has seen validation text its GPU may be broken; later a liar that is about to be caught says so too."""
    died = fakes.execution(Role.PREDICTOR_B, exit_code=1, log_tail="CUDA error: uncorrectable ECC error encountered")
    turn = driver()
    turn.heard(Role.SCORER, line)
    running = cast("Any", SimpleNamespace(wait=lambda: died, kill=lambda _: None))

    assert expected is turn.predictor_died(running, running).failure


CLAIMS = '{"event": "claims", "sha256": "' + "ab" * 32 + '"}'
SCORE = (
    '{"event": "score", "metric": "val_bpb", "value": 2.0625, "level": "L2", "standard_error": 1e-06,'
    ' "audited_positions": 256}'
)


def driver() -> _ExperimentDriver:
    """Return an experiment under way in a sandbox of which only the settings are there."""
    profile = SimpleNamespace(time_budget_s=25.0, load_budget_s=3.0, score_budget_s=30.0)
    config = SimpleNamespace(
        task=SimpleNamespace(metric="val_bpb", direction="lower", range=None),
        active_profile=profile,
        recording=SimpleNamespace(checkpoints=False),
    )
    box = SimpleNamespace(stages=Stages.TRAIN, experiment_id=1, running=[], place=SimpleNamespace(config=config))
    plan = Plan(train_seed=1, audit_seed=bytes(32))
    return _ExperimentDriver(
        box=cast("Any", box),
        record=ignore,
        show=ignore,
        plan=plan,
        best=None,
        ended=[fakes.execution()],
        watch=TrainingWatch(time_budget_s=25.0, sees_idle=True),
    )


def judged(*lines: str, **scorer: object) -> Trial:
    """Return the trial whose scorer printed these lines and ended so."""
    turn = driver()
    for line in lines:
        turn.heard(Role.SCORER, line)
    second = cast("Any", SimpleNamespace(wait=lambda: fakes.execution(Role.PREDICTOR_B), kill=lambda _: None))
    return turn.judge(fakes.execution(Role.SCORER, **scorer), second)


def test_a_score_is_one_message_of_a_scorer_that_ended_well() -> None:
    """With the hash of its checkpoint and the audit seed, which is revealed now."""
    digest = "cd" * 32
    trial = judged('{"event": "checkpoint", "sha256": "' + digest + '", "bytes": 7}', CLAIMS, SCORE)

    assert (None, digest, 7) == (trial.failure, trial.checkpoint_sha256, trial.checkpoint_bytes)
    assert trial.score == Score(
        value=2.0625, level=Level.L2, standard_error=1e-6, audited_positions=256, claims_sha256="ab" * 32,
        audit_seed="00" * 32,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "scorer", "expected"),
    [
        ((), {}, (Status.INFRA, "what docs/tasks.md says: expected exactly one score")),
        (("val_bpb: 0.1", "level: L2"), {}, (Status.INFRA, "expected exactly one score")),
        ((CLAIMS, SCORE, SCORE), {}, (Status.INFRA, "message, got 2")),
        ((SCORE,), {}, (Status.INFRA, "level L2 needs exactly one claims message")),
        ((CLAIMS, SCORE.replace("val_bpb", "val_rmse")), {}, (Status.INFRA, "metric is 'val_rmse'")),
        ((CLAIMS, SCORE.replace("2.0625", "NaN")), {}, (Status.INFRA, "value: Input should be a finite number")),
        ((CLAIMS, SCORE.replace("standard_error", "error")), {}, (Status.INFRA, "score message: error: Extra inputs")),
        ((CLAIMS, SCORE), {"exit_code": 1}, (Status.INFRA, "the scorer failed with exit code 1")),
        ((CLAIMS,), {"exit_code": 4}, (Status.INFRA, "the scorer failed with exit code 4")),
        ((CLAIMS, SCORE), {"timed_out": True, "exit_code": None}, (Status.TIMEOUT, "did not answer within 30 s")),
        ((CLAIMS, '{"event": "no_answer", "reason": "r"}'), {"exit_code": 4}, (Status.TIMEOUT, "within 30 s")),
        (('{"event": "too_slow", "reason": "r"}',), {"exit_code": 4}, (Status.TIMEOUT, "r: the training took 20.0 of")),
        (('{"event": "refused", "reason": "r"}',), {"exit_code": 3}, (Status.CHEAT, "the scorer refused it: r")),
        ((CLAIMS, SCORE, '{"event": "refused", "reason": "r"}'), {}, (Status.CHEAT, "the scorer refused it: r")),
        (('{"event": "unsteady"}', '{"event": "refused", "reason": "r"}'), {"exit_code": 3}, (Status.CHEAT, "eval()")),
    ],
)  # fmt: skip
def test_everything_else_has_no_score(
    lines: tuple[str, ...], scorer: dict[str, object], expected: tuple[Status, str]
) -> None:
    """A broken contract is never the patch's fault, a refusal always stands, and both say why."""
    trial = judged(*lines, **scorer)

    assert trial.score is None
    assert expected[0] is trial.failure
    assert expected[1] in trial.message


def test_what_a_program_of_the_patch_prints_is_never_a_message() -> None:
    """Only the scorer's container is listened to."""
    turn = driver()
    for role in (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.EXPORTER):
        turn.heard(role, CLAIMS)
        turn.heard(role, SCORE)

    assert [] == turn.messages
    assert not turn.claimed.is_set()
    turn.heard(Role.SCORER, CLAIMS)
    assert turn.claimed.is_set()


def test_a_broken_message_ends_the_experiment_at_once() -> None:
    """Else its scorer would wait for a seed until its time is up, and the patch would be blamed."""
    turn, killed = driver(), list[str]()
    turn.box.running.append(cast("Any", SimpleNamespace(kill=killed.append)))
    turn.heard(Role.SCORER, '{"event": "claims"}')

    assert ["the scorer's output is not what docs/tasks.md says: claims message: sha256: Field required"] == killed
    assert Status.INFRA is turn.trial(Status.TIMEOUT, "it was slow").failure


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, None), (1.5, None), (1.500001, Status.CRASH), (-1.0, Status.CRASH)]
)
def test_a_score_outside_of_the_task_s_range_is_not_believed(value: float, expected: Status | None) -> None:
    """It is no score, names metric, number and range, and a person should look."""
    turn = driver()
    turn.box.place.config.task.range = (0.0, 1.5)  # type: ignore[misc]
    trial = turn.believe(Score(value=value, level=Level.L1))

    assert expected is trial.failure
    assert (expected is None) == (trial.score is not None)
    assert expected is None or (f"val_bpb is {value!r}, outside of [0, 1.5]" in trial.message and trial.needs_review)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (Stages.TRAIN, "load_model or"),
        (Stages.ANSWER, "the program did not"),
        (Stages.SCORE, "locked/score.py was not done"),
    ],
)
def test_what_was_too_slow_is_named_by_the_kind_of_task(stages: Stages, expected: str) -> None:
    """Where a text is scored there is no program that could be made faster, nor a model."""
    turn = driver()
    turn.box.stages = stages  # type: ignore[misc]

    assert turn.timeout(NoAnswerMessage(event="no_answer", reason="r")).message.startswith(expected)


@pytest.mark.parametrize("dies", [False, True])
def test_a_scorer_that_has_all_answers_goes_on_without_the_candidate(dies: bool) -> None:
    """It is told when the candidate is gone, which is ended then and blamed for nothing, also if it ended by itself."""
    turn, happened = driver(), list[str]()
    gone = set[Role]()

    def running(role: Role) -> Any:  # a container
        def alive() -> bool:
            if role is Role.SCORER and not turn.claimed.is_set():
                turn.heard(Role.SCORER, CLAIMS)
                gone.update({Role.ANSWERER} if dies else ())
            if role is Role.SCORER and "candidate gone" in happened:
                gone.add(role)
            return role not in gone

        def kill(why: str) -> None:
            happened.append(f"{role}: {why}")
            gone.add(role)

        return SimpleNamespace(alive=alive, kill=kill, wait=lambda: fakes.execution(role))

    turn.box = cast("Any", SimpleNamespace(
        stages=Stages.ANSWER, experiment_id=1, running=[], place=turn.box.place, deadline_s=lambda _: 9.0,
        start=lambda role, **_: SimpleNamespace(id="c", **vars(running(role))),
        signal_candidate_ended=lambda: happened.append("candidate gone"),
    ))  # fmt: skip
    turn.heard(Role.SCORER, SCORE)
    trial = turn.run_answers()

    assert ["answerer: its answers are in", "candidate gone", "reference: the score is in"] == happened
    assert trial.score and (None, 2.0625) == (trial.failure, trial.score.value)
