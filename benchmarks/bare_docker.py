"""What an experiment costs besides its training, against a bare shell loop of `docker run` that does the same work.

    make bench NAME=overhead                        # python -m benchmarks.bare_docker [ROUNDS [SECONDS]]

Needs the engine, the image and the data (`make image prepare-data`). The real loop runs real experiments. Between two
of them, where it asks for an idea, a shell script does by hand what an experiment does: the same volumes, and the same
four containers by `docker run` with the same flags, the two predictors and the scorer side by side, then the trainer,
then the audit and the removal. It records nothing, checks nothing and watches nothing. Both train for SECONDS, start-up
included, and audit as many positions of the same model.

Overhead is all of a cycle, from one experiment to the next, but the seconds that train.py says it trained. The last
line has the median, over the rounds, of the loop's overhead as a multiple of the script's.
"""

import json
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from benchmarks.idle_share import at, copied_task
from orchestrator import compose
from orchestrator.config import Config, load
from orchestrator.errors import AutoresearchError
from orchestrator.events import ContainerStarted, ExperimentBegun, ExperimentFinished
from orchestrator.loop import run_session
from orchestrator.record.experiment_dir import source_path
from orchestrator.record.journal import Journal
from orchestrator.types import Candidate, Context, Edit, Plan, Proposal, Reply, Role
from orchestrator.walls import staging
from orchestrator.walls.create_body import create_body
from orchestrator.walls.engine import Engine
from orchestrator.walls.experiment_sandbox import LOAD_SECONDS, SEED, TRAINED, ExperimentSandbox, unique_name
from orchestrator.walls.spec import UID, ContainerSpec

ROUNDS, SECONDS = 12, 8.0
PARTS = ("prepare and start three", "train.py before and after training", "score", "remove, record, decide")
WAITING = (Role.PREDICTOR_A, Role.PREDICTOR_B, Role.SCORER)
HELD = "control/for-later"  # what the script hands to the scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """The seconds of one cycle, and of its parts besides training."""

    whole_s: float
    training_s: float
    parts: tuple[float, ...]

    @property
    def overhead_s(self) -> float:
        """Return what is not training."""
        return self.whole_s - self.training_s


@dataclass(slots=True, kw_only=True)
class Proposer:
    """Proposes one number after the other; while it is asked the shell script runs."""

    config: Config
    folder: Path
    name: str = "overhead"
    bare: list[Cycle] = field(default_factory=list)
    paused_s: list[float] = field(default_factory=list)  # of each question

    def ask(self, context: Context) -> Reply:
        """Run the script; return the next number."""
        began = monotonic()
        with opened(self.config, self.folder, context.champion_source) as box:  # its copies are not counted
            self.bare.append(run_script(box, self.folder))
        print(f"round {len(self.bare)}: docker run alone {self.bare[-1].overhead_s:.2f} s", flush=True)
        self.paused_s.append(monotonic() - began)
        return Reply(proposer=self.name, model="", prompt="", text=str(len(self.bare)), parent_id=context.champion.id)

    def read(self, reply: Reply) -> Proposal:
        """Return a change of the rotary base that costs nothing, on whichever file is the best."""
        kept = source_path(self.config.run_path / f"{reply.parent_id:04d}").read_text(encoding="utf-8")
        line = next(line for line in kept.splitlines() if line.startswith("ROTARY_BASE = "))
        edit = Edit(search=line, replace=f"ROTARY_BASE = {10_000.0 + int(reply.text)}")
        return Proposal(hypothesis=f"rotary base {reply.text}", edits=(edit,), retry_rationale="a stand-in")


@contextmanager
def opened(config: Config, folder: Path, source: str) -> Iterator[ExperimentSandbox]:
    """Yield the surroundings of the last experiment once more, for its processors and with names of their own."""
    last = json.loads((config.run_path / "0000" / "trainer.spec.json").read_text(encoding="utf-8"))
    context = compose.build_execution_context(config, engine := Engine.connect())
    place = replace(context, cpuset=last["HostConfig"]["CpusetCpus"])
    reply = Reply(proposer="overhead", model="", prompt="", text="")
    candidate = Candidate(
        proposal=Proposal(hypothesis="overhead"), source=source, parent_id=None, parent_source=source, reply=reply
    )
    plan = Plan(train_seed=1, audit_seed=bytes(32))
    with ExperimentSandbox.open(place, candidate, plan, experiment_id=9999, folder=folder) as box:
        yield replace(box, name=unique_name("bare"))
    engine.close()


def run_script(box: ExperimentSandbox, folder: Path) -> Cycle:
    """Run the shell script once, and measure it; `folder` is for what it needs besides. Exits if it fails."""
    profile = box.place.config.active_profile
    held = box.private / HELD
    staging.put(held / TRAINED, LOAD_SECONDS.pack(profile.load_budget_s))
    staging.put(held / SEED, box.plan.audit_seed)
    (folder / "seccomp.json").write_text(box.place.seccomp, encoding="utf-8")
    script = write_script(box, folder, profile)
    began = monotonic()
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    whole_s = monotonic() - began
    marks = [float(stamp) for stamp in re.findall(r"^mark ([\d.]+)$", done.stdout, re.MULTILINE)]
    trained = re.findall(r"^training_seconds: +([\d.]+)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or len(trained) != 1 or '"event": "score"' not in done.stdout:
        sys.exit(f"overhead: the script ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    begun, waiting, ended, scored, removed = marks
    training_s = float(trained[0])
    parts = (waiting - begun, ended - waiting - training_s, scored - ended, removed - scored)
    return Cycle(whole_s=whole_s, training_s=training_s, parts=parts)


def write_script(box: ExperimentSandbox, folder: Path, profile: object) -> str:
    """Return one round of the shell loop."""
    specs = {role: box.spec(role, None) for role in (*WAITING, Role.TRAINER)}
    names = {role: shlex.quote(spec.name) for role, spec in specs.items()}
    volumes = sorted({mount.source for spec in specs.values() for mount in spec.mounts if mount.volume})
    runs = {role: shlex.join(docker_run(spec, folder / "seccomp.json")) for role, spec in specs.items()}
    control = shlex.quote(str(box.private / "control"))
    mark = 'echo "mark $EPOCHREALTIME"'
    remove = f"docker rm --force --volumes {' '.join(names.values())} >&2\ndocker volume rm {shlex.join(volumes)} >&2"
    lines = [
        f"trap {shlex.quote(remove)} ERR",
        mark,
        *(shlex.join(make_volume(name, profile)) + " >&2" for name in volumes),
        *(f"{runs[role].replace('docker run', 'docker run --detach', 1)} >&2 &" for role in WAITING),
        "wait",
        mark,
        runs[Role.TRAINER],
        mark,
        f"mv {control}/for-later/{TRAINED} {control}/{TRAINED}",
        f'grep -qm1 \'"event": "claims"\' <(docker logs --follow {names[Role.SCORER]} 2>&1)',
        f"docker kill {names[Role.PREDICTOR_A]} >&2",
        f"mv {control}/for-later/{SEED} {control}/{SEED}",
        f"docker wait {names[Role.SCORER]} >&2",
        f"docker logs {names[Role.SCORER]}",
        mark,
        remove,
        mark,
    ]
    return "\n".join(lines)


def make_volume(name: str, profile: object) -> list[str]:
    """Return the command that makes a volume as the loop does."""
    size = getattr(profile, "out_mb" if name.endswith("-out") else "ipc_mb") << 20
    options = f"o=size={size},nr_inodes=65536,uid={UID},gid={UID},mode=0755,nosuid,nodev,noexec"
    return ["docker", "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", options, name]


def docker_run(spec: ContainerSpec, seccomp: Path) -> list[str]:
    """Return the `docker run` with the flags of a container of the loop."""
    body = create_body(spec)
    host = body["HostConfig"]
    log = host["LogConfig"]["Config"]
    flags = {
        "name": spec.name, "entrypoint": "", "user": spec.user, "workdir": body["WorkingDir"],
        "hostname": body["Hostname"], "network": "none", "cap-drop": "ALL", "shm-size": host["ShmSize"],
        "memory": host["Memory"], "memory-swap": host["MemorySwap"], "memory-swappiness": 0,
        "oom-score-adj": host["OomScoreAdj"], "cpus": f"{spec.resources.cpus:g}", "pids-limit": host["PidsLimit"],
        "ipc": "private", "cgroupns": "private", "stop-signal": "SIGKILL", "log-driver": "local",
    }  # fmt: skip
    flags |= {"cpuset-cpus": host["CpusetCpus"]} if host["CpusetCpus"] else {}
    flags |= {"runtime": spec.runtime} if spec.runtime else {}
    several = [
        *(("security-opt", one) for one in ("no-new-privileges", f"seccomp={seccomp}")),
        *(("env", one) for one in body["Env"]),
        *(("label", f"{key}={value}") for key, value in spec.labels.items()),
        *(("tmpfs", f"{target}:{options}") for target, options in host["Tmpfs"].items()),
        *(("ulimit", f"{one['Name']}={one['Soft']}:{one['Hard']}") for one in host["Ulimits"]),
        *(("log-opt", f"{key}={value}") for key, value in log.items()),
        *(("mount", mount_flag(mount)) for mount in host["Mounts"]),
    ]
    words = [f"--{key}={value}" for key, value in (*flags.items(), *several)]
    return ["docker", "run", "--read-only", "--no-healthcheck", *words, spec.image_id, *body["Cmd"]]


def mount_flag(mount: Mapping[str, object]) -> str:
    """Return the value of --mount."""
    kind = "volume-nocopy=true" if mount["Type"] == "volume" else "bind-propagation=rprivate"
    fields = [f"type={mount['Type']}", f"source={mount['Source']}", f"target={mount['Target']}", kind]
    return ",".join([*fields, *(["readonly"] if mount["ReadOnly"] else [])])


def read_cycles(journal: Journal, paused_s: Sequence[float]) -> list[Cycle]:
    """Return the loop's cycles but the last, from one experiment's begin to the next one's; less the script's time."""
    begun = [at(one.at) for one in journal.events(ExperimentBegun)]
    finished = journal.events(ExperimentFinished)
    found = []
    for number, (start, end, paused) in enumerate(zip(begun, begun[1:], paused_s, strict=False)):
        event = finished[number].event
        started = {one.event.role: at(one.at) for one in journal.events(ContainerStarted, number)}
        ended = {one.role: one for one in event.executions}
        trainer, scorer = ended[Role.TRAINER], ended[Role.SCORER]
        training_s, whole_s = event.self_reported["training_seconds"], end - start - paused
        waiting_s = max(started[role] for role in WAITING) - start
        starting_s = started[Role.TRAINER] - start - waiting_s
        parts = [waiting_s, starting_s + trainer.duration_s - training_s, scorer.ended_s - trainer.ended_s]
        found.append(Cycle(whole_s=whole_s, training_s=training_s, parts=(*parts, whole_s - training_s - sum(parts))))
    return found


def configure(root: Path, rounds: int, seconds: float) -> Config:
    """Return the loop's settings: each experiment runs once, with the same audit, even on a busy machine."""
    profile = load(root, {"tag": "overhead", "runs": root / "runs"}).active_profile
    flags = {
        "tag": "overhead", "runs": root / "runs", "proposer": "sweep", "prefetch": 0, "limits.experiments": rounds + 1,
        "limits.max_usd": 0.0, "noise.rule": "lowest", "contention.max_extra_wait_share": 1.0,
        "recording.checkpoints": False, "profile.cpu.time_budget_s": seconds, "profile.cpu.large_k": profile.small_k,
    }  # fmt: skip
    return load(root, flags)


def describe(loop: Sequence[Cycle], bare: Sequence[Cycle]) -> Iterator[str]:
    """Yield the lines of the result; the last one has the ratio."""
    yield f"{len(loop)} rounds, seconds besides training, the loop and docker run alone:"
    for name, values in (("median", (0.5, 0.5)), ("p99", (0.99, 0.99))):
        ours, theirs = (quantile([one.overhead_s for one in side], values[0]) for side in (loop, bare))
        yield f"{name:>24}  {ours:6.2f} {theirs:6.2f}"
    for number, part in enumerate(PARTS):
        ours, theirs = (statistics.median(one.parts[number] for one in side) for side in (loop, bare))
        yield f"{part:>24}  {ours:6.2f} {theirs:6.2f}"
    whole = statistics.median(a.whole_s / b.whole_s for a, b in zip(loop, bare, strict=True))
    ratios = [a.overhead_s / b.overhead_s for a, b in zip(loop, bare, strict=True)]
    yield f"ratios: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; with training {whole:.2f}"
    yield f"overhead: {statistics.median(ratios):.2f} x bare docker"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Run the loop with the script in between, and compare."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    with copied_task() as root, tempfile.TemporaryDirectory(prefix="bare-docker-") as name:
        Path(name).chmod(0o755)
        config = configure(root, rounds, seconds)
        proposer = Proposer(config=config, folder=Path(name))
        with compose.open_session(config, lambda _: None) as session:
            proposals = replace(session.proposals, proposer=proposer)
            print(run_session(replace(session, proposals=proposals)), flush=True)
        with Journal.read(config.run_path) as journal:
            loop = read_cycles(journal, proposer.paused_s)
    for line in describe(loop, proposer.bare[: len(loop)]):
        print(line)


if __name__ == "__main__":
    try:
        main()
    except AutoresearchError as error:
        sys.exit(f"overhead: {error}")
