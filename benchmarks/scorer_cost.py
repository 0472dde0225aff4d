"""What the scorer itself takes at the sizes of the gpu profile, beside a predictor that computes nothing. Needs no GPU.

    .venv/bin/python -m benchmarks.scorer_cost

The predictor is a process that answers every question at once with the same bytes: a uniform model. What is left is
frames, audit order, float64 softmax and waiting, in seconds and as a share of the profile's time budget. Last, it
counts the forward passes of an experiment, and estimates what those take on an H100.
"""

import json
import multiprocessing
import os
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

os.environ["AUTORESEARCH_PROFILE"] = "gpu"  # before prepare is imported
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "locked"), str(ROOT / "orchestrator/runtime")]
import channel  # noqa: E402
import estimator  # noqa: E402
import frames  # noqa: E402
import numpy as np  # noqa: E402
import prepare  # noqa: E402
import protocol  # noqa: E402

PARAMETERS = (50e6, 124e6, 350e6)  # the first is about what train.py has
FLOPS = 0.4 * 989e12  # of an H100, bf16 dense, at a usual share of it
BANDWIDTH, LOGIT_TRIPS = 2.5e12, 8  # bytes/s in practice; how often float32 logits are written or read
LOADING_S = 8.0  # both predictors: torch, CUDA context, checkpoint


def predict(root: Path, name: str) -> None:
    """Answer as a uniform model does, until killed."""
    ask, answer = root / f"ask-{name}", root / f"answer-{name}"
    claim = struct.pack("<f", -np.log(prepare.VOCAB_SIZE))
    frames.wait(ask, protocol.BEGIN, until=float("inf"))
    frames.write(answer, protocol.HELLO, protocol.Hello(digest=bytes(32), size=1, fresh=True).encode())
    frames.write(answer, protocol.READY, b"")
    number = 0
    while True:
        frames.wait(ask, protocol.ask_name(number), until=float("inf"))
        asked = protocol.decode((ask / protocol.ask_name(number)).read_bytes())
        rows, width = asked.tokens.shape
        data = claim * (rows * (width - 1)) if asked.kind == protocol.CLAIMS else bytes(4 * rows * prepare.VOCAB_SIZE)
        (answer / protocol.answer_name(number - 1)).unlink(missing_ok=True)
        frames.write(answer, protocol.answer_name(number), data)
        number += 1


def stage(root: Path) -> None:
    """Write random validation rows of the profile's size, and create all folders."""
    for name in ("ask-a", "answer-a", "ask-b", "answer-b", "control", "data/val"):
        (root / name).mkdir(parents=True)
    count, val = prepare.EVAL_TOKENS // prepare.MAX_SEQ_LEN, root / "data/val"
    rows = np.random.default_rng(0).integers(prepare.BOS_TOKEN_ID, size=(count, prepare.MAX_SEQ_LEN + 1))
    np.save(val / "rows.npy", rows.astype("<u2"))
    np.save(val / "row_bytes.npy", np.full(count, 4 * prepare.MAX_SEQ_LEN, dtype=np.int64))
    files = {p.name: {"bytes": p.stat().st_size, "sha256": prepare.file_sha256(p)} for p in val.iterdir()}
    (val / prepare.MANIFEST).write_text(json.dumps({"profile": "gpu", "files": files}))
    frames.write(root / "control", channel.TRAINED, channel.LOAD_SECONDS.pack(60.0))
    frames.write(root / "control", channel.SEED, bytes(channel.SEED_BYTES))


def scored(k: int, batch: int) -> tuple[float, float, int]:
    """Measure seconds, processor seconds and questions of a whole score with `k` audited positions."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="scorer-cost-") as name:  # volumes are memory
        root = Path(name)
        stage(root)
        predictors = [multiprocessing.Process(target=predict, args=(root, which), daemon=True) for which in "ab"]
        for predictor in predictors:
            predictor.start()
        options = [f"--root={root}", f"--batch={batch}", f"--small-k={k}", f"--large-k={k}"]
        command = [sys.executable, str(ROOT / "locked/score.py"), *options, "--cap=1", "--floor=1", "--seconds=3000"]
        before, begun = sum(os.times()[2:4]), time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "orchestrator/runtime")}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        took = time.monotonic() - begun
        used = sum(os.times()[2:4]) - before  # of the scorer: the predictors still live
        for predictor in predictors:
            predictor.kill()
            predictor.join()
        return took, used, passes(k, batch)


def passes(k: int, batch: int) -> int:
    """Count the forward passes of one score, both rehearsals included."""
    count = prepare.EVAL_TOKENS // prepare.MAX_SEQ_LEN
    drawn = estimator.draw(np.ones((count, prepare.MAX_SEQ_LEN), dtype=bool), k, bytes(32))
    return 2 + -(-count // batch) + sum(-(-len(turn) // batch) for turn in estimator.rounds(drawn))


def pass_s(parameters: float, batch: int) -> float:
    """Estimate the seconds of one forward pass from its operations."""
    tokens = batch * prepare.MAX_SEQ_LEN
    return 2 * parameters * tokens / FLOPS + LOGIT_TRIPS * 4 * tokens * prepare.VOCAB_SIZE / BANDWIDTH


def main() -> None:
    """Print one line for each K."""
    box = tomllib.loads((ROOT / "task.toml").read_text(encoding="utf-8"))["profile"]["gpu"]
    budget, batch = box["time_budget_s"], box["batch_rows"]
    for name in ("small_k", "large_k"):
        took, used, count = scored(box[name], batch)
        print(
            f"{name} {box[name]:,}: {count:,} questions, {took:.1f} s ({took / budget:.1%} of {budget:g} s),", end=" "
        )
        print(f"{used:.1f} processor seconds of the scorer", flush=True)
        for size in PARAMETERS:
            seconds = LOADING_S + used + count * pass_s(size, batch)
            print(f"    {size / 1e6:.0f} M parameters on an H100, by count: {seconds:.0f} s ({seconds / budget:.1%})")


if __name__ == "__main__":
    main()
