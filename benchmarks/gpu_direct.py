"""One experiment without containers: the lease, the trainer, the predictors and the scorer as processes of this user.

For a machine that has a GPU and no engine, and only for a train.py of your own: nothing is walled in.
"""

import json
import os
import re
import secrets
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.errors import AutoresearchError
from orchestrator.scoring.self_reported import parse_figures

ROOT = Path(__file__).parents[1]
LARGEST_SOURCE = 1 << 20  # bytes
POLL_S = 0.2
PARTS = ("tokenizer", "train", "val", "holdout")
TRAIN = """
import sys
from pathlib import Path
import prepare
data, out, train = map(Path, sys.argv[1:])
prepare.TOKENIZER, prepare.TRAIN, prepare.CHECKPOINT = data / "tokenizer", data / "train", out / "checkpoint.pt"
import self_reported
self_reported.VAL = data / "val"  # read by scripts that evaluate themselves, and by no other
sys.argv = [sys.argv[0], str(train)]
self_reported.main()
"""
PREDICT = """
import sys
from pathlib import Path
import harness, predict, prepare
root, name, out, train = sys.argv[1:]
predict.ASK, predict.ANSWER = Path(root, f"ask-{name}"), Path(root, f"answer-{name}")
predict.OUT, harness.TRAIN = Path(out), Path(train)
prepare.CHECKPOINT = Path(out, "checkpoint.pt")
predict.serve()
"""
Predictors = dict[str, "subprocess.Popen[bytes]"]


def fail(message: str) -> NoReturn:
    """End with one line."""
    sys.exit(f"test-gpu: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """What is run, and how long."""

    profile: str
    folder: Path
    seconds: float
    corpus: str = "python"
    data: Path | None = None  # prepared already
    train: Path = ROOT / "mutable" / "train.py"
    self_reported: bool = False
    small_audit: bool = False
    lease: bool = True

    def run(self) -> dict[str, Any]:
        """Train and score; the figures."""
        box, environment = self.box(), self.environment()
        data = prepared(self, environment)
        (out := self.folder / "out").mkdir()
        with leased(self):
            if self.self_reported:
                return reported(trained(self, data, out, box, environment))
            with predictors(self, out, environment) as waiting:  # who sees /out empty before it begins
                said = trained(self, data, out, box, environment)
                return {**parse_figures(said), **scored(data, self.folder / "score", waiting, box, environment)}

    def box(self) -> dict[str, Any]:
        """The profile's table of task.toml, with what was asked for."""
        box = tomllib.loads((ROOT / "task.toml").read_text())["profile"][self.profile]
        audit = {"large_k": box["small_k"]} if self.small_audit else {}
        return {**box, "time_budget_s": self.seconds, **audit}

    def environment(self) -> dict[str, str]:
        """The variables of every process: the caller's, packages that they brought along included."""
        paths = [
            str(ROOT / "locked"),
            str(ROOT / "orchestrator/runtime"),
            *filter(None, [os.environ.get("PYTHONPATH")]),
        ]
        return {
            **os.environ, "AUTORESEARCH_PROFILE": self.profile, "AUTORESEARCH_TIME_BUDGET": f"{self.seconds:g}",
            "AUTORESEARCH_SEED": "1", "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1",
            "GOMP_SPINCOUNT": "1000",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"), "TRITON_CACHE_DIR": str(self.folder / "triton"),
        }  # fmt: skip


def prepared(asked: Direct, environment: dict[str, str]) -> Path:
    """The data of this profile: what was brought along, what `make prepare-data` made, or made now."""
    made = asked.data or ROOT / "data" / f"{asked.profile}-python"
    if all((made / part / "manifest.json").is_file() for part in PARTS) and asked.corpus == "python":
        return made
    if asked.data is not None:
        fail(f"--data {asked.data}: holds no prepared data; name a folder with {', '.join(PARTS)}, as data/gpu-python")
    source = Path(asked.corpus) if asked.corpus != "python" else sources(asked.folder / "corpus")
    (target := asked.folder / "data").mkdir()
    command = [sys.executable, str(ROOT / "locked/make_data.py"), "--out", str(target), "--corpus", str(source)]
    if (code := subprocess.run(command, check=False, env=environment).returncode) != 0:
        fail(f"the data could not be prepared (exit code {code}), see above; or bring it along with --data FOLDER")
    return target


def sources(folder: Path) -> Path:
    """The Python sources of this installation as documents."""
    folder.mkdir()
    roots = {Path(sysconfig.get_paths()[key]).resolve() for key in ("stdlib", "purelib", "platlib")}
    with (folder / "python.jsonl").open("w", encoding="utf-8") as file:
        for path in sorted({path.resolve() for root in roots for path in root.rglob("*.py")}):
            try:
                text = path.read_text(encoding="utf-8") if path.stat().st_size <= LARGEST_SOURCE else ""
            except (OSError, UnicodeDecodeError):
                continue
            if text.strip():
                file.write(json.dumps({"text": text}) + "\n")
    return folder


@contextmanager
def leased(asked: Direct) -> Iterator[None]:
    """An idle GPU of ours alone, by the real locks; said plainly where none is taken."""
    try:
        from orchestrator.devices.cuda_visible_devices import allowed_devices  # noqa: PLC0415
        from orchestrator.devices.lease import LeasePolicy, lease  # noqa: PLC0415 - needs nvidia-ml-py and structlog
    except ImportError as error:
        print(f"lease: none was taken, {error.name} is not installed for {sys.executable}", flush=True)
        yield
        return
    if not asked.lease:
        print("lease: none was taken, as asked for", flush=True)
        yield
        return
    lists = tomllib.loads((ROOT / "task.toml").read_text())["gpu"] if asked.profile == "gpu" else {}
    try:
        policy = LeasePolicy(
            profile=asked.profile,  # type: ignore[arg-type]
            allow=allowed_devices(lists.get("allow", ()), os.environ) if lists else (),
            exclude=tuple(lists.get("exclude", ())),
            reserve_gpus=lists.get("reserve_gpus", 0),
        )
        with lease(policy, wait_s=600, on_wait=lambda why: print(why, flush=True)) as got:
            print(f"lease: {got.name}, {got.hardware}", flush=True)
            if got.device is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = got.device.uuid
            yield
    except AutoresearchError as error:
        fail(f"{error}; on a machine that is yours alone, --no-lease does without")


def trained(asked: Direct, data: Path, out: Path, box: dict[str, Any], environment: dict[str, str]) -> str:
    """Train until the deadline; what train.py printed, shown as it comes."""
    environment = {**environment, **visible(), "AUTORESEARCH_STARTED": repr(time.monotonic())}
    command = [sys.executable, "-c", TRAIN, str(data), str(out), str(asked.train)]
    limit = box["time_budget_s"] + box["grace_s"] + (box["score_budget_s"] if asked.self_reported else 0)
    late, lines = threading.Event(), list[str]()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as trainer:

        def end() -> None:
            late.set()
            os.killpg(trainer.pid, signal.SIGKILL)  # compilers that it started hold its output open

        deadline = threading.Timer(limit, end)
        deadline.start()
        try:
            for line in trainer.stdout or ():
                print(f"  {line}", end="", flush=True)
                lines.append(line)
        finally:
            deadline.cancel()
    if late.is_set():
        fail(f"{asked.train} was still running at its deadline, {limit:g} s")
    if trainer.returncode != 0:
        fail(f"{asked.train} ended with exit code {trainer.returncode}, see above")
    return "".join(lines)


def reported(said: str) -> dict[str, Any]:
    """What a script says of itself, its own number included."""
    return {**parse_figures(said), "val_bpb": number_of(said, said), "level": "L0", "scoring_seconds": 0.0}


@contextmanager
def predictors(asked: Direct, out: Path, environment: dict[str, str]) -> Iterator[Predictors]:
    """A and B, which wait for the first question."""
    root = asked.folder / "score"
    for name in ("control", "data", "ask-a", "ask-b", "answer-a", "answer-b"):
        (root / name).mkdir(parents=True)
    command, rest = [sys.executable, "-c", PREDICT, str(root)], [str(out), str(asked.train)]
    environment = {**environment, **visible(), "AUTORESEARCH_STARTED": repr(time.monotonic())}
    with (root / "predictors.log").open("w") as log:
        waiting = {
            name: subprocess.Popen([*command, name, *rest], env=environment, stdout=log, stderr=log) for name in "ab"
        }
        started = tuple(waiting.values())
        try:
            yield waiting
        finally:
            for predictor in started:
                predictor.kill()
                predictor.wait()


def scored(
    data: Path, root: Path, waiting: Predictors, box: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """The score as the host has it made: claims of one process, answers to prefixes of another."""
    (root / "data" / "val").symlink_to((data / "val").resolve())
    began = time.monotonic()
    output = answered(root, waiting, box, environment)
    seconds = time.monotonic() - began
    log = (root / "predictors.log").read_text()
    return {"val_bpb": number_of(output, f"{output}\n{log}"), "level": "L2", "scoring_seconds": seconds}


def answered(root: Path, waiting: Predictors, box: dict[str, Any], environment: dict[str, str]) -> str:
    """Run the scorer; A is killed before the seed is handed over. A predictor that dies ends it at once."""
    keys = {"batch": "batch_rows", "small-k": "small_k", "large-k": "large_k", "cap": "cap_nats", "floor": "floor_nats"}
    options = [f"--{key}={box[name]}" for key, name in keys.items()] + [f"--seconds={4 * box['score_budget_s']}"]
    (root / "control" / "trained").write_bytes(struct.pack("<d", 4 * box["load_budget_s"]))
    command = [sys.executable, str(ROOT / "locked" / "score.py"), f"--root={root}", *options]
    output = ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as scorer:

        def look() -> None:
            while scorer.poll() is None:
                if any(predictor.poll() is not None for predictor in tuple(waiting.values())):
                    scorer.kill()
                time.sleep(POLL_S)

        threading.Thread(target=look, daemon=True).start()
        for line in scorer.stdout or ():
            output += line
            if line.startswith("claims_sha256: "):
                first = waiting.pop("a")
                first.kill()
                first.wait()
                hidden = root / "control" / ".seed"
                hidden.write_bytes(secrets.token_bytes(32))
                hidden.rename(root / "control" / "seed")
    return output


def number_of(output: str, everything: str) -> float:
    """The one val_bpb of an output; ends the program with the end of everything if there is none."""
    found = re.findall(r"^val_bpb: +(\S+)$", output, re.MULTILINE)
    if len(found) != 1:
        fail(f"no score: {everything[-2500:]}")
    return float(found[0])


def visible() -> dict[str, str]:
    """Which GPU a process may use."""
    return {key: os.environ[key] for key in ("CUDA_VISIBLE_DEVICES",) if key in os.environ}
