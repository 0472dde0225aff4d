"""A made-up run, recorded as a real one is: journal, folders, specs and what an engine reports."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.events import (
    ExperimentBegun,
    ExperimentCommitted,
    ExperimentFinished,
    ReplyReceived,
    SessionEnded,
    SessionStarted,
)
from orchestrator.record import experiment_dir
from orchestrator.record.journal import Journal
from orchestrator.types import (
    Candidate,
    Environment,
    ExecutionResult,
    Experiment,
    Level,
    Plan,
    Proposal,
    Reply,
    Role,
    Score,
    Status,
    Usage,
)
from orchestrator.units import MIB
from orchestrator.walls.create_body import create_body
from orchestrator.walls.spec import ContainerSpec, Mount, Resources
from tests.support.boxes import ENVIRONMENT

ROOT = Path(__file__).parents[2]
SECCOMP = (ROOT / "sandbox" / "seccomp.json").read_text(encoding="utf-8")
IMAGE = "sha256:" + "f5b83a06f70e1ca9" * 4
ENVIRONMENT_OF_RUN = Environment(
    image_id=IMAGE, hardware="NVIDIA H100 80GB HBM3", gpu_uuid="GPU-5c1f3a52-0000-0000-0000-000000000000",
    engine="docker 27.3.1", runtime="nvidia", kernel="6.8.0", tier="container, rootful", driver="570.86.15",
    seccomp_sha256=hashlib.sha256(SECCOMP.encode()).hexdigest(),
)  # fmt: skip
IDEAS = (
    "Halve the learning-rate warm-up: the run is short, and most of it is spent below the useful rate",
    "Untie the input and output embeddings, which the small vocabulary makes cheap",
    "Rotary positions with a base of 500 instead of 10 000, for these short rows",
    "A squared ReLU instead of GELU in the feed-forward layers",
    "Weight decay on matrices only, and none on norms and embeddings",
    "Muon for the hidden matrices, AdamW for everything else",
    "One layer more, paid for by a head dimension of 48",
    "Cosine decay to a tenth instead of to zero",
    "Normalise queries and keys before attention so that the rate can be raised by half",
    "Twice the batch, two thirds of the steps",
)
ENDS = (Status.DISCARD,) * 11 + (
    Status.CRASH, Status.CRASH, Status.TIMEOUT, Status.OOM, Status.INVALID, Status.CHEAT, Status.INFRA, Status.CONTENDED
)  # fmt: skip
REASONS = {
    Status.CRASH: "ended with exit code 1\nRuntimeError: mat1 and mat2 cannot be multiplied (4096x384, 512x9)",
    Status.TIMEOUT: "train.py was still running at its deadline: end before prepare.time_left() is over",
    Status.OOM: "train.py was killed for memory: make it smaller",
    Status.INVALID: "search text matches more than once (lines 3, 9); include more context",
    Status.CHEAT: "the scorer refused it: audited and claimed differ by 3.1 nats at one position, the cap is 0.5",
    Status.INFRA: "the engine did not answer for 30 s",
    Status.CONTENDED: "not judged: pid 4711 of user kim used the device too",
}
Say = Callable[[str, str], str]


@dataclass(slots=True, kw_only=True)
class RunWriter:
    """Writes experiments into one journal; `say` may replace the words of any field."""

    journal: Journal
    say: Say = lambda _field, words: words
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311
    best: Experiment | None = None
    best_bpb: float = 1.4823
    source: str = (ROOT / "mutable" / "train.py").read_text(encoding="utf-8")
    prompt: str = "\n\n".join(IDEAS) * 12

    def run(self, experiments: int) -> None:
        """Record a baseline of three trials, and so many experiments after it."""
        started = SessionStarted(
            task="language-model", metric="val_bpb", proposer="claude", environment=ENVIRONMENT_OF_RUN
        )
        self.journal.append(started)
        self.add(Status.KEEP, self.best_bpb)
        for number in range(1, experiments + 1):
            gain = number in (2, 3, 7, 12, 13, 21, 34, 48, 60, 77) or number % 90 == 0
            status = Status.KEEP if gain else self.dice.choice(ENDS)
            left = self.best_bpb - 1.28
            better = self.best_bpb - left * self.dice.uniform(0.05, 0.25)
            worse = self.best_bpb + self.dice.expovariate(25) + (1.7 if self.dice.random() < 0.01 else 0)
            self.add(status, better if gain else worse if status is Status.DISCARD else None)
        self.journal.append(SessionEnded(reason=f"{experiments} experiments done", limit_reached=True))

    def add(self, status: Status, value: float | None) -> Experiment:
        """Record one finished experiment."""
        number = self.journal.next_id()
        baseline = self.best is None
        idea = "baseline: train.py as it is" if baseline else self.dice.choice(IDEAS)
        folder = self.journal.folder / f"{number:04d}"
        after = self.source.replace("import math\n", f"import math\n# {self.say('diff', idea)}\nTRIED = {number}\n", 1)
        cost = 0.0 if baseline else round(self.dice.uniform(0.02, 0.09), 4)
        usage = Usage(input_tokens=2100, output_tokens=900, cache_read_input_tokens=14_000, cost_usd=cost)
        reply = Reply(
            proposer="baseline" if baseline else "claude", model="" if baseline else "claude-opus-4-5",
            prompt=self.say("prompt", self.prompt), usage=usage,
            text=self.say("reply", f"{idea}\n\nSEARCH …\nREPLACE …"),
        )  # fmt: skip
        candidate = Candidate(
            proposal=Proposal(
                hypothesis=self.say("hypothesis", idea), expected_effect=self.say("expected", "0.005 lower")
            ),
            source=self.source if baseline else after, parent_id=None if self.best is None else self.best.id,
            parent_source=self.source, reply=reply,
        )  # fmt: skip
        if not baseline:
            self.journal.append(ReplyReceived(reply=reply))
        experiment_dir.write_candidate(folder, candidate)
        self.journal.append(
            ExperimentBegun(
                experiment_id=number, attempt=1, retry_of=None, remeasures_id=None, parent_id=candidate.parent_id,
                reply=reply, proposal=candidate.proposal, source_sha256="0" * 64, seeds=Plan.draw().commitment,
                files=experiment_dir.hashes(folder), environment=ENVIRONMENT_OF_RUN,
            )
        )  # fmt: skip
        executions = () if status is Status.INVALID else tuple(self._containers(folder, number, status))
        reason = REASONS.get(status) or self._reason(status, value)
        trainer = executions[0] if executions else None
        experiment = Experiment(
            id=number, parent_id=candidate.parent_id, status=status, reason=self.say("reason", reason),
            hypothesis=candidate.proposal.hypothesis, expected_effect=candidate.proposal.expected_effect,
            proposer=reply.proposer, model=self.say("model", reply.model),
            score=None if value is None else Score(
                value=value, level=Level.L2, standard_error=2.1e-4,
                audited_positions=20_000 if status is Status.KEEP else 2000,
                claims_sha256="ab" * 32,
            ),
            message=self.say("message", "" if value is not None else reason), source_sha256="0" * 64,
            started_at="2026-11-01T00:00:00+00:00", duration_s=0.4 if not executions else self.dice.uniform(318, 345),
            train_s=trainer.duration_s if trainer else 0.0, usage=usage, attempt=1, folder=folder,
            image_id=IMAGE, hardware=self.say("hardware", ENVIRONMENT_OF_RUN.hardware),
            needs_review=status is Status.CHEAT,
            peak_memory_bytes=trainer.peak_memory_bytes if trainer else None,
            repeat_scores=(value - 0.0011, value + 0.0017, value - 0.0006) if baseline and value else (),
        )  # fmt: skip
        files = experiment_dir.hashes(folder)
        self.journal.append(ExperimentFinished(experiment=experiment, executions=executions, files=files))
        if status is Status.KEEP and value is not None:
            commit = "3f9c2a71d8e0" + "0" * 28
            self.journal.append(ExperimentCommitted(experiment_id=number, commit=commit))
            self.best, self.best_bpb, self.source = experiment, value, candidate.source
        return experiment

    def _reason(self, status: Status, value: float | None) -> str:
        if self.best is None or value is None:
            return "the baseline"
        champion = f"the champion, {self.best_bpb:.6f} of experiment {self.best.id}"
        if status is Status.KEEP:
            return f"{self.best_bpb - value:.6f} better than {champion}"
        return f"not better than {champion}"

    def _containers(self, folder: Path, number: int, status: Status) -> list[ExecutionResult]:
        found = []
        for role in (Role.TRAINER, Role.PREDICTOR_A, Role.SCORER, Role.PREDICTOR_B):
            asked = create_body(_spec(role, folder, number))
            created = _inspect(asked, f"{number:04x}{list(Role).index(role)}".ljust(64, "e"))
            failed = status in (Status.CRASH, Status.TIMEOUT, Status.OOM) and role is Role.TRAINER
            code = {Status.OOM: 137, Status.TIMEOUT: None}.get(status, 1) if failed else 0
            ends = {
                "ExitCode": code or 0,
                "OOMKilled": failed and status is Status.OOM,
                "FinishedAt": "2026-11-01T00:05:00Z",
            }
            put(folder / f"{role}.spec.json", json.dumps(asked))
            put(folder / f"{role}.created.json", json.dumps(created))
            put(folder / f"{role}.ended.json", json.dumps({**created, "State": ends}))
            lines = (
                f"[{s:9.3f} out] step {10 * s:>5} loss {4.2 - s / 140:.4f}\n"
                for s in range(1, 301, 3 if role is Role.TRAINER else 60)
            )
            put(folder / f"{role}.log", self.say("log", "".join(lines)))
            found.append(
                ExecutionResult(
                    role=role, container_id=created["Id"], exit_code=code, oom_killed=bool(ends["OOMKilled"]),
                    timed_out=failed and status is Status.TIMEOUT,
                    killed_by="deadline" if code is None else "its claims are in" if role is Role.PREDICTOR_A else None,
                    duration_s=self.dice.uniform(290, 300) if role is Role.TRAINER else self.dice.uniform(15, 22),
                    deadline_s=310.0, log_tail="", stdout_bytes=4200, stderr_bytes=120, log_sha256="cd" * 32,
                    peak_memory_bytes=self.dice.randrange(900, 5200) * MIB, cpu_s=self.dice.uniform(200, 310),
                )
            )  # fmt: skip
            if failed:
                break
        return found


def put(path: Path, text: str) -> None:
    """Write a file for its owner."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)


def write_run(folder: Path, experiments: int, say: Say | None = None) -> Path:
    """Record a finished run in `folder`, and return it."""
    with Journal.open(folder) as journal:
        writer = RunWriter(journal=journal)
        if say is not None:
            writer.say = say
        writer.run(experiments)
    return folder


def _spec(role: Role, folder: Path, number: int) -> ContainerSpec:
    private = Path("/srv/night/runs", folder.name, ".private")
    locked = Mount(source=str(private / "locked"), target="/locked")
    volume = Mount(
        source=f"autoresearch-tag-{number:04d}-1-out", target="/out", volume=True, writable=role is Role.TRAINER
    )
    return ContainerSpec(
        role=role, name=f"autoresearch-tag-{number:04d}-1-{role}", image_id=IMAGE,
        program=("python3", "-s", "-B", "/mutable/train.py" if role is Role.TRAINER else "/locked/predict.py"),
        hard_limit_s=325, mounts=(locked,) if role is Role.SCORER else (locked, volume),
        resources=Resources(memory=32 << 30, cpus=8, pids=512, tmp=64 * MIB, cache=512 * MIB, shm=64 * MIB),
        environment=ENVIRONMENT, labels={"autoresearch": "1", "autoresearch.experiment": str(number)},
        seccomp=SECCOMP,
        gpu_uuid=None if role is Role.SCORER else ENVIRONMENT_OF_RUN.gpu_uuid,
    )  # fmt: skip


def _inspect(asked: dict[str, Any], container_id: str) -> dict[str, Any]:
    """Return what an engine reports of a container that it made as asked."""
    host = asked["HostConfig"]
    mounts = [
        {
            "Type": mount["Type"], "Destination": mount["Target"], "RW": not mount["ReadOnly"],
            "Source": mount["Source"], "Name": mount["Source"],
            "Propagation": "rprivate" if mount["Type"] == "bind" else "",
        }
        for mount in host["Mounts"]
    ]  # fmt: skip
    return {
        "Id": container_id, "Image": asked["Image"], "Path": asked["Cmd"][0], "Args": asked["Cmd"][1:],
        "Mounts": mounts,
        "Config": {key: value for key, value in asked.items() if key != "HostConfig"}, "HostConfig": host,
        "NetworkSettings": {"Networks": {"none": {}}}, "Platform": "linux", "State": {"Status": "created"},
    }  # fmt: skip
