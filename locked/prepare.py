"""What every experiment is given and may not change: constants, clock, seed, device, tokenizer, data loader.

It needs the standard library and numpy only; torch and tiktoken are imported where they are used, so the scorer runs
without them.
"""

import base64
import bisect
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

if TYPE_CHECKING:
    import tiktoken
    import torch


def fail(message: str) -> NoReturn:
    """End with one line that names the file or variable, its value and the fix."""
    raise SystemExit("error: " + message)


def _variable(name: str, default: float, least: float) -> float:
    text = os.environ.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        fail(f"{name}={text!r} is not a number of at least {least:g}: set it to one, or unset it")
    return value


# --- the profile: fixed constants -----------------------------------------------------------------------------------

PROFILE = os.environ.get("AUTORESEARCH_PROFILE", "cpu")
if PROFILE not in {"cpu", "gpu"}:
    fail(f"AUTORESEARCH_PROFILE={PROFILE!r} is no profile: set it to cpu or gpu")
GPU = PROFILE == "gpu"

MAX_SEQ_LEN = 2048 if GPU else 128  # context, tokens
VOCAB_SIZE = 8192 if GPU else 512  # with the BOS token
EVAL_TOKENS = 2_097_152 if GPU else 32_768  # targets in val, and again in holdout
BOS_TOKEN_ID = VOCAB_SIZE - 1  # stands before every document; as a target it covers no byte and is not scored
PIECE_TOKENS = 0 if GPU else MAX_SEQ_LEN  # longer documents are cut into pieces of this many tokens; 0: never

# --- clock, seed, places --------------------------------------------------------------------------------------------

STARTED = _variable("AUTORESEARCH_STARTED", time.monotonic(), 0.0)  # time.monotonic() when the container began
TIME_BUDGET = _variable("AUTORESEARCH_TIME_BUDGET", 300.0 if GPU else 25.0, 0.001)  # seconds, all of it
SEED = int(_variable("AUTORESEARCH_SEED", 1337, 0)) % 2**63

TOKENIZER, TRAIN = Path("/data/tokenizer"), Path("/data/train")
CHECKPOINT = Path("/out/checkpoint.pt")

MANIFEST = "manifest.json"
HASHED_AT_LOAD_BYTES = 1 << 24  # larger files of a training set were hashed by the host: it would take training time


def elapsed() -> float:
    """Return the seconds since the container began."""
    return time.monotonic() - STARTED


def time_left() -> float:
    """Return the seconds left of the budget; a little after 0 the container is killed."""
    return TIME_BUDGET - elapsed()


def device() -> str:
    """Return `cuda` on the gpu profile, `cpu` on the other; exits if torch cannot use the GPU."""
    if not GPU:
        return "cpu"
    import torch  # the scorer runs without torch

    if not torch.cuda.is_available():
        try:
            torch.cuda.init()
            reason = "torch sees no device"
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
        fail(f"AUTORESEARCH_PROFILE=gpu, but torch cannot use a GPU here ({reason}): fix the driver, or PROFILE=cpu")
    return "cuda"


# --- manifests ------------------------------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path, *, hash_up_to: int | None = None) -> dict[str, Any]:
    """Check every file of a prepared folder against its manifest (size always, SHA-256 up to a size); the manifest."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        files = manifest["files"].items()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        fail(f"{path} cannot be read ({type(error).__name__}): prepare the data again (make data)")
    if manifest.get("profile") != PROFILE:
        fail(f"{path} is of profile {manifest.get('profile')!r}, this is {PROFILE!r}: prepare the data (make data)")
    for name, expected in files:
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != expected["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes, its manifest says {expected['bytes']}"
            fail(f"{file} {found}: prepare the data again (make data)")
        small = hash_up_to is None or size <= hash_up_to
        if small and file_sha256(file) != expected["sha256"]:
            fail(f"{file} is not what its manifest says (SHA-256 differs): prepare the data again (make data)")
    return manifest


def load_rows(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Load the evaluation set: rows uint16 [N, T+1], and raw text bytes under each row's targets, int64 [N]."""
    check(folder)
    rows = np.load(folder / "rows.npy", allow_pickle=False)
    row_bytes = np.load(folder / "row_bytes.npy", allow_pickle=False)
    if rows.ndim != 2 or rows.shape != (len(row_bytes), MAX_SEQ_LEN + 1):
        fail(f"{folder} holds rows {list(rows.shape)}, expected [N, {MAX_SEQ_LEN + 1}]: prepare the data (make data)")
    return rows, row_bytes


# --- tokenizer ------------------------------------------------------------------------------------------------------


class Tokenizer:
    """A byte-level BPE kept as data (tokenizer.json); ids below BOS_TOKEN_ID stand for bytes of text."""

    def __init__(self, encoding: "tiktoken.Encoding") -> None:
        """Wrap a tiktoken encoding."""
        self.encoding = encoding

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Rebuild the encoding from tokenizer.json after checking it."""
        import tiktoken

        folder = folder or TOKENIZER
        check(folder)
        data = json.loads((folder / "tokenizer.json").read_bytes())
        ranks = {base64.b64decode(token): rank for rank, token in enumerate(data["tokens"])}
        if len(ranks) != VOCAB_SIZE - 1:
            fail(f"{folder} has {len(ranks)} tokens, expected {VOCAB_SIZE - 1}: prepare the data again (make data)")
        special = {"<|bos|>": BOS_TOKEN_ID}
        return cls(tiktoken.Encoding("task", pat_str=data["pattern"], mergeable_ranks=ranks, special_tokens=special))

    from_directory = load  # upstream's names for these three

    def get_vocab_size(self) -> int:
        """Return the number of token ids."""
        return VOCAB_SIZE

    def get_bos_token_id(self) -> int:
        """Return the id that precedes every document."""
        return BOS_TOKEN_ID

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without BOS; special tokens in the text are plain text."""
        return list(self.encoding.encode_ordinary(text))

    def decode(self, tokens: list[int]) -> str:
        """Return the text of token ids."""
        return str(self.encoding.decode(tokens))

    def token_bytes(self) -> list[bytes]:
        """Return the raw bytes of each id; those of BOS are empty."""
        return [self.encoding.decode_single_token_bytes(token) for token in range(BOS_TOKEN_ID)] + [b""]

    def byte_lengths(self) -> np.ndarray:
        """Return how many bytes of text each id encodes: int64 [V]."""
        return np.array([len(token) for token in self.token_bytes()], dtype=np.int64)


# --- data loader ----------------------------------------------------------------------------------------------------


def plan_rows(lengths: Iterator[int], width: int, waiting: int = 1000) -> Iterator[list[tuple[int, int]]]:
    """Fill rows of `width` tokens from pieces of these lengths (BOS included): lists of (piece number, tokens taken).

    Best fit: of the `waiting` pieces, the longest one that fits the rest of the row; where none fits, the shortest
    is cropped and what is left of it dropped, so rows have no padding and every piece begins with its BOS.
    """
    pieces: list[tuple[int, int]] = []  # (length, number), sorted
    numbered = enumerate(lengths)
    exhausted = False
    while True:
        row, space = [], width
        while space:
            while len(pieces) < waiting and not exhausted:
                if (entry := next(numbered, None)) is None:
                    exhausted = True
                else:
                    bisect.insort(pieces, (entry[1], entry[0]))
            if not pieces:
                return
            fitting = bisect.bisect_right(pieces, (space, 1 << 62)) - 1
            length, number = pieces.pop(max(fitting, 0))
            row.append((number, min(length, space)))
            space -= row[-1][1]
        yield row


def cut(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents with these boundaries [n+1] into pieces of PIECE_TOKENS at most: first and past-the-end tokens."""
    first, last = starts[:-1].astype(np.int64), starts[1:].astype(np.int64)
    if not PIECE_TOKENS:
        return first, last
    parts = -(-(last - first) // PIECE_TOKENS)
    owner = np.repeat(np.arange(len(parts)), parts)
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    begin = first[owner] + turn * PIECE_TOKENS
    return begin, np.minimum(begin + PIECE_TOKENS, last[owner])


def _pieces(folder: Path, seed: int) -> Iterator[np.ndarray]:
    """Yield token arrays of the training text in random order, without end."""
    shards = sorted(folder.glob("tokens-*.bin"))
    if not shards:
        fail(f"{folder} holds no training tokens: prepare the data again (make data)")
    generator = np.random.default_rng(seed)
    while True:
        for shard in generator.permutation(len(shards)):
            path = shards[shard]
            tokens = np.asarray(np.memmap(path, dtype="<u2", mode="r"))
            begin, end = cut(np.load(path.with_name(path.name.replace("tokens", "starts")).with_suffix(".npy")))
            for piece in generator.permutation(len(begin)):
                yield tokens[begin[piece] : end[piece]]


def training_rows(folder: Path, seed: int, width: int) -> Iterator[np.ndarray]:
    """Yield packed rows of the training text without end: int64 [width], each begins with BOS."""
    waiting: dict[int, np.ndarray] = {}

    def lengths() -> Iterator[int]:
        for number, piece in enumerate(_pieces(folder, seed)):
            waiting[number] = piece
            yield len(piece) + 1

    for plan in plan_rows(lengths(), width):
        row, at = np.empty(width, dtype=np.int64), 0
        for number, taken in plan:
            row[at] = BOS_TOKEN_ID
            row[at + 1 : at + taken] = waiting.pop(number)[: taken - 1]
            at += taken
        yield row


def dataloader(
    batch_size: int, seq_len: int = MAX_SEQ_LEN, *, seed: int | None = None, folder: Path | None = None
) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """Yield (inputs, targets) without end: int64 [batch_size, seq_len] on device(); targets are inputs one ahead."""
    import torch

    folder = folder or TRAIN
    check(folder, hash_up_to=HASHED_AT_LOAD_BYTES)
    rows = training_rows(folder, SEED if seed is None else seed, seq_len + 1)
    cuda = device() == "cuda"
    buffers = [torch.empty(batch_size, seq_len + 1, dtype=torch.int64, pin_memory=cuda) for _ in range(2)]
    copied: list[Any] = [None, None]
    turn = 0
    while True:
        if cuda and copied[turn] is not None:
            copied[turn].synchronize()  # the device may still read this buffer
        host = buffers[turn].numpy()
        for index in range(batch_size):
            host[index] = next(rows)
        batch = buffers[turn].to("cuda", non_blocking=True) if cuda else buffers[turn].clone()
        if cuda:
            copied[turn] = torch.cuda.Event()
            copied[turn].record()
        yield batch[:, :-1], batch[:, 1:]
        turn = 1 - turn
