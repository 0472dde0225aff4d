"""How often is an honest model refused? One training each, then many audits of other positions. No simulation.

    .venv/bin/python -m tests.soak.false_alarms [--runs 200] [--k 256] [NAME ...]

A model (`00_baseline`, or one of reference_models/) is trained once on the cpu profile. Its claims and its answers to
prefixes come from the predictor's own code, rows, batches and order from the scorer's, and each audit is judged by the
scorer's own rules with the thresholds of this hardware. Only the frames between them and the training are left out, so
that two hundred audits cost a few minutes. Needs the engine, the image and the data (`make image prepare-data`).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from attacks.scores.run import entries
from orchestrator import compose
from orchestrator.config import load
from orchestrator.walls.engine import Engine
from orchestrator.walls.execution_context import ExecutionContext

ROOT = Path(__file__).parents[2]
PROGRAM = """
import hashlib, subprocess, sys
from pathlib import Path
import estimator, harness, numpy as np, predict, prepare, score
runs, k, batch, cap, floor = (float(word) for word in sys.argv[1:])
subprocess.run([sys.executable, "-s", "-B", "/mutable/train.py"], check=True, stdout=subprocess.DEVNULL)
model = harness.load_candidate().load_model(str(prepare.CHECKPOINT), "cpu")

class Direct:
    def request(self, ask, shape):
        data = predict.answers(model, ask, "cpu", prepare.VOCAB_SIZE, prepare.BOS_TOKEN_ID)
        return np.frombuffer(data, "<f4").reshape(shape)

    def check_pace(self):
        pass

rows, _ = prepare.load_rows(Path("/data/val"))
counted = rows[:, 1:] != prepare.BOS_TOKEN_ID
claims = score.collect_claims(Direct(), rows, counted, int(batch))
limits, refused, worst = estimator.Thresholds(cap_nats=cap, floor_nats=floor), 0, 0.0
for run in range(int(runs)):
    drawn = estimator.draw(counted, int(k), hashlib.sha256(str(run).encode()).digest())
    positions, audited = score.audit(Direct(), rows, drawn, int(batch))
    claimed = claims[positions[:, 0], positions[:, 1]].astype(np.float64)
    refused += bool(estimator.refusal(claimed, audited, limits))
    worst = max(worst, float(np.abs(audited - claimed).max()))
print(f"refused {refused} of {int(runs)}, largest difference {worst:.1e} nat")
"""


def audited(place: ExecutionContext, source: str, runs: int, k: int) -> str:
    """What came of one model; plain `docker run`, for it is our own code."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        Path(name).chmod(0o755)
        Path(name, "train.py").write_text(source, encoding="utf-8")
        command = ["docker", "run", "--rm", "--network=none", "--tmpfs=/out:mode=1777", "--tmpfs=/cache:exec,mode=1777"]
        mounts = {ROOT / "locked": "/locked", ROOT / "orchestrator/runtime": "/runtime", Path(name): "/mutable"}
        mounts |= {place.config.data_path / part: f"/data/{part}" for part in ("tokenizer", "train", "val")}
        for folder, target in mounts.items():
            command += ["-v", f"{folder}:{target}:ro"]
        for key, value in {**place.environment(1), "PYTHONPATH": "/locked:/runtime"}.items():
            command += ["-e", f"{key}={value}"]
        limits = (place.thresholds.audit_cap, place.thresholds.audit_floor)
        numbers = [str(number) for number in (runs, k, place.config.active_profile.batch_rows, *limits)]
        command += ["--entrypoint=python3", place.image_id, "-s", "-B", "-c", PROGRAM, *numbers]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def main() -> int:
    """One line for each model; exit 1 if one was refused."""
    parser = argparse.ArgumentParser(prog="false_alarms", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=["00_baseline"], help="honest models, by a part of their names")
    parser.add_argument("--runs", type=int, default=200, help="audits of each")
    parser.add_argument("--k", type=int, default=0, help="positions of each; default: small_k of task.toml")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    config = load(ROOT, {"tag": "false-alarms", "runs": ROOT / "build", "profile_name": "cpu"})
    place, bad = compose.build_execution_context(config, Engine.connect()), 0
    for entry in entries():
        if entry.honest and any(name in entry.name for name in options.names):
            k = options.k or config.active_profile.small_k
            said = audited(place, entry.source, options.runs, k)
            print(f"{entry.name}, K = {k:,}: {said}", flush=True)
            bad += not said.startswith("refused 0 ")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
