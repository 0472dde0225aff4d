"""The real GPU check: a lease, five minutes of training, a score at L2, and the figures of all of it.

    make test-gpu                                   # python -m benchmarks.gpu
    python3 -m benchmarks.gpu --corpus FOLDER       # .txt, .jsonl or .parquet files, not this machine's Python sources
    python3 -m benchmarks.gpu --direct --train FILE --self-reported   # upstream's own script, L0

Where an engine hands out GPUs, one baseline of the gpu profile runs in containers, as every experiment does. Elsewhere,
or with `--direct`, the same code runs directly (benchmarks/gpu_direct.py): the lease on the real NVML,
`mutable/train.py` in a process that is killed at its deadline, `locked/score.py` against two processes of
`locked/predict.py`. That needs a Python with torch, numpy, tiktoken and rustbpe (the last one not with `--data`),
PYTHONPATH may name where they are.
It walls nothing in: only for a train.py of your own. Without a GPU it fails.

`--profile cpu` tries the direct way without a GPU: it shows that this program works, and is no GPU check.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu_direct import ROOT, Direct, fail
from orchestrator.walls import nvidia

IMAGE = "autoresearch-sandbox:gpu"
TRAIN = ROOT / "mutable" / "train.py"


def gpus() -> str:
    """The names of the GPUs here. Ends the program with the reason and the fix where there is none."""
    said = "neither nvidia-smi nor torch knows one"
    if (command := shutil.which("nvidia-smi")) is not None:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
        words = " ".join((done.stdout + done.stderr).split())[:300]
        said = f"nvidia-smi fails: {words}; fix the driver, a reboot is due after its update"
    return _seen_by_torch() or fail(f"there is no NVIDIA GPU to use here ({said}): nothing was tested")


def _seen_by_torch() -> str:
    try:
        import torch  # type: ignore[import-not-found]  # noqa: PLC0415 - often not there
    except ImportError:
        return ""
    return "\n".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def no_containers() -> str:
    """Why there can be no containers here, "" if there can. Ends the program where only the image is missing."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    asked = (["version", "--format", "{{.Server.Version}}"], ["image", "inspect", IMAGE])
    version, image = (
        subprocess.run(["docker", *words], capture_output=True, text=True, check=False) for words in asked
    )
    if version.returncode != 0:
        return f"no engine answers: {' '.join(version.stderr.split())[:200]}"
    if nvidia.is_missing(nvidia.ask_nvidia_smi()):
        return "the engine hands out no NVIDIA GPU, see `autoresearch doctor`"
    if image.returncode != 0:
        fail(f"an engine answers, but {IMAGE} is not there: make image PROFILE=gpu; or --direct, without walls")
    return ""


def contained(check: Direct) -> dict[str, Any]:
    """One baseline of the gpu profile through the whole product; what its record says."""
    place = ["--run", "test-gpu", "--runs", str(check.folder)]
    data = [] if check.corpus == "python" else ["--data", check.corpus]
    own = ROOT / ".venv" / "bin" / "python"  # this program may run in another one, for its torch
    autoresearch = [str(own if own.exists() else sys.executable), "-m", "orchestrator"]
    box = check.box()
    environment = {**os.environ, "AUTORESEARCH_NOISE__BASELINE_RUNS": "1"}
    environment |= {f"AUTORESEARCH_PROFILE__GPU__{key.upper()}": f"{box[key]}" for key in ("time_budget_s", "large_k")}
    for command in (
        [*autoresearch, "prepare-data", "--profile", "gpu", *data],
        [*autoresearch, "loop", "--profile", "gpu", *data, *place, "--proposer", "sweep", "--hours", "0.01"],
    ):
        if (code := subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode) != 0:
            fail(f"`autoresearch {command[3]}` ended with exit code {code}, see above: no figures")
    result = json.loads((check.folder / "test-gpu" / "0000" / "result.json").read_text())
    score = result["experiment"]["score"]
    if score is None:
        fail(f"the baseline has no score: {result['experiment']['status']}: {result['experiment']['reason']}")
    ended = {execution["role"]: execution["ended_s"] for execution in result["executions"]}
    seconds = ended["scorer"] - ended["trainer"]
    return {**result["told"], "val_bpb": score["value"], "level": score["level"], "scoring_seconds": seconds}


def last_line(where: str, figures: dict[str, Any]) -> str:
    """Everything in one line; what train.py did not say is unknown."""
    number = {key: f"{value:,.1f}" for key, value in figures.items() if isinstance(value, float)}

    def said(key: str) -> str:
        return number.get(key, "unknown")

    return (
        f"test-gpu: {where}: {said('tokens_per_second')} tok/s, MFU {said('mfu_percent')} %,"
        f" val_bpb {figures['val_bpb']} ({figures['level']}), peak {said('peak_vram_mb')} MB,"
        f" start-up {said('startup_seconds')} s, compile {said('compile_seconds')} s,"
        f" training {said('training_seconds')} s, scoring {said('scoring_seconds')} s"
    )


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", default="python", help="a folder of .txt, .jsonl or .parquet files")
    parser.add_argument("--seconds", type=float, help="of training, start-up included; default: the profile's")
    parser.add_argument("--profile", choices=["gpu", "cpu"], default="gpu", help="cpu: try this program without a GPU")
    parser.add_argument("--small-audit", action="store_true", help="audit as few positions as of any experiment")
    parser.add_argument("--direct", action="store_true", help="without containers in any case")
    direct = parser.add_argument_group("with --direct, or where there is no engine")
    direct.add_argument("--data", type=Path, help="prepared data, as data/gpu-python: nothing is prepared then")
    direct.add_argument("--train", type=Path, default=TRAIN, help="another train.py of yours")
    direct.add_argument("--self-reported", action="store_true", help="take the number that it prints itself (L0)")
    direct.add_argument("--no-lease", action="store_true", help="on a machine that is yours alone")
    options = parser.parse_args()
    options.seconds = options.seconds or {"gpu": 300.0, "cpu": 25.0}[options.profile]
    return options


def main() -> None:
    """Say what is tested and how, then the figures."""
    options = asked()
    gpu = options.profile == "gpu"
    names = gpus() if gpu else "no GPU, the cpu profile"
    why = "asked for" if options.direct or not gpu else no_containers()
    if not why and (options.data or options.train != TRAIN or options.self_reported or options.no_lease):
        fail("--data, --train, --self-reported and --no-lease are for runs without containers: add --direct")
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="test-gpu-") as name:
        check = Direct(
            profile=options.profile, folder=Path(name), seconds=options.seconds, corpus=options.corpus,
            data=options.data, train=options.train, self_reported=options.self_reported,
            small_audit=options.small_audit, lease=not options.no_lease,
        )  # fmt: skip
        print(f"test-gpu: {f'directly, without walls ({why})' if why else 'in containers'}, on\n{names}", flush=True)
        figures = check.run() if why else contained(check)
    where = f"{names.splitlines()[0].split(' (UUID')[0]}, {datetime.now(UTC):%Y-%m-%d}"
    print(json.dumps({"where": where, **figures}))
    print(last_line(where, figures))


if __name__ == "__main__":
    main()
