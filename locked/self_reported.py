"""Runs a script that reports its own number (L0, `--scoring self-reported`), as upstream's train.py is.

It gets upstream's other names in `prepare`: a loader by split, and an evaluation that the script runs on itself. The
validation rows are then beside the locked files. Nothing here makes a score that is believed.

    python3 /locked/self_reported.py /mutable/train.py
"""

import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import prepare
import torch

VAL = Path(__file__).parent / "val"  # only where scripts are trusted with it


def make_dataloader(
    tokenizer: prepare.Tokenizer,  # noqa: ARG001  # upstream packs rows as it goes; here they come packed
    batch_size: int,
    seq_len: int,
    split: str,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """Yield (inputs, targets, epoch) without end, on the device; of `val` the same rows again and again."""
    if split == "train":
        for inputs, targets in prepare.dataloader(batch_size, seq_len):
            yield inputs, targets, 1
    rows, _ = _rows()
    epoch = 0
    while True:
        epoch += 1
        for start in range(0, len(rows), batch_size):
            yield *_pair(rows[start : start + batch_size, : seq_len + 1]), epoch


@torch.no_grad()
def evaluate_bpb(model: Any, tokenizer: prepare.Tokenizer, batch_size: int) -> float:  # noqa: ANN401, ARG001
    """Return validation bits per byte by `model(inputs, targets, reduction="none")`, nats for each target."""
    rows, row_bytes = _rows()
    nats = 0.0
    for start in range(0, len(rows), batch_size):
        inputs, targets = _pair(rows[start : start + batch_size])
        losses = model(inputs, targets, reduction="none").view(-1)
        nats += float(losses[targets.reshape(-1) != prepare.BOS_TOKEN_ID].double().sum())
    return nats / math.log(2) / int(row_bytes.sum())


def get_token_bytes(device: str = "cpu") -> torch.Tensor:
    """Return how many bytes of text each token id encodes: int32 [V]."""
    return torch.from_numpy(prepare.Tokenizer.load().byte_lengths().astype("int32")).to(device)


def _rows() -> tuple[np.ndarray, np.ndarray]:
    if not VAL.is_dir():
        prepare.fail(
            "no validation text in here: it is for scripts that report their own number (--scoring self-reported)"
        )
    return prepare.load_rows(VAL)


def _pair(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.from_numpy(rows.astype("int64")).to(prepare.device())
    return both[:, :-1], both[:, 1:]


def main() -> None:
    """Add upstream's names to `prepare`, and run the script as the main program."""
    for function in (make_dataloader, evaluate_bpb, get_token_bytes):
        setattr(prepare, function.__name__, function)
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
