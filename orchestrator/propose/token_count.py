"""Count the tokens of a text: with the task's own encoding if the data is prepared, else by a safe estimate.

Nothing is fetched: the encoding is built from data/<profile>-<corpus>/tokenizer/tokenizer.json.
"""

import base64
import functools
import json
from collections.abc import Callable
from pathlib import Path

import tiktoken

Count = Callable[[str], int]
BYTES_PER_TOKEN = 3  # of code and English, with any usual vocabulary: rather too many tokens than too few


def guess(text: str) -> int:
    """Return a third of the bytes, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def counter(tokenizer_folder: Path) -> Count:
    """Return a function that counts tokens with the task's encoding; `guess` if it has none."""
    try:
        data = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
        ranks = {base64.b64decode(token): rank for rank, token in enumerate(data["tokens"])}
        encoding = tiktoken.Encoding(name="task", pat_str=data["pattern"], mergeable_ranks=ranks, special_tokens={})
    except (OSError, ValueError, KeyError, TypeError):
        return guess
    return functools.lru_cache(maxsize=64)(lambda text: len(encoding.encode_ordinary(text)))
