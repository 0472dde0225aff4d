"""One trial without containers: the lease, the trainer, the predictors and the scorer as processes of this user.

For a machine that has a GPU and no engine, and only for a train.py of your own: nothing is walled in. Every process
dies with the one that started it, so that a day that is killed leaves nothing on the GPU.
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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_day import CARRIED, ROOT
from gpu_day.record import Trial, TrialFailedError, now
from gpu_day.watch import Watch
from orchestrator.errors import AutoresearchError
from orchestrator.scoring.self_reported import parse_figures

if TYPE_CHECKING:
    from orchestrator.devices.gpu import Device

LARGEST_SOURCE = 1 << 20  # bytes
POLL_S = 0.2
STEP_LINES_S = 5.0  # a line of a step is shown this often
PARTS = ("tokenizer", "train", "val")
DIES_WITH_PARENT = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)
sys.path.append(sys.argv.pop(1))
"""
TRAIN = """
import runpy
from pathlib import Path
import prepare
data, out, train = map(Path, sys.argv[1:])
prepare.TOKENIZER, prepare.TRAIN, prepare.CHECKPOINT = data / "tokenizer", data / "train", out / "checkpoint.pt"
runpy.run_path(str(train), run_name="__main__")
"""
PREDICT = """
from pathlib import Path
import harness, predict, prepare
root, name, out, train = sys.argv[1:]
predict.ASK, predict.ANSWER = Path(root, f"ask-{name}"), Path(root, f"answer-{name}")
predict.OUT, harness.TRAIN = Path(out), Path(train)
prepare.CHECKPOINT = Path(out, "checkpoint.pt")
predict.serve()
"""
SCORE = """
import score
score.main()
"""
SCORED = {  # fields of the scorer's score message (docs/tasks.md), and what the record calls them
    "value": "val_bpb", "standard_error": "standard_error", "audited_positions": "audited_positions",
    "max_difference": "max_difference_nats", "mean_difference": "mean_difference_nats",
}  # fmt: skip
Predictors = dict[str, "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """What is run, and how long."""

    profile: str
    folder: Path
    seconds: float  # of training, start-up included
    name: str = "train.py"
    seed: int = 1
    corpus: str = "python"
    data: Path | None = None  # prepared already
    train: Path = ROOT / "mutable" / "train.py"
    small_audit: bool = False
    grace_s: float = 0.0  # to end after the budget, besides the profile's
    caches: Path | None = None  # compile caches that several trials share; None: of this trial alone
    until: float = float("inf")  # monotonic: when the scorer is ended at the latest

    def run(self, device: "Device | None" = None) -> Trial:
        """Train and score; raises TrialFailedError. `device` is watched meanwhile."""
        began_at, began = now(), time.monotonic()
        box, environment = self.box(), self.environment()
        data = prepared(self, environment)
        (out := self.folder / "out").mkdir()
        with predictors(self, out, environment) as waiting:  # who sees /out empty before it begins
            with Watch(device) as watch:
                output = trained(self, data, out, box, environment, watch)
            score = scored(self, data, waiting, box, environment)
        return Trial(
            name=self.name, budget_s=self.seconds, began_at=began_at, took_s=round(time.monotonic() - began, 1),
            level="L2", figures={**parse_figures(output), **steps(output), **score}, conditions=watch.conditions(),
        )  # fmt: skip

    def box(self) -> dict[str, float]:
        """The profile's table of task.toml, with what was asked for."""
        box: dict[str, float] = tomllib.loads((ROOT / "task.toml").read_text())["profile"][self.profile]
        audit = {"large_k": box["small_k"]} if self.small_audit else {}
        return {**box, "time_budget_s": self.seconds, **audit}

    def environment(self) -> dict[str, str]:
        """The variables of every process: the caller's, packages that they brought along included."""
        caches = self.caches or self.folder
        ours = [str(ROOT / "locked"), str(ROOT / "orchestrator/runtime")]
        paths = [*ours, *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **os.environ, "AUTORESEARCH_PROFILE": self.profile, "AUTORESEARCH_TIME_BUDGET": f"{self.seconds:g}",
            "AUTORESEARCH_SEED": f"{self.seed}", "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1",
            "GOMP_SPINCOUNT": "1000",
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"), "TRITON_CACHE_DIR": str(caches / "triton"),
        }  # fmt: skip


def program(source: str, *arguments: str) -> list[str]:
    """The command of a child that dies with this process and finds the packages of a kit."""
    return [sys.executable, "-c", DIES_WITH_PARENT + source, str(CARRIED), *arguments]


def prepared(asked: Direct, environment: Mapping[str, str]) -> Path:
    """The data of this profile: what was brought along, what `make prepare-data` made, or made now."""
    made = asked.data or ROOT / "data" / f"{asked.profile}-python"
    if all((made / part / "manifest.json").is_file() for part in PARTS) and asked.corpus == "python":
        return made
    if asked.data is not None:
        raise TrialFailedError(
            f"--data {asked.data}: holds no prepared data; name a folder with {', '.join(PARTS)}, as data/gpu-python"
        )
    source = Path(asked.corpus) if asked.corpus != "python" else sources(asked.folder / "corpus")
    (target := asked.folder / "data").mkdir()
    command = [sys.executable, str(ROOT / "locked/make_data.py"), "--out", str(target), "--corpus", str(source)]
    if (code := subprocess.run(command, check=False, env=environment).returncode) != 0:
        raise TrialFailedError(
            f"the data could not be prepared (exit code {code}), see above; or bring it along with --data FOLDER"
        )
    return target


def sources(folder: Path, places: Iterable[Path] = ()) -> Path:
    """The Python sources of this installation as documents, or those below other places."""
    folder.mkdir()
    places = places or [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib", "platlib")]
    roots = {place.resolve() for place in places if place.is_dir()} - {ROOT}
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
def leased(profile: str, *, wanted: bool = True, wait_s: float = 600.0) -> Iterator["Device | None"]:
    """An idle GPU for the length of the block, by the real locks; prints why where no lease is taken."""
    if not wanted:
        print("lease: none was taken, as asked for", flush=True)
        yield None
        return
    try:
        from orchestrator.devices.cuda_visible_devices import allowed_devices
        from orchestrator.devices.lease import LeasePolicy, lease
    except ImportError as error:
        print(f"lease: none was taken, {error.name} is not installed for {sys.executable}", flush=True)
        yield None
        return
    lists = tomllib.loads((ROOT / "task.toml").read_text())["gpu"] if profile == "gpu" else {}
    with ExitStack() as held:
        try:
            policy = LeasePolicy(
                profile=profile,  # type: ignore[arg-type]
                allow=allowed_devices(lists.get("allow", ()), os.environ) if lists else (),
                exclude=tuple(lists.get("exclude", ())),
                reserve_gpus=lists.get("reserve_gpus", 0),
            )
            got = held.enter_context(lease(policy, wait_s=wait_s, on_wait=lambda why: print(why, flush=True)))
        except AutoresearchError as error:
            raise TrialFailedError(f"{error}; on a machine that is yours alone, --no-lease does without") from error
        print(f"lease: {got.name}, {got.hardware}", flush=True)
        if got.device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = got.device.uuid
        yield got.device


def trained(  # noqa: PLR0913, PLR0917 - each is needed once
    asked: Direct, data: Path, out: Path, box: Mapping[str, float], environment: Mapping[str, str], watch: Watch
) -> str:
    """Train until the deadline; what train.py printed, shown as it comes. Raises TrialFailedError."""
    environment = {**environment, **visible(), "AUTORESEARCH_STARTED": repr(time.monotonic())}
    command = program(TRAIN, str(data), str(out), str(asked.train))
    return shown(asked.train, command, environment, box["time_budget_s"] + box["grace_s"] + asked.grace_s, watch)


def shown(what: object, command: list[str], environment: Mapping[str, str], limit_s: float, watch: Watch) -> str:
    """Run a command and return its output, which is shown as it comes; raises TrialFailedError past `limit_s`."""
    late, lines, shown_at = threading.Event(), list[str](), 0.0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        watch.follow(process.pid)

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)  # compilers that it started hold its output open

        deadline = threading.Timer(limit_s, end)
        deadline.start()
        try:
            for line in process.stdout or ():
                lines.append(line)
                if not line.startswith("step ") or time.monotonic() - shown_at >= STEP_LINES_S:
                    print(f"  {line}", end="", flush=True)
                    shown_at = time.monotonic()
        finally:
            deadline.cancel()
    if late.is_set():
        raise TrialFailedError(f"{what} was still running at its deadline, {limit_s:g} s")
    if process.returncode != 0:
        raise TrialFailedError(f"{what} ended with exit code {process.returncode}: {last_words(''.join(lines))}")
    return "".join(lines)


@contextmanager
def predictors(asked: Direct, out: Path, environment: Mapping[str, str]) -> Iterator[Predictors]:
    """A and B, which wait for the first question."""
    root = asked.folder / "score"
    for name in ("control", "data", "ask-a", "ask-b", "answer-a", "answer-b"):
        (root / name).mkdir(parents=True)
    environment = {**environment, **visible(), "AUTORESEARCH_STARTED": repr(time.monotonic())}
    with (root / "predictors.log").open("w") as log:
        waiting = {
            name: subprocess.Popen(
                program(PREDICT, str(root), name, str(out), str(asked.train)), env=environment, stdout=log, stderr=log
            )
            for name in "ab"
        }
        started = tuple(waiting.values())
        try:
            yield waiting
        finally:
            for predictor in started:
                predictor.kill()
                predictor.wait()


def scored(
    asked: Direct, data: Path, waiting: Predictors, box: Mapping[str, float], environment: Mapping[str, str]
) -> dict[str, float]:
    """The score as the host has it made: claims of one process, answers to prefixes of another."""
    root = asked.folder / "score"
    (root / "data" / "val").symlink_to((data / "val").resolve())
    began = time.monotonic()
    seconds = min(4 * box["score_budget_s"], asked.until - began)
    output = answered(root, waiting, box, environment, seconds)
    took = time.monotonic() - began
    figures = read_messages(output)
    if "val_bpb" not in figures:
        log = (root / "predictors.log").read_text()
        raise TrialFailedError(f"no score: {last_words(log + output)}")
    return {**figures, "scoring_seconds": round(took, 2)}


def answered(
    root: Path, waiting: Predictors, box: Mapping[str, float], environment: Mapping[str, str], seconds: float
) -> str:
    """Run the scorer; A is killed before the seed is handed over. A predictor that dies ends it at once."""
    keys = {
        "batch": "batch_rows",
        "small-k": "small_k",
        "large-k": "large_k",
        "cap": "audit_cap",
        "floor": "audit_floor",
    }
    options = [f"--{key}={box[name]}" for key, name in keys.items()] + [f"--seconds={seconds:g}"]
    (root / "control" / "trained").write_bytes(struct.pack("<d", 4 * box["load_budget_s"]))
    command = program(SCORE, f"--root={root}", *options)
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
            if read_message(line).get("event") == "claims":
                first = waiting.pop("a")
                first.kill()
                first.wait()
                hidden = root / "control" / ".seed"
                hidden.write_bytes(secrets.token_bytes(32))
                hidden.rename(root / "control" / "seed")
    return output


def read_message(line: str) -> dict[str, Any]:
    """Return a message of the scorer, {} for log text; without pydantic, which a bare machine may lack."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def read_messages(output: str) -> dict[str, float]:
    """Return the figures of a scorer's messages; without `val_bpb` unless there is exactly one score."""
    messages = [read_message(line) for line in output.splitlines()]
    figures: dict[str, float] = {}
    for message in messages:
        if message.get("event") == "checkpoint":
            figures["checkpoint_bytes"] = message["bytes"]
        elif message.get("event") == "rehearsed":
            figures[f"load_seconds_{message['predictor']}"] = message["load_seconds"]
    scores = [message for message in messages if message.get("event") == "score"]
    return figures | {name: scores[0][field] for field, name in SCORED.items()} if len(scores) == 1 else figures


def read_figures(output: str, names: tuple[str, ...]) -> dict[str, float]:
    """The figures of these names, each on a line of its own; what is no number is left out."""
    found = re.findall(r"^(\w+): +(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)$", output, re.MULTILINE)
    return {name: float(text) for name, text in found if name in names}


def steps(output: str) -> dict[str, float]:
    """What else a summary has that is worth a look."""
    return read_figures(output, ("num_steps", "total_tokens_M", "num_params_M", "total_seconds"))


def last_words(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def visible() -> dict[str, str]:
    """Which GPU a process may use."""
    return {key: os.environ[key] for key in ("CUDA_VISIBLE_DEVICES",) if key in os.environ}
