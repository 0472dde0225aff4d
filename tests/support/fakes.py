"""Small working stand-ins for what lies beyond a test: no mock library, no patching."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import PatchRejected
from orchestrator.types import (
    Candidate,
    Context,
    Edit,
    Environment,
    ExecutionResult,
    Level,
    MachineLoad,
    Plan,
    Proposal,
    Reply,
    Role,
    Score,
    Status,
    Trial,
    Usage,
)

TRAIN_PY = '''"""A train.py that keeps the contract."""

LEARNING_RATE = 0.02


def load_model(path, device):
    return lambda tokens: tokens


if __name__ == "__main__":
    print("trained", LEARNING_RATE)
'''


@dataclass(slots=True)
class ScriptedProposer:
    """Proposes learning rates from a list, one after the other; a string that is no number is no patch."""

    rates: list[str]
    name: str = "scripted"
    asked: int = 0
    cost_usd: float = 0.0

    def ask(self, context: Context) -> Reply:
        """The next rate of the script, as the JSON a model would answer."""
        rate = self.rates[self.asked % len(self.rates)]
        self.asked += 1
        now = next(line for line in context.champion_source.splitlines() if line.startswith("LEARNING_RATE"))
        text = json.dumps({"search": now, "replace": f"LEARNING_RATE = {rate}"})
        usage = Usage(input_tokens=100, output_tokens=10, cost_usd=self.cost_usd)
        prompt, parent_id = f"best is {context.champion.id}", context.champion.id
        return Reply(proposer=self.name, model="script", prompt=prompt, text=text, usage=usage, parent_id=parent_id)

    def read(self, reply: Reply) -> Proposal:
        """Parse what `ask` wrote."""
        data = json.loads(reply.text)
        if "nonsense" in data["replace"]:
            raise PatchRejected("nonsense is no number")
        edit = Edit(search=data["search"], replace=data["replace"])
        return Proposal(hypothesis=f"try {data['replace']}", edits=(edit,))


@dataclass(slots=True)
class ArithmeticRunner:
    """Scores a candidate by a function of its source; runs nothing."""

    score: Callable[[str], Trial]
    ran: list[str] = field(default_factory=list)
    below: list[float | None] = field(default_factory=list)  # None: audited in full in any case
    hardware: str = "arithmetic"
    more: dict[str, Any] = field(default_factory=dict)  # of the environment
    wait: Callable[[], bool] = lambda: False
    containers: tuple[str, ...] = ()  # that a test pretends it started
    stopped: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    given_back: threading.Event = field(default_factory=threading.Event)

    def environment(self) -> Environment:
        """Return an environment in which nothing runs."""
        return Environment(image_id="sha256:fake", hardware=self.hardware, **self.more)

    def ready(self) -> bool:
        """Return whether a test made it wait."""
        return self.wait()

    def give_back(self) -> None:
        """Remember it, for a test that waits for it."""
        self.given_back.set()

    def container_ids(self) -> tuple[str, ...]:
        """Return what a test says."""
        return self.containers

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Apply the function."""
        self.ran.append(candidate.source)
        self.below.append(best)
        return self.score(candidate.source)

    def stop(self) -> None:
        """Remember it; nothing runs for long."""
        self.stopped = True

    def end(self, why: str) -> None:
        """Remember that, too; a score that wants to can wait for it."""
        self.ended.set()


def execution(role: Role = Role.TRAINER, **changes: object) -> ExecutionResult:
    """A container that ended well."""
    values: dict[str, object] = {
        "role": role, "container_id": "c0ffee", "exit_code": 0, "oom_killed": False, "timed_out": False,
        "killed_by": None, "duration_s": 20.0, "deadline_s": 28.0, "log_tail": "",
    }  # fmt: skip
    return ExecutionResult(**(values | changes))  # type: ignore[arg-type]


def scored(value: float, k: int = 10_000, load: MachineLoad | None = None) -> Trial:
    """A trial that was scored at L2."""
    score = Score(value=value, level=Level.L2, standard_error=0.0, audited_positions=k)
    return Trial(executions=(execution(load=load),), score=score, failure=None, message="")


def broken(status: Status, message: str = "it broke") -> Trial:
    """A trial that has no score."""
    return Trial(executions=(execution(exit_code=1),), score=None, failure=status, message=message)


def rate_of(source: str) -> float:
    """The learning rate that a candidate holds."""
    line = next(line for line in source.splitlines() if line.startswith("LEARNING_RATE"))
    return float(line.split("=")[1])
