"""The real GPU check: a lease, five minutes of training, a score at L2, and the figures of all of it.

    make test-gpu                                   # python -m gpu_day.check
    python3 -m gpu_day.check --corpus FOLDER        # .txt, .jsonl or .parquet files, not this machine's Python sources

Where an engine hands out GPUs, one baseline of the gpu profile runs in containers, as every experiment does. Elsewhere,
or with `--direct`, the same code runs directly (gpu_day/direct.py): the lease on the real NVML, `mutable/train.py` in a
process that is killed at its deadline, `locked/score.py` against two processes of `locked/predict.py`. That needs a
Python with torch, numpy, tiktoken and rustbpe (the last one not with `--data`), PYTHONPATH may name where they are.
It walls nothing in: only for a train.py of your own. Without a GPU it fails.

`--profile cpu` tries the direct way without a GPU: it shows that this program works, and is no GPU check.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from gpu_day import ROOT, contained
from gpu_day.direct import Direct, leased
from gpu_day.machine import gpus
from gpu_day.record import Trial, TrialFailedError

TRAIN = ROOT / "mutable" / "train.py"


def last_line(where: str, trial: Trial) -> str:
    """Everything in one line; what train.py did not say is unknown."""

    def said(key: str) -> str:
        return f"{trial.figures[key]:,.1f}" if key in trial.figures else "unknown"

    return (
        f"test-gpu: {where}: {said('tokens_per_second')} tok/s, MFU {said('mfu_percent')} %,"
        f" val_bpb {trial.figures['val_bpb']} ({trial.level}), peak {said('peak_vram_mb')} MB,"
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
    direct.add_argument("--no-lease", action="store_true", help="on a machine that is yours alone")
    options = parser.parse_args()
    options.seconds = options.seconds or {"gpu": 300.0, "cpu": 25.0}[options.profile]
    return options


def run(options: argparse.Namespace) -> None:
    """Say what is tested and how, then the figures. Raises TrialFailedError."""
    gpu = options.profile == "gpu"
    names = gpus() if gpu else "no GPU, the cpu profile"
    why = "asked for" if options.direct or not gpu else contained.why_not()
    if not why and (options.data or options.train != TRAIN or options.no_lease):
        raise TrialFailedError("--data, --train and --no-lease are for runs without containers: add --direct")
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="test-gpu-") as name:
        check = Direct(
            profile=options.profile, folder=Path(name), seconds=options.seconds, corpus=options.corpus,
            data=options.data, train=options.train, small_audit=options.small_audit,
        )  # fmt: skip
        print(f"test-gpu: {f'directly, without walls ({why})' if why else 'in containers'}, on\n{names}", flush=True)
        if why:
            with leased(options.profile, wanted=not options.no_lease) as device:
                trial = check.run(device)
        else:
            trial = contained.baseline(check)
    where = f"{names.splitlines()[0].split(' (UUID')[0]}, {datetime.now(UTC):%Y-%m-%d}"
    print(json.dumps({"where": where, **asdict(trial)}))
    print(last_line(where, trial))


def main() -> None:
    """End with one line where there is nothing to test."""
    try:
        run(asked())
    except TrialFailedError as error:
        sys.exit(f"test-gpu: {error}")


if __name__ == "__main__":
    main()
