"""What a trial's failure is called, and what the LLM and the human are told to do about it. Pure."""

import re
from dataclasses import replace

from orchestrator.types import ExecutionResult, Stages, Status, Trial
from orchestrator.walls.container import OUTSIDE

FIXES = {
    Status.TIMEOUT: "was still running at its deadline: end before prepare.time_left() is over",
    Status.OOM: "was killed for memory: make it smaller",
    Status.INFRA: "was killed from outside its container: did the container engine restart?",
}
UNANSWERED = {  # within the time for scoring
    Stages.TRAIN: "load_model or the model it returns did not answer within {:g} s, which is for a few hundred forward"
    " passes: make loading and inference faster",
    Stages.ANSWER: "the program did not answer within {:g} s: make it faster",
    Stages.SCORE: "locked/score.py was not done with this file within {:g} s: make it quicker to read, or raise"
    " score_budget_s in task.toml",
}
SLOW = (
    "{}: the training took {:.1f} of its {:g} s, and what it leaves is for load_model, with {:g} s on top: train less,"
    " or make loading faster. What a model takes longer for its first answers than for others counts as loading"
)
UNSEEN = (
    "the model that load_model returns failed on validation data, after it had answered random inputs; its output is"
    " not shown, for it may hold that data: look for values that depend on the inputs, a logarithm of 0, NaN or"
    " growing memory"
)
UNSEEN_ANSWER = (
    "the program failed on a question of the scorer, after it had answered open ones; its output is not shown, for it"
    " may hold that question: look for values that it does not expect"
)
HINT = (
    "; hint: the same random rows got other answers when other rows stood beside them, so dropout or batch"
    " statistics may still be on (call model.eval()), or answers depend on other rows, on chance or on earlier calls"
)
DIVERGED = "; hint: the last loss that the training itself printed was NaN or infinite"
SUSPECT = "it ended or fell silent during the audit, which could not be finished; "
BROKEN_CONTRACT = "the scorer's output is not what docs/tasks.md says: {}"
UNREPORTED = "ended well, but printed no line `{}: <number>`, which is its score here"
OUT_OF_RANGE = (
    "{} is {!r}, outside of [{:g}, {:g}], so it is not believed: look at the scorer's log, or mend `range` in task.toml"
)
GPU_FULL = re.compile("OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
GPU_FULL_FIX = "ran out of GPU memory: make the model or its batches smaller"
GPU_BROKEN = re.compile(r"uncorrectable (?:ECC|NVLink) error|GPU is lost|device\(s\) is/are busy or unavailable")
GPU_BROKEN_FIX = "could not use its GPU, which is broken or somebody else's: see `autoresearch doctor`"
TRACEBACK_END = 10  # lines: CUDA's errors have advice behind them
LOST = (
    "Look for a learning rate that is too high, a division by zero, a logarithm of 0, or something that waits for ever"
)
NO_SPACE = "No space left on device"


def unless_changed(trial: Trial, changed: list[str]) -> Trial:
    """Return the trial, or a cheat in its place: changing a read-only file takes an escape from the walls."""
    if not changed:
        return trial
    message = f"locked files changed while it ran, which only code that broke out can do: {', '.join(changed)}"
    return replace(trial, score=None, failure=Status.CHEAT, message=message)


def failure_of(result: ExecutionResult) -> Status | None:
    """Return how an untrusted container failed, None if it ended as it should.

    That a GPU was full or broken only its own words say; as they only make one failure another, nothing is to be won by
    them: what is run again for our failure is so three times at most.
    """
    if result.timed_out:
        return Status.TIMEOUT
    if result.oom_killed:
        return Status.OOM
    if result.killed_by == OUTSIDE:
        return Status.INFRA
    if result.exit_code == 0:
        return None
    if _ends_with(result, GPU_BROKEN):
        return Status.INFRA
    return Status.OOM if _ends_with(result, GPU_FULL) else Status.CRASH


def explain(failure: Status, what: str, result: ExecutionResult) -> str:
    """Explain to the LLM and the human what failed, with the end of its output."""
    fix = FIXES.get(failure, f"ended with exit code {result.exit_code}")
    fix = GPU_FULL_FIX if failure is Status.OOM and not result.oom_killed else fix
    fix = GPU_BROKEN_FIX if failure is Status.INFRA and not result.killed_by else fix
    return f"{what} {fix}\n{result.log_tail[-2000:]}".strip()


def _ends_with(result: ExecutionResult, words: re.Pattern[str]) -> bool:
    return bool(words.search("\n".join(result.log_tail.rstrip().splitlines()[-TRACEBACK_END:])))
