"""The predictor's harness: answers the scorer's questions with the candidate's own load_model.

The process is as untrusted as the trainer from the moment train.py is imported, at the first question. What it does
before that (hashing the checkpoint) is ours, and is said to the scorer before that moment. It waits without torch and
without load while the trainer lives.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import frames
import protocol
from harness import checkpoint_digest, load_candidate, size_of

if TYPE_CHECKING:
    import torch

ASK, ANSWER, OUT = Path("/ask"), Path("/answer"), Path("/out")
CLOCKS_DIFFER_S = 0.5  # a file's time is that of the last tick
FOREVER = float("inf")  # the guard and the host end this container in time


def hello(folder: Path, *, fresh: bool) -> protocol.Hello:
    """Describe the checkpoint; exits if its files claim more bytes than fit there, which would take forever to hash."""
    size, place = size_of(folder), os.statvfs(folder)
    if size > (room := place.f_blocks * place.f_frsize):
        sys.exit(
            f"error: the files at {folder} say they hold {size} bytes, more than the {room} there: no sparse files"
        )
    return protocol.Hello(digest=checkpoint_digest(folder), size=size, fresh=fresh)


def is_fresh(folder: Path, born: float) -> bool:
    """Return whether nothing in a folder is older than this container, which began at `born` (seconds since the epoch).

    The trainer starts later, but on a busy machine may have written before we come to look.
    """
    return all(path.lstat().st_ctime > born - CLOCKS_DIFFER_S for path in folder.iterdir())


def answers(model: Callable[[Any], Any], ask: protocol.Ask, device: str, vocabulary: int, unscored: int) -> bytes:
    """Return a float32 frame: claims [B, T] in nats, or the logits [B, V] at each row's position."""
    import torch  # not before the trainer is gone

    tokens = torch.from_numpy(ask.tokens.astype("int64")).to(device)
    inputs = tokens[:, :-1] if ask.kind == protocol.CLAIMS else tokens
    with torch.no_grad():
        logits = model(inputs)
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        raise TypeError(f"load_model(...)(tokens) must return a floating-point tensor, got {type(logits).__name__}")
    _check(logits, (*inputs.shape, vocabulary), tokens.device.type)
    if ask.kind == protocol.CLAIMS:
        rows = [
            torch.log_softmax(row.float(), dim=-1).gather(-1, target[:, None])[:, 0]
            for row, target in zip(logits, tokens[:, 1:], strict=True)
        ]
        result = torch.stack(rows)
        bad = ~result.isfinite() & (tokens[:, 1:] != unscored)
        if (result[bad] == float("-inf")).any():
            raise ValueError(
                "the token that follows has probability 0: give every token but BOS a finite logit, mask none"
            )
    else:
        positions = torch.from_numpy(ask.positions.astype("int64")).to(device)
        result = logits[torch.arange(len(positions), device=device), positions].float()
        bad = result.isnan() | (result == float("inf"))
    if bad.any():
        raise ValueError("a logit is NaN or infinite: did the training diverge?")
    return bytes(result.cpu().contiguous().numpy().astype("<f4").tobytes())


def _check(logits: "torch.Tensor", wanted: tuple[int, ...], device: str) -> None:
    """Raise ValueError with the fix for logits of another shape, or on another device than their tokens."""
    if tuple(logits.shape) != wanted:
        got = f"for tokens {list(wanted[:-1])}, got {list(logits.shape)}"
        padded = tuple(logits.shape[:-1]) == wanted[:-1] and logits.shape[-1] > wanted[-1]
        fix = f": cut a padded vocabulary off, logits[..., :{wanted[-1]}]" if padded else ""
        raise ValueError(f"load_model(...)(tokens) must return logits {list(wanted)} {got}{fix}")
    if logits.device.type != device:
        raise ValueError(
            f"the logits are on {logits.device.type}, the tokens on {device}: return logits.to(tokens.device)"
        )


def serve() -> None:
    """Answer questions one after the other until the host ends this container."""
    age_s = time.monotonic() - float(os.environ["AUTORESEARCH_STARTED"])
    fresh = is_fresh(OUT, time.time() - age_s)
    frames.wait(ASK, protocol.BEGIN, until=FOREVER, poll_s=frames.WAITING_POLL_S)
    import prepare
    import torch  # noqa: F401  # import what is ours while we wait, so that the first answer comes sooner

    frames.write(ANSWER, protocol.READY, b"")
    frames.wait(ASK, protocol.HASH, until=FOREVER)
    frames.write(ANSWER, protocol.HELLO, hello(OUT, fresh=fresh).encode())
    device = prepare.device()
    frames.wait(ASK, protocol.ask_name(0), until=FOREVER)
    started = time.monotonic()
    checkpoint = Path(prepare.CHECKPOINT)
    if not checkpoint.is_file() or checkpoint.stat().st_size == 0:
        sys.exit(f"error: no checkpoint: train.py must write {checkpoint} before its time is up")
    candidate = load_candidate()
    if not callable(getattr(candidate, "load_model", None)):
        sys.exit("error: train.py offers no load_model(path, device): keep that function, it is part of the contract")
    model = candidate.load_model(str(checkpoint), device)
    print(f"model loaded in {time.monotonic() - started:.1f} s", flush=True)
    number = 0
    while True:
        name = protocol.ask_name(number)
        frames.wait(ASK, name, until=FOREVER)
        ask = protocol.decode((ASK / name).read_bytes())
        (ANSWER / protocol.answer_name(number - 1)).unlink(missing_ok=True)
        data = answers(model, ask, device, prepare.VOCAB_SIZE, prepare.BOS_TOKEN_ID)
        frames.write(ANSWER, protocol.answer_name(number), data)
        number += 1


if __name__ == "__main__":
    serve()
