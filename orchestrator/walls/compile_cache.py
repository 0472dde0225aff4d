"""Warm compile caches: what torch compiled for the human's own train.py, given to every trainer to begin with.

Compiled code is code, so only a file that the human committed fills it, when a session finds none or on
`autoresearch build-cache`,
in the same walls as any training; never an experiment. What it left is copied out by a container that runs our code
only, hashed, and read only from then on: each trainer gets a private copy, its hashes checked, in a container that is
as untrusted with it as without. Predictors and the scorer never see it. It counts only where it was made: same
hardware, same image; each of these has a folder, each cache one of its own in it, which nobody ever changes: another
loop may begin with it.
"""

import hashlib
import json
import os
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.config import Config
from orchestrator.errors import SandboxError
from orchestrator.types import Environment
from orchestrator.walls import staging

MANIFEST = "manifest.json"
FILES = "files"
MOST_FILES = 20_000
UNUSED_S = 30 * 86400.0  # of a cache that may go


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileCache:
    """A cache as its manifest describes it."""

    folder: Path
    files: dict[str, str]  # SHA-256 by path
    sha256: str  # of all of them

    def copy(self, target: Path) -> None:
        """Make a private copy for one container. Raises SandboxError for a file that was modified."""
        target.mkdir(parents=True)
        with suppress(OSError):
            os.utime(self.folder)  # so that `put` sees that it is in use
        for name, expected in self.files.items():
            try:
                data = (self.folder / FILES / name).read_bytes()
            except OSError as error:
                raise SandboxError(
                    f"{self.folder / FILES / name}: {error.strerror}; remove {self.folder}, or run"
                    " `autoresearch build-cache` again"
                ) from error
            if hashlib.sha256(data).hexdigest() != expected:
                raise SandboxError(
                    f"{self.folder / FILES / name} was changed after it was written; remove {self.folder}, or run"
                    " `autoresearch build-cache` again"
                )
            staging.put(target / name, data)
        for path in target.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)  # whatever the user's umask is


def folder(config: Config) -> Path:
    """Return the folder of a profile's caches."""
    return config.root / "build" / "warm" / config.profile_name


def find(among: Path, hardware: str, image_id: str) -> CompileCache | None:
    """Find the newest cache for this hardware and image, None if none. Raises SandboxError if it cannot be read."""
    path = max(_of(among, hardware, image_id).glob(f"*/{MANIFEST}"), default=None)
    if path is None:
        return None
    place = path.parent
    try:
        manifest = json.loads(path.read_bytes())
        files = {str(name): str(value) for name, value in manifest["files"].items()}
        made = (manifest["hardware"], manifest["image_id"])
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise SandboxError(
            f"{path}: cannot be read ({type(error).__name__}); remove {place}, or run `autoresearch build-cache` again"
        ) from error
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise SandboxError(f"{path}: names a file outside of it; remove {place}")
    return (
        CompileCache(folder=place, files=files, sha256=staging.digest(files)) if made == (hardware, image_id) else None
    )


def describe_missing(environment: Environment) -> str:
    """Return what to say if experiments of the gpu profile begin without a cache; "" otherwise."""
    if environment.profile != "gpu" or environment.cache_sha256:
        return ""
    return "no compile cache for this GPU and image, so every training compiles; see `autoresearch build-cache`"


def seal(place: Path, *, hardware: str, image_id: str, train_sha256: str) -> CompileCache:
    """Write the manifest of what was copied to `place`/files. Raises SandboxError for anything but plain files."""
    files: dict[str, str] = {}
    for path in sorted((place / FILES).rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode) or len(files) >= MOST_FILES:
            raise SandboxError(f"{path}: a compile cache holds plain files only, and at most {MOST_FILES} of them")
        files[str(path.relative_to(place / FILES))] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"hardware": hardware, "image_id": image_id, "train_sha256": train_sha256}
    (place / MANIFEST).write_text(json.dumps({**about, "files": files}, indent=1, sort_keys=True) + "\n")
    return CompileCache(folder=place, files=files, sha256=staging.digest(files))


def put(made: CompileCache, among: Path, *, hardware: str, image_id: str) -> CompileCache:
    """Put a sealed cache in place, whole or not at all, and remove those unused for a month."""
    place = _of(among, hardware, image_id) / f"{time.time_ns()}"
    place.parent.mkdir(parents=True, exist_ok=True)
    made.folder.rename(place)
    for path in among.glob(f"*/*/{MANIFEST}"):
        if path.parent.stat().st_mtime < time.time() - UNUSED_S:
            shutil.rmtree(path.parent, ignore_errors=True)
    return replace(made, folder=place)


def _of(among: Path, hardware: str, image_id: str) -> Path:
    return among / hashlib.sha256(f"{hardware}\n{image_id}".encode()).hexdigest()[:16]
