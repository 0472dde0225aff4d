"""What every experiment of this task is given and may not change: constants, clock, seed, device, training data.

It needs numpy only.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import NoReturn

import numpy as np

PROFILE = os.environ.get("AUTORESEARCH_PROFILE", "cpu")
STARTED = float(os.environ.get("AUTORESEARCH_STARTED", time.monotonic()))
TIME_BUDGET = float(os.environ.get("AUTORESEARCH_TIME_BUDGET", "12"))  # seconds, all of it
SEED = int(os.environ.get("AUTORESEARCH_SEED", "1337"))

NODES = (
    "Assert", "Assign", "Attribute", "AugAssign", "Await", "BinOp", "BoolOp", "Break", "Call", "ClassDef", "Compare",
    "Constant", "Continue", "Delete", "Dict", "DictComp", "ExceptHandler", "Expr", "For", "FormattedValue",
    "FunctionDef", "GeneratorExp", "If", "IfExp", "Import", "ImportFrom", "JoinedStr", "Lambda", "List", "ListComp",
    "Name", "Pass", "Raise", "Return", "Set", "Slice", "Starred", "Subscript", "Try", "Tuple", "UnaryOp", "While",
    "With", "Yield", "arg", "keyword",
)  # fmt: skip
FEATURES = (*NODES, "depth", "lines", "names", "constants")  # counts of each kind of node, then four of the whole

TRAIN = Path("/data/train")
CHECKPOINT = Path("/out/checkpoint.pt")
MANIFEST = "manifest.json"


def fail(message: str) -> NoReturn:
    """End with one line."""
    raise SystemExit("error: " + message)


def time_left() -> float:
    """Seconds of the budget that are left; a little after 0 the container is killed."""
    return STARTED + TIME_BUDGET - time.monotonic()


def device() -> str:
    """`cuda` on the gpu profile where there is one, `cpu` otherwise."""
    import torch  # the scorer runs without torch

    return "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"


def load(folder: Path = TRAIN) -> tuple[np.ndarray, np.ndarray]:
    """Functions in a prepared folder: features float32 [N, F], and log2 of their bytecode's bytes, float32 [N]."""
    for name, expected in json.loads((folder / MANIFEST).read_bytes())["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected["sha256"]:
            fail(f"{folder / name} is not what its manifest says: prepare the data again")
    features = np.load(folder / "features.npy", allow_pickle=False)
    return features, np.load(folder / "sizes.npy", allow_pickle=False)
