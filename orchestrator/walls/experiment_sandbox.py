"""What surrounds one experiment: private copies of the locked files, volumes, and the containers themselves."""

import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.files import write_json
from orchestrator.types import Candidate, Kept, Plan, Role, Stages
from orchestrator.units import MIB
from orchestrator.walls import container, container_labels, locked_files, staging
from orchestrator.walls.container import RunningContainer
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.spec import ContainerSpec, Mount
from orchestrator.walls.spec_policy import SHARING, validate_spec

STARTING_S = 30.0  # containers may be slow to start; all others wait through the whole training
GUARD_MARGIN_S = 15.0  # the guard inside acts only if the host did not
ROLES = {
    Stages.TRAIN: (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER, Role.EXPORTER),
    Stages.ANSWER: (Role.ANSWERER, Role.REFERENCE, Role.SCORER),
    Stages.SCORE: (Role.SCORER,),
}
OURS = (Role.SCORER, Role.EXPORTER)  # they run no line of the mutable file
TRAINED, SEED, ENDED = "trained", "seed", "ended"  # read by runtime/channel.py
LOAD_SECONDS = struct.Struct("<d")
EXPORT_S = 300.0  # for gigabytes
LAUNCHER = "self_reported.py"
SUFFIX = {Role.PREDICTOR_A: "a", Role.PREDICTOR_B: "b", Role.ANSWERER: "a", Role.REFERENCE: "b"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSandbox:
    """One experiment's surroundings; nothing of it survives the `with` but the record."""

    place: ExecutionContext
    plan: Plan
    experiment_id: int
    attempt: int
    folder: Path
    private: Path
    name: str
    hashes: dict[str, str]
    running: list[RunningContainer] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(  # noqa: PLR0913  # what goes into the containers
        cls,
        place: ExecutionContext,
        candidate: Candidate,
        plan: Plan,
        *,
        experiment_id: int,
        folder: Path,
        kept: Iterable[Kept] = (),
    ) -> Iterator[Self]:
        """Make copies and volumes; remove every container and volume at the end. Raises SandboxError."""
        task = place.config.task
        with staging.private_folder(folder) as private:
            for role in ROLES[task.stages]:
                locked_files.copy(place.config.root, private / role / "locked", task.stages)
                for name in task.shared_data if role in SHARING else ():
                    staging.copy(place.config.data_path / name, private / role / "shared" / name, "*")
                if role not in OURS and task.stages is Stages.TRAIN:
                    staging.put(private / role / "train.py", candidate.source.encode())
            if task.stages is not Stages.TRAIN:
                copy_subjects(place.config, candidate, private)
                copy_kept(kept, private / Role.SCORER / "kept", task.mutable.suffix)
            if place.config.self_reported:  # such a script evaluates itself
                staging.copy(place.config.data_path / place.evaluation, private / Role.TRAINER / "locked" / "val", "*")
            if place.warm is not None:
                place.warm.copy(private / Role.TRAINER / "warm")
            (private / "control").mkdir(mode=0o755)
            name = unique_name(f"{place.config.tag}-{experiment_id:04d}-{candidate.attempt}")
            sandbox = cls(
                place=place, plan=plan, experiment_id=experiment_id, attempt=candidate.attempt, folder=folder,
                private=private, name=name, hashes=staging.hashes(private),
            )  # fmt: skip
            write_json(folder / "inputs.json", sandbox.inputs())
            try:
                sandbox._make_volumes()
                yield sandbox
            finally:
                sandbox._close()

    def start(
        self,
        role: Role,
        *,
        best: float | None,
        on_line: Callable[[str], None],
        sink: Callable[[bytes], None] | None = None,
        keep_cache: bool = False,
    ) -> RunningContainer:
        """Start the container of a role."""
        spec = replace(self.spec(role, best), keep_cache=keep_cache)
        running = container.start(
            self.place.engine, spec, deadline_s=self.deadline_s(role), folder=self.folder, on_line=on_line, sink=sink
        )
        self.running.append(running)
        return running

    def deadline_s(self, role: Role) -> float:
        """Return the seconds from a container's start to SIGKILL."""
        if role is Role.EXPORTER:
            return EXPORT_S
        profile = self.place.config.active_profile
        training = profile.time_budget_s + profile.grace_s
        if self.place.config.self_reported:  # it starts its clock after the first steps, and evaluates itself
            training += profile.score_budget_s
        if role is Role.TRAINER:
            return training
        if self.stages is not Stages.TRAIN:
            return STARTING_S + profile.load_budget_s + profile.score_budget_s
        loading = 2 * (
            profile.load_budget_s + profile.time_budget_s
        )  # A's and B's, where the training leaves all of its budget
        return training + STARTING_S + loading + profile.score_budget_s

    def spec(self, role: Role, best: float | None) -> ContainerSpec:
        """Build the container of a role, as plain data."""
        limit = self.deadline_s(role) + GUARD_MARGIN_S
        return ContainerSpec(
            role=role,
            name=f"{self.name}-{role}",
            image_id=self.place.image_id,
            program=self._program(role, best),
            hard_limit_s=limit,
            mounts=self._mounts(role),
            resources=self.place.resources(),
            environment=self.place.environment(self.plan.train_seed),
            labels=self._labels(role, limit),
            seccomp=self.place.seccomp,
            runtime=self.place.config.runtime,
            gpu_uuid=None if role in OURS else self.place.gpu_uuid,
            shared_data=self.place.config.task.shared_data,
        )

    def inputs(self) -> dict[str, Any]:
        """Return the SHA-256 of everything that goes into the containers, by its name there, for each role."""
        private: dict[str, dict[str, str]] = {}
        for name, value in self.hashes.items():
            role, _, path = name.partition("/")
            private.setdefault(role, {})[path] = value
        seccomp = hashlib.sha256(self.place.seccomp.encode()).hexdigest()
        return {
            "image": self.place.image_id,
            "seccomp.json": seccomp,
            "copies": private,
            "data": staging.manifests(self.place.config.data_path),
        }

    def signal_training_done(self, load_budget_s: float) -> None:
        """Let the scorer begin: the trainer has ended, and load_model may take `load_budget_s`."""
        staging.put(self.private / "control" / TRAINED, LOAD_SECONDS.pack(load_budget_s))

    def release_audit_seed(self, audit_seed: bytes) -> None:
        """Let the scorer draw its positions: predictor A has ended."""
        staging.put(self.private / "control" / SEED, audit_seed)

    def signal_candidate_ended(self) -> None:
        """Tell the scorer that the candidate is gone, whose container must be dead."""
        staging.put(self.private / "control" / ENDED, b"")

    def find_modified_inputs(self) -> list[str]:
        """List the private copies that changed while the experiment ran, though no container could write them."""
        now = staging.hashes(self.private)
        return sorted(name for name, value in self.hashes.items() if now.get(name) != value)

    def _program(self, role: Role, best: float | None) -> tuple[str, ...]:
        python = ("python3", "-s", "-B")
        if role is Role.TRAINER:
            return (*python, *self._launcher(), "/mutable/train.py")
        if role is Role.EXPORTER:
            return (*python, "/locked/export_checkpoint.py", str(self.place.config.recording.checkpoint_mb * MIB))
        if role in (Role.ANSWERER, Role.REFERENCE):
            return (*python, "/locked/answer.py", self._subject())
        if role is not Role.SCORER:
            return (*python, "/locked/predict.py")
        profile = self.place.config.active_profile
        options = {
            "batch": profile.batch_rows,
            "small-k": profile.small_k,
            "large-k": profile.large_k,
            **self._to_beat(best),
            "cap": self.place.thresholds.audit_cap,
            "floor": self.place.thresholds.audit_floor,
            "seconds": profile.score_budget_s,
        }
        subject = (self._subject(),) if self.stages is Stages.SCORE else ()
        return (*python, "/locked/score.py", *(f"--{key}={value}" for key, value in options.items()), *subject)

    @property
    def stages(self) -> Stages:
        """Return what an experiment of the task consists of."""
        return self.place.config.task.stages

    def _subject(self) -> str:
        """Return the path of the mutable file in a container, where nothing is trained."""
        return f"/mutable/{self.place.config.task.mutable.name}"

    def _to_beat(self, best: float | None) -> dict[str, str]:
        """Return the score from which on a candidate may be kept, so that it is audited in full."""
        if self.place.config.task.direction == "higher":
            return {"keep-above": "-inf" if best is None else repr(best)}
        return {"keep-below": "inf" if best is None else repr(best)}

    def _launcher(self) -> tuple[str, ...]:
        """Return the program that runs a script reporting its own number, if the task has one."""
        config = self.place.config
        there = config.self_reported and (config.root / "locked" / LAUNCHER).is_file()
        return (f"/locked/{LAUNCHER}",) if there else ()

    def _mounts(self, role: Role) -> tuple[Mount, ...]:
        data, private = self.place.config.data_path, self.private / role
        locked = Mount(source=str(private / "locked"), target="/locked")
        if role is Role.EXPORTER:
            return (locked, self._volume("out", "/out"))
        subject = Mount(source=str(private / "mutable"), target="/mutable")
        if role in (Role.ANSWERER, Role.REFERENCE):
            ask, answer = (self._volume(f"{name}-{SUFFIX[role]}", f"/{name}") for name in ("ask", "answer"))
            return (locked, subject, ask, replace(answer, writable=True))
        shared = self.place.config.task.shared_data
        mounts = [locked, *(Mount(source=str(private / "shared" / name), target=f"/data/{name}") for name in shared)]
        if role is Role.SCORER:
            if (data / self.place.evaluation).is_dir():  # a task may need no data
                mounts.append(Mount(source=str(data / self.place.evaluation), target="/data/val"))
            mounts.append(Mount(source=str(self.private / "control"), target="/control"))
            if self.stages is not Stages.TRAIN:
                mounts.append(Mount(source=str(private / "kept"), target="/kept"))
            if self.stages is Stages.SCORE:
                return (*mounts, subject)
            for which in ("a", "b"):
                mounts.append(self._volume(f"ask-{which}", f"/ask-{which}", writable=True))
                mounts.append(self._volume(f"answer-{which}", f"/answer-{which}"))
            return tuple(mounts)
        mounts.append(Mount(source=str(private / "train.py"), target="/mutable/train.py"))
        mounts.append(self._volume("out", "/out", writable=role is Role.TRAINER))
        if role is Role.TRAINER:
            mounts.append(Mount(source=str(data / "train"), target="/data/train"))
            if self.place.warm is not None:
                mounts.append(Mount(source=str(private / "warm"), target="/warm"))
        else:
            mounts.append(self._volume(f"ask-{SUFFIX[role]}", "/ask"))
            mounts.append(self._volume(f"answer-{SUFFIX[role]}", "/answer", writable=True))
        return tuple(mounts)

    def _volume(self, which: str, target: str, *, writable: bool = False) -> Mount:
        return Mount(source=f"{self.name}-{which}", target=target, volume=True, writable=writable)

    def _volumes(self) -> dict[str, int]:
        profile = self.place.config.active_profile
        asked = () if self.stages is Stages.SCORE else ("a", "b")
        sizes = {f"{what}-{which}": profile.ipc_mb for what in ("ask", "answer") for which in asked}
        sizes |= {"out": profile.out_mb} if self.stages is Stages.TRAIN else {}
        return {f"{self.name}-{which}": size * MIB for which, size in sizes.items()}

    def _labels(self, role: str, limit: float) -> dict[str, str]:
        return container_labels.owner_labels(
            tag=self.place.config.tag,
            experiment_id=self.experiment_id,
            attempt=self.attempt,
            role=role,
            dies_in_s=limit,
        )

    def _make_volumes(self) -> None:
        labels = self._labels("volume", 2 * self.deadline_s(Role.SCORER))
        for name, size in self._volumes().items():
            self.place.engine.volume(name, size, labels)

    def _close(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(RunningContainer.close, self.running))
        for name in self._volumes():
            self.place.engine.remove_volume(name)


def copy_subjects(config: Config, candidate: Candidate, private: Path) -> None:
    """Copy the mutable file to where its program runs, and the task's reference to where that runs.

    Where nothing is asked the scorer sees the mutable file, as data. Raises ConfigError for a missing reference.
    """
    name, source = config.task.mutable.name, candidate.source.encode()
    if config.task.stages is Stages.SCORE:
        staging.put(private / Role.SCORER / "mutable" / name, source)
        return
    staging.put(private / Role.ANSWERER / "mutable" / name, source)
    reference = config.root / "locked" / f"reference{config.task.mutable.suffix}"
    try:
        staging.put(private / Role.REFERENCE / "mutable" / name, reference.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{reference}: cannot be read: {error.strerror}; the candidate is compared with it"
        ) from error


def copy_kept(kept: Iterable[Kept], folder: Path, suffix: str) -> None:
    """Copy the kept files of the run, which sort in the order in which they were kept: 0000.md is the baseline."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, folder.parent):
        path.chmod(0o755)
    for one in kept:
        staging.put(folder / f"{one.id:04d}{suffix}", one.source.encode())


def unique_name(name: str) -> str:
    """Add a random part to a name: all users of an engine share its names, and a tag is often the date."""
    return f"autoresearch-{os.getuid()}-{name}-{secrets.token_hex(8)}"


def validate_specs(place: ExecutionContext) -> None:
    """Raise SpecRefused for any container that an experiment would ask for, before there is one."""
    run, plan = place.config.run_path, Plan(train_seed=0, audit_seed=b"")
    sandbox = ExperimentSandbox(
        place=place, plan=plan, experiment_id=0, attempt=0, folder=run, private=run / "0000", hashes={},
        name=unique_name(f"{place.config.tag}-0000-0"),
    )  # fmt: skip
    for role in ROLES[place.config.task.stages]:
        validate_spec(sandbox.spec(role, None))
