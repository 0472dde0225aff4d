"""Runs upstream's own train.py and prepare.py, unchanged, on our data.

    python -m gpu_day.upstream CHECKOUT DATA SECONDS

HOME names an empty folder; upstream keeps its data below it. What it is given: the same training documents, the same
validation rows as documents, and a tokenizer of the same tokens. Its budget is SECONDS of training as it counts them,
without start-up and the first steps, which compile. It prints its own summary with its own val_bpb. Then its model,
still in memory, is asked for exactly the validation rows that ours is scored on: `same_rows_bpb`.
"""

import base64
import contextlib
import json
import math
import pickle
import runpy
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SHIM = Path(__file__).parent / "shim"
DOCUMENTS_PER_GROUP = 1024
FILES = ("train.py", "prepare.py")


def main() -> None:
    """Prepare once, train, evaluate."""
    checkout, data, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    sys.path.insert(0, str(checkout))
    sys.path.append(str(SHIM))
    import prepare  # type: ignore[import-not-found]

    give_data(data, Path(prepare.DATA_DIR), Path(prepare.TOKENIZER_DIR), prepare.VAL_FILENAME, prepare.BOS_TOKEN)
    rows, row_bytes = np.load(data / "val/rows.npy"), np.load(data / "val/row_bytes.npy")
    prepare.TIME_BUDGET = int(seconds)
    prepare.EVAL_TOKENS = min(prepare.EVAL_TOKENS, rows.shape[0] * (rows.shape[1] - 1))
    ran = runpy.run_path(str(checkout / "train.py"), run_name="__main__")
    with ran.get("autocast_ctx", contextlib.nullcontext()):
        bpb = same_rows_bpb(ran["model"], rows, int(row_bytes.sum()), ran["DEVICE_BATCH_SIZE"])
    print(f"same_rows_bpb: {bpb:.6f}", flush=True)


def give_data(data: Path, documents: Path, tokenizer: Path, val_name: str, bos: str) -> None:
    """Lay our data out as upstream's, unless it is there from an earlier call."""
    import tiktoken
    import torch  # type: ignore[import-not-found]

    if (tokenizer / "token_bytes.pt").exists():
        return
    told = json.loads((data / "tokenizer/tokenizer.json").read_bytes())
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(told["tokens"])}
    encoding = tiktoken.Encoding(
        "task", pat_str=told["pattern"], mergeable_ranks=ranks, special_tokens={bos: len(ranks)}
    )
    documents.mkdir(parents=True, exist_ok=True)
    for shard in sorted((data / "train").glob("tokens-*.bin")):
        starts = np.load(shard.with_name(shard.name.replace("tokens", "starts")).with_suffix(".npy"))
        tokens = np.fromfile(shard, dtype="<u2")
        texts = (tokens[first:last] for first, last in pairwise(starts))
        _write(documents / shard.name.replace("tokens-", "shard_").replace(".bin", ".parquet"), texts, encoding)
    _write(documents / val_name, _pieces(np.load(data / "val/rows.npy"), len(ranks)), encoding)
    tokenizer.mkdir(parents=True, exist_ok=True)
    (tokenizer / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    lengths = [len(encoding.decode([token]).encode()) for token in range(len(ranks))] + [0]  # as upstream counts them
    torch.save(torch.tensor(lengths, dtype=torch.int32), tokenizer / "token_bytes.pt")


def same_rows_bpb(model: Callable[..., Any], rows: np.ndarray, total_bytes: int, batch: int) -> float:
    """Bits per byte of our validation rows, uint16 [N, T+1], by upstream's model; a last batch of another size too."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    bos, nats = int(rows[0, 0]), 0.0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch].astype("int64")
        padded = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])  # one shape for its compiler
        tokens = torch.from_numpy(padded).to(device)
        with torch.no_grad():
            losses = model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), reduction="none")
        losses = losses.view(batch, -1)[: len(part)].double()
        nats += float(losses[tokens[: len(part), 1:] != bos].sum())
    return nats / math.log(2) / total_bytes


def _pieces(rows: np.ndarray, bos: int) -> Iterator[np.ndarray]:
    """The documents of packed rows, as they were cropped there."""
    for row in rows:
        for piece in np.split(row, np.flatnonzero(row == bos)):
            if len(piece) > 1:
                yield piece[1:]


def _write(path: Path, texts: Iterator[np.ndarray], encoding: Any) -> None:  # noqa: ANN401 - tiktoken has no types
    import pyarrow as pa  # type: ignore[import-not-found]
    import pyarrow.parquet as pq  # type: ignore[import-not-found]

    decoded = [encoding.decode(tokens.tolist(), errors="ignore") for tokens in texts]
    pq.write_table(pa.table({"text": decoded}), path, row_group_size=DOCUMENTS_PER_GROUP)


if __name__ == "__main__":
    main()
