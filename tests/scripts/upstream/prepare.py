"""What a script in upstream's manner has beside it: data below the home folder, a tokenizer in a pickle, its own score."""

import math
import os
import pickle

import pyarrow.parquet as pq
import requests  # noqa: F401
import rustbpe  # noqa: F401
import torch

MAX_SEQ_LEN = 128
TIME_BUDGET = 300
EVAL_TOKENS = 1 << 20
CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
DATA_DIR = os.path.join(CACHE_DIR, "data")
TOKENIZER_DIR = os.path.join(CACHE_DIR, "tokenizer")
VAL_FILENAME = "shard_06542.parquet"
BOS_TOKEN = "<|reserved_0|>"


class Tokenizer:
    def __init__(self, enc):
        self.enc = enc

    @classmethod
    def from_directory(cls, folder=TOKENIZER_DIR):
        with open(os.path.join(folder, "tokenizer.pkl"), "rb") as file:
            return cls(pickle.load(file))


def rows(tokenizer, split):
    names = sorted(os.listdir(DATA_DIR))
    names = [name for name in names if (name == VAL_FILENAME) == (split == "val")]
    held = []
    while True:
        for name in names:
            for text in pq.read_table(os.path.join(DATA_DIR, name)).column("text").to_pylist():
                held += [tokenizer.enc.encode_single_token(BOS_TOKEN), *tokenizer.enc.encode_ordinary(text)]
                while len(held) > MAX_SEQ_LEN:
                    yield held[: MAX_SEQ_LEN + 1]
                    held = held[MAX_SEQ_LEN + 1 :]


def make_dataloader(tokenizer, B, T, split):
    source = rows(tokenizer, split)
    while True:
        both = torch.tensor([next(source) for _ in range(B)])
        yield both[:, :-1], both[:, 1:], 1


@torch.no_grad()
def evaluate_bpb(model, tokenizer, batch_size):
    lengths = torch.load(os.path.join(TOKENIZER_DIR, "token_bytes.pt"))
    loader, nats, size = make_dataloader(tokenizer, batch_size, MAX_SEQ_LEN, "val"), 0.0, 0
    for _ in range(EVAL_TOKENS // (batch_size * MAX_SEQ_LEN)):
        x, y, _ = next(loader)
        count = lengths[y.reshape(-1)]
        nats += (model(x, y, reduction="none").view(-1) * (count > 0)).sum().item()
        size += count.sum().item()
    return nats / (math.log(2) * size)
