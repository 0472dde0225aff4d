"""Where attacks are made: the trainer's container exactly as an experiment gets it, and a weak one beside it."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from attacks.walls.base import AttemptResult, Finding, Observation, Outcome, Probe, judge, stem
from attacks.walls.look import Holdings, held
from attacks.walls.weak import PatientSandbox, WeakEngine, Weaker
from orchestrator import compose
from orchestrator.config import load
from orchestrator.devices.lease import Lease
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role
from orchestrator.walls.container import RunningContainer
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import ExperimentSandbox

ROOT = Path(__file__).parents[2]
CANARY = "canary-" + hashlib.sha256(b"a sentence of the validation text").hexdigest()[:20]
SMALL = {
    "memory_gb": 0.25, "cpus": 1.0, "pids": 64, "out_mb": 16, "tmp_mb": 16, "cache_mb": 16, "shm_mb": 16, "ipc_mb": 1,
    "time_budget_s": 180.0, "grace_s": 1.0,
}  # fmt: skip
ROOM_FOR_GVISOR = 256  # processes: its own threads count too
LOOKED = "looked.py"  # a locked file by which the host tells a probe that it has looked
INSIDE = (Path(__file__).parent / "inside.py").read_text(encoding="utf-8")
Watch = Callable[[RunningContainer, Observation], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """An engine, an image, and a scratch folder for two tasks: one for the walls, one for the controls."""

    engine: Engine
    scratch: Path
    runtime: str = ""
    fast: bool = False
    leased: Lease | None = None  # a GPU, for attacks on it
    limit_s: float = 20.0  # an attempt that takes longer hangs
    counter: list[int] = field(default_factory=lambda: [0])

    def shared(  # noqa: PLR0913  # how the two containers differ from the usual
        self,
        group: str,
        probes: Sequence[Probe],
        *,
        profile: Mapping[str, float] = {},
        weaker: Weaker = Weaker(),  # noqa: B008  # immutable
        watch: Watch | None = None,
        note: Callable[[Observation], None] | None = None,
    ) -> list[Finding]:
        """Run all probes in one trainer's container and in one weak container; `note` adds to each observation.

        With it one runs after the other, so that the host knows whom it heard.
        """

        def run(weaker: Weaker | None) -> Observation:
            source = driver(probes, weaker, self.limit_s, looks=self.looks(weaker))
            seen = self.one(source, probes, profile=profile, weaker=weaker, watch=watch)
            if note is not None:
                note(seen)
            return seen

        with ThreadPoolExecutor(1 if note else 2) as pool:
            weak, strict = pool.map(run, (weaker, None))
        return [judge(group, probe, strict, weak) for probe in probes]

    def looks(self, weaker: Weaker | None) -> bool:
        """Return whether the host can see the processes: gVisor hides those that run in it."""
        return weaker is not None or "runsc" not in self.runtime

    def one(
        self,
        source: str,
        probes: Sequence[Probe] = (),
        *,
        profile: Mapping[str, float] = {},
        weaker: Weaker | None = None,
        watch: Watch | None = None,
    ) -> Observation:
        """Run `source` in one container and return what was observed."""
        with self.opened(source, probes, profile=profile, weaker=weaker) as (box, seen):
            ear = OutputListener(seen, box.private / Role.TRAINER / "locked" / LOOKED)
            ear.running.set_result(running := box.start(Role.TRAINER, best=None, on_line=ear.hear))
            if watch is not None:
                watch(running, seen)
            seen.result = running.wait()
            seen.after = states(box)
        return seen

    @contextmanager
    def opened(
        self,
        source: str,
        probes: Sequence[Probe] = (),
        *,
        profile: Mapping[str, float] = {},
        weaker: Weaker | None = None,
    ) -> Iterator[tuple[ExperimentSandbox, Observation]]:
        """Open the sandbox of one experiment whose train.py is `source`."""
        with self.placed([stem(probe.name) for probe in probes], profile=profile, weaker=weaker) as place:
            folder = place.config.root / "record"
            box_of = PatientSandbox.open(place, candidate_of(source), plan(), experiment_id=1, folder=folder)
            with box_of as box:
                unlock(box)
                yield box, Observation(folder=folder, private=box.private, before=states(box))

    @contextmanager
    def placed(
        self, stems: Sequence[str] = (), *, profile: Mapping[str, float] = {}, weaker: Weaker | None = None
    ) -> Iterator[ExecutionContext]:
        """Create a task of its own for the engine, or for the weak one."""
        self.counter[0] += 1
        task = self.scratch / f"task-{self.counter[0]}"
        name = "gpu" if self.leased else "cpu"
        make_task(task, stems, name)
        pids = {"pids": ROOM_FOR_GVISOR} if "runsc" in self.runtime else {}
        flags = {f"profile.{name}.{key}": value for key, value in {**SMALL, **pids, **profile}.items()}
        accept = () if self.engine.limits else ("limits",)
        tag = f"probes-{uuid.uuid4().hex[:8]}"
        config = load(
            task,
            {
                "tag": tag,
                "profile_name": name,
                "runs": task / "runs",
                "runtime": self.runtime,
                "accept_risk": accept,
                **flags,
            },
        )
        with ExitStack() as stack:
            engine = self.engine
            if weaker is not None:
                engine = WeakEngine.connect()
                stack.callback(engine.close)
                engine.weaker = weaker
            yield compose.build_execution_context(config, engine, self.leased)


def plan() -> Plan:
    """Return a plan with fixed seeds: no probe has to guess them."""
    return Plan(train_seed=1, audit_seed=bytes(32))


def driver(probes: Sequence[Probe], weaker: Weaker | None, limit_s: float, *, looks: bool = False) -> str:
    """Build the train.py that makes the attempts; in the weak container each follows its control."""
    attempts = [(p.name, p.control if weaker else "", p.source) for p in probes]
    settings = f"LIMIT_S, LOOKS = {limit_s}, {looks}"
    return f"{INSIDE}\n{settings}\nrun(json.loads({json.dumps(attempts)!r}), {weaker is not None})\n"


def candidate_of(source: str) -> Candidate:
    """Wrap a train.py of ours as a candidate."""
    return Candidate(
        proposal=Proposal(hypothesis="a probe"), source=source, parent_id=None, parent_source="",
        reply=Reply(proposer="probes", model="", prompt="", text=""),
    )  # fmt: skip


def make_task(task: Path, stems: Sequence[str], profile: str) -> None:
    """Create a task directory with a canary file for every probe, and with secret validation text."""
    (task / "record").mkdir(parents=True)
    shutil.copytree(ROOT / "locked", task / "locked", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", task)
    (task / "locked" / LOOKED).touch()
    for name in stems:
        (task / "locked" / f"{name}.py").write_text("# nobody may change this\n", encoding="utf-8")
    for part in ("tokenizer", "train", "val", "holdout"):
        (folder := task / "data" / f"{profile}-python" / part).mkdir(parents=True)
        text = CANARY if part in ("val", "holdout") else "text to train on"
        (folder / f"{part}.txt").write_text(text, encoding="utf-8")


def unlock(box: ExperimentSandbox) -> None:
    """Make every mounted file writable by all users: the attack is on the mount, not on file modes."""
    for root in (box.private / Role.TRAINER, box.place.config.data_path):
        for path in (root, *root.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)


def states(box: ExperimentSandbox) -> dict[str, str]:
    """Return mode, time, links and content of every file that is mounted into the container."""
    found = {}
    for root in (box.private / Role.TRAINER, box.place.config.data_path):
        for path in sorted(root.rglob("*")):
            facts = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            state = (facts.st_mode, facts.st_mtime_ns if path.is_file() else 0, facts.st_nlink, facts.st_uid)
            found[f"{root.name}/{path.relative_to(root)}"] = f"{state} {hashlib.sha256(data).hexdigest()}"
    return found


@dataclass(slots=True)
class OutputListener:
    """Hears what a container prints, and looks at it when its driver asks for that."""

    seen: Observation
    answers: Path  # whom the host has inspected at
    running: "Future[RunningContainer]" = field(default_factory=Future)
    pid: int = 0

    def hear(self, line: str) -> None:
        """Handle one line of output; the driver's lines tell how a probe ended, or that it waits for an inspection."""
        self.seen.lines.append(line)
        if line.startswith("probe\t") and line.count("\t") > 1:
            _, name, said = line.split("\t", 2)
            how, _, detail = said.partition(" ")
            self.seen.outcomes[name] = Outcome(how=AttemptResult(how), detail=detail)
        if line.startswith("look\t") and line.count(" ") > 1:
            when, _, name = line.removeprefix("look\t").split(" ", 2)
            self.seen.looks[name, when] = self.look()
            self.answers.write_text(line.removeprefix("look\t"), encoding="utf-8")

    def look(self) -> Holdings:
        """Inspect all of the container's processes."""
        running = self.running.result(timeout=30.0)
        self.pid = self.pid or running._engine.inspect(running.id)["State"]["Pid"]  # noqa: SLF001
        return held(self.pid)
