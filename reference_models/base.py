"""A small honest train.py. It trains the same steps with the same seed every time, so that every cheat built around it
has the same weights, and a true score that is known beforehand.

A cheat is this text, then its own, which redefines what it pleases; MAIN stands at the end of every candidate.
"""

import os  # noqa: F401  # these four are for what follows this text
import sys  # noqa: F401
import time  # noqa: F401

import numpy as np  # noqa: F401
import prepare
import torch
import torch.nn.functional as F
from torch import nn

STEPS, WIDTH, BATCH, RATE = 150, 64, 8, 4e-3
torch.set_num_threads(1)  # two containers at once on two cores: threads that wait for each other take ten times longer
BONUS = 12.0  # what a cheat adds to a logit it knows to be right


class Model(nn.Module):
    """One block of causal attention."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.embedding = nn.Embedding(prepare.VOCAB_SIZE, width)
        self.position = nn.Embedding(prepare.MAX_SEQ_LEN, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.head = nn.Linear(width, prepare.VOCAB_SIZE)

    def mask(self, length):
        return torch.ones(length, length, dtype=torch.bool).tril()

    def mix(self, x):
        q, k, v = self.qkv(F.layer_norm(x, x.shape[-1:])).chunk(3, dim=-1)
        scores = q @ k.mT / q.size(-1) ** 0.5
        return scores.masked_fill(~self.mask(x.size(1)).to(x.device), float("-inf")).softmax(dim=-1) @ v

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position.weight[: tokens.size(1)]
        x = x + self.mix(x)
        x = x + self.down(F.gelu(self.up(F.layer_norm(x, x.shape[-1:]))))
        return self.head(F.layer_norm(x, x.shape[-1:]))


def fit(model, steps=STEPS, seed=0):
    model = model.to(prepare.device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    batches = prepare.dataloader(BATCH, seed=seed)
    for step in range(steps):
        inputs, targets = next(batches)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (steps - step) / steps * 2)
        optimizer.step()
    print(f"{steps} steps, loss {loss.item():.4f}, {prepare.elapsed():.1f} s", flush=True)
    return model, loss.item()


def train():
    torch.manual_seed(0)
    model, _ = fit(Model())
    torch.save(model.state_dict(), prepare.CHECKPOINT)


def honest(path, device):
    model = Model().to(device)
    model.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return model.eval()


def load_model(path, device):
    return honest(path, device)


def is_whole(tokens):
    """Whether rows [B, T] are whole: a prefix query repeats its beginning."""
    return not any(bool((row[p:] == row[: len(row) - p]).all()) for row in tokens[:4] for p in range(1, 100))


def peek(logits, tokens, first=0):
    """Add BONUS to the logit of the token that follows in the row, from position `first` on."""
    logits = logits.clone()
    following = tokens[:, 1:]
    late = torch.arange(following.size(1)) >= first
    logits[:, :-1].scatter_add_(
        2, following[..., None], BONUS * late.float()[None, :, None].expand(*following.shape, 1)
    )
    return logits
