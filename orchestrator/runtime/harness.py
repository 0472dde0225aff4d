"""What every predictor does before it runs untrusted code, and how that code is imported. Standard library only."""

import hashlib
import importlib.util
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

TRAIN = Path("/mutable/train.py")


def checkpoint_digest(folder: Path) -> bytes:
    """Return the SHA-256 over names, sizes and bytes of the plain files in `folder`; links are not followed."""
    digest = hashlib.sha256()
    for path in _plain_files(folder):
        digest.update(repr((str(path.relative_to(folder)), path.lstat().st_size)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


def size_of(folder: Path) -> int:
    """Return how many bytes the plain files in `folder` claim to hold."""
    return sum(path.lstat().st_size for path in _plain_files(folder))


def _plain_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            if stat.S_ISREG(Path(root, name).lstat().st_mode):
                yield Path(root, name)


def _refuse(error: OSError) -> None:
    """Exit: a folder that cannot be listed could still be read by name, and would be in no hash."""
    sys.exit(f"error: {error.filename} cannot be listed ({error.strerror}): leave no such folder there")


def load_candidate() -> ModuleType:
    """Import train.py under the name `train`; from here on this process is untrusted."""
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    if spec is None or spec.loader is None:
        raise ImportError(f"{TRAIN} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["train"] = module
    spec.loader.exec_module(module)
    return module
