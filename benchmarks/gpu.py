"""The real GPU check: a lease, five minutes of training, a score at L2, and the figures of all of it.

    make test-gpu                                   # python -m benchmarks.gpu
    python3 -m benchmarks.gpu --corpus FOLDER       # .txt, .jsonl or .parquet files, not this machine's Python sources

Where an engine with NVIDIA support has the image (`make image PROFILE=gpu`), one baseline runs in containers, as every
experiment does. Elsewhere the same code runs directly: the lease on the real NVML, `mutable/train.py` in a process that
is killed at its deadline, `locked/score.py` against two processes of `locked/predict.py`. That needs a Python with
torch, numpy, tiktoken and rustbpe, and walls nothing in: only for a train.py of your own. Without a GPU it fails.

`--profile cpu` tries the direct way without a GPU: it shows that this program works, and is no GPU check.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.score.told import told

ROOT = Path(__file__).parents[1]
LARGEST_SOURCE = 1 << 20  # bytes
TRAIN = """
import runpy, sys
from pathlib import Path
import prepare
data, out, train = map(Path, sys.argv[1:])
prepare.TOKENIZER, prepare.TRAIN, prepare.CHECKPOINT = data / "tokenizer", data / "train", out / "checkpoint.pt"
runpy.run_path(str(train), run_name="__main__")
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


def gpus() -> str:
    """The names of the GPUs here, "" where there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return _seen_by_torch()
    done = subprocess.run([command, "-L"], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else ""


def _seen_by_torch() -> str:
    try:
        import torch  # type: ignore[import-not-found]  # noqa: PLC0415 - often not there
    except ImportError:
        return ""
    return "\n".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def has_engine() -> bool:
    """Whether an engine that can hand out GPUs has the image."""
    if shutil.which("docker") is None:
        return False
    asked = (["info", "--format", "{{json .Runtimes}}"], ["image", "inspect", "autoresearch-sandbox:gpu"])
    told = [subprocess.run(["docker", *words], capture_output=True, text=True, check=False) for words in asked]
    return all(done.returncode == 0 for done in told) and "nvidia" in told[0].stdout


def contained(corpus: str, folder: Path) -> dict[str, Any]:
    """One baseline of the gpu profile through the whole product; what its record says."""
    place = ["--run", "test-gpu", "--runs", str(folder)]
    data = [] if corpus == "python" else ["--data", corpus]
    own = ROOT / ".venv" / "bin" / "python"  # this program may run in another one, for its torch
    autoresearch = [str(own if own.exists() else sys.executable), "-m", "orchestrator"]
    environment = {**os.environ, "AUTORESEARCH_NOISE__BASELINE_RUNS": "1"}
    for command in (
        [*autoresearch, "data", "--profile", "gpu", *data],
        [*autoresearch, "loop", "--profile", "gpu", *data, *place, "--proposer", "sweep", "--hours", "0.01"],
    ):
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
    result = json.loads((folder / "test-gpu" / "0000" / "result.json").read_text())
    seconds = sum(execution["duration_s"] for execution in result["executions"] if execution["role"] == "scorer")
    score = result["experiment"]["score"] or {}
    return {**result["told"], "val_bpb": score.get("val_bpb"), "level": score.get("level"), "scoring_seconds": seconds}


def direct(profile: str, corpus: str, seconds: float, folder: Path) -> dict[str, Any]:
    """The same programs as processes of this user."""
    box = {**tomllib.loads((ROOT / "task.toml").read_text())["profile"][profile], "time_budget_s": seconds}
    environment = {
        **os.environ, "AUTORESEARCH_PROFILE": profile, "AUTORESEARCH_TIME_BUDGET": f"{seconds:g}",
        "AUTORESEARCH_SEED": "1", "PYTHONPATH": str(ROOT / "locked"), "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton"),
    }  # fmt: skip
    data = prepared(profile, corpus, folder, environment)
    (out := folder / "out").mkdir()
    with (
        leased(profile),
        predictors(folder / "score", out, environment) as waiting,
    ):  # who sees /out empty before it begins
        said = trained(data, out, box, environment)
        return {**told(said), **scored(data, folder / "score", waiting, box, environment)}


def prepared(profile: str, corpus: str, folder: Path, environment: dict[str, str]) -> Path:
    """The data of this profile: what `make data` made, or made now."""
    made = ROOT / "data" / f"{profile}-python"
    if corpus == "python" and (made / "holdout" / "manifest.json").is_file():
        return made
    source = Path(corpus) if corpus != "python" else sources(folder / "corpus")
    target = folder / "data"
    target.mkdir()
    command = [sys.executable, "-s", str(ROOT / "locked/prepare.py"), "--out", str(target), "--corpus", str(source)]
    subprocess.run(command, check=True, env=environment)
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
def leased(profile: str) -> Iterator[None]:
    """An idle GPU of ours alone, by the real locks; said plainly where nvidia-ml-py is missing."""
    try:
        from orchestrator.devices.lease import LeasePolicy, lease  # noqa: PLC0415 - needs nvidia-ml-py
    except ImportError as error:
        print(f"lease: none was taken, {error.name} is not installed for {sys.executable}")
        yield
        return
    with lease(LeasePolicy(profile=profile, leave_free=0), wait_s=600, on_wait=print) as got:  # type: ignore[arg-type]
        print(f"lease: {got.name}, {got.hardware}")
        if got.device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = got.device.uuid
        yield


def trained(data: Path, out: Path, box: dict[str, Any], environment: dict[str, str]) -> str:
    """Train until the deadline; what train.py printed."""
    environment = {**environment, **visible(), "AUTORESEARCH_STARTED": repr(time.monotonic())}
    command = [sys.executable, "-s", "-c", TRAIN, str(data), str(out), str(ROOT / "mutable" / "train.py")]
    limit = box["time_budget_s"] + box["grace_s"]
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        sys.exit(f"test-gpu: train.py was still running at its deadline, {limit:g} s")
    except subprocess.CalledProcessError as error:
        sys.exit(f"test-gpu: train.py ended with exit code {error.returncode}: {error.stdout[-500:]}")
    print(done.stdout[-1500:], flush=True)
    return done.stdout


@contextmanager
def predictors(root: Path, out: Path, environment: dict[str, str]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A and B, which wait for the first question."""
    for name in ("control", "data", "ask-a", "ask-b", "answer-a", "answer-b"):
        (root / name).mkdir(parents=True)
    command, rest = [sys.executable, "-s", "-c", PREDICT, str(root)], [str(out), str(ROOT / "mutable" / "train.py")]
    with (root / "predictors.log").open("w") as log:
        waiting = {
            name: subprocess.Popen([*command, name, *rest], env={**environment, **visible()}, stdout=log, stderr=log)
            for name in "ab"
        }
        try:
            yield waiting
        finally:
            for predictor in waiting.values():
                predictor.kill()
                predictor.wait()


def scored(
    data: Path,
    root: Path,
    waiting: dict[str, subprocess.Popen[bytes]],
    box: dict[str, Any],
    environment: dict[str, str],
) -> dict[str, Any]:
    """The score as the host has it made: claims of one process, answers to prefixes of another."""
    (root / "data" / "val").symlink_to(data / "val")
    began = time.monotonic()
    output = answered(root, waiting, box, environment)
    seconds = time.monotonic() - began
    found = re.findall(r"^val_bpb: (\S+)$", output, re.MULTILINE)
    if len(found) != 1:
        sys.exit(f"test-gpu: no score: {output[-500:]}\n{(root / 'predictors.log').read_text()[-2000:]}")
    return {"val_bpb": float(found[0]), "level": "L2", "scoring_seconds": seconds}


def answered(
    root: Path, waiting: dict[str, subprocess.Popen[bytes]], box: dict[str, Any], environment: dict[str, str]
) -> str:
    """Run the scorer; A is killed before the seed is handed over."""
    keys = {"batch": "batch_rows", "small-k": "small_k", "large-k": "large_k", "cap": "cap_nats", "floor": "floor_nats"}
    options = [f"--{key}={box[name]}" for key, name in keys.items()] + [f"--seconds={4 * box['score_budget_s']}"]
    command = [sys.executable, "-s", str(ROOT / "locked" / "score.py"), f"--root={root}", *options]
    output = ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as scorer:
        for line in scorer.stdout or ():
            output += line
            if line.startswith("claims_sha256: "):
                waiting["a"].kill()
                waiting["a"].wait()
                hidden = root / "control" / ".seed"
                hidden.write_bytes(secrets.token_bytes(32))
                hidden.rename(root / "control" / "seed")
            if any(process.poll() not in (None, -9) for process in waiting.values()):
                scorer.kill()
    return output


def visible() -> dict[str, str]:
    """Which GPU a process may use."""
    return {key: os.environ[key] for key in ("CUDA_VISIBLE_DEVICES",) if key in os.environ}


def last_line(where: str, figures: dict[str, Any]) -> str:
    """Everything in one line."""
    number = {key: f"{value:,.1f}" for key, value in figures.items() if isinstance(value, float)}
    return (
        f"test-gpu: {where}: {number['tokens_per_second']} tok/s, MFU {number['mfu_percent']} %,"
        f" val_bpb {figures['val_bpb']} ({figures['level']}), peak {number['peak_vram_mb']} MB,"
        f" start-up {number['startup_seconds']} s, compile {number['compile_seconds']} s,"
        f" training {number['training_seconds']} s, scoring {number['scoring_seconds']} s"
    )


def main() -> None:
    """Say what is tested and how, then the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", default="python", help="a folder of .txt, .jsonl or .parquet files")
    parser.add_argument("--seconds", type=float, help="of training, start-up included; default: the profile's")
    parser.add_argument("--profile", choices=["gpu", "cpu"], default="gpu", help="cpu: try this program without a GPU")
    parser.add_argument("--direct", action="store_true", help="without containers in any case")
    options = parser.parse_args()
    names = gpus()
    if options.profile == "gpu" and not names:
        sys.exit("test-gpu: there is no NVIDIA GPU here (neither nvidia-smi nor torch knows one): nothing was tested")
    seconds = options.seconds or {"gpu": 300.0, "cpu": 25.0}[options.profile]
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="test-gpu-") as name:
        if options.profile == "gpu" and not options.direct and has_engine():
            print(f"test-gpu: in containers, on\n{names}", flush=True)
            figures = contained(options.corpus, Path(name))
        else:
            reason = "asked for" if options.direct or options.profile == "cpu" else "no engine here hands out GPUs"
            print(f"test-gpu: directly, without walls ({reason}), on\n{names or 'no GPU'}", flush=True)
            figures = direct(options.profile, options.corpus, seconds, Path(name))
    machine = names.splitlines()[0].split(" (UUID")[0] if options.profile == "gpu" else "no GPU, the cpu profile"
    where = f"{machine}, {datetime.now(UTC):%Y-%m-%d}"
    print(json.dumps({"where": where, **figures}))
    print(last_line(where, figures))


if __name__ == "__main__":
    main()
