"""The user's own text: which files there are, through links too, and whether they are what was prepared.

A manifest lists the SHA-256 of every file that is read. A file whose size, times and inode are as they were is not
hashed again: no program can change a file and set back its ctime.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import files
from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.text import counted
from orchestrator.types import PARTS
from orchestrator.walls.spec import Mount
from orchestrator.walls.spec_policy import LINKED

MANIFEST = "source.json"  # beside the parts of the prepared data
ENDINGS = (".txt", ".jsonl", ".parquet", ".gz", ".zst")  # of files whose change matters
NAMED = 3  # changed files that a message names
CORPUS, SOURCE = "/corpus", "/source"
IN_IMAGE = "python"  # the text to train on that comes with the image

Fingerprint = tuple[int, int, int, int]  # size, mtime, ctime, inode


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file as it was when it was hashed."""

    fingerprint: Fingerprint
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What data was prepared from: a folder of texts, or one file."""

    given: str  # as the user named it
    files: Mapping[str, SourceFile] = field(default_factory=dict)  # by path below it

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder of prepared data. Raises RecordFailed."""
        listed = {name: [*one.fingerprint, one.sha256] for name, one in sorted(self.files.items())}
        files.write_json(folder / MANIFEST, {"data": self.given, "files": listed})


def name_corpus(data: str) -> str:
    """Return the name of a corpus: the one in the image, or a folder on the host, distinguished by its path."""
    if data == IN_IMAGE:
        return IN_IMAGE
    path = Path(data).resolve()
    plain = re.sub(r"[^A-Za-z0-9]+", "-", path.name).strip("-")[:20]
    return f"{plain}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def is_ready(target: Path) -> bool:
    """Return whether every part was prepared."""
    return all((target / part / "manifest.json").is_file() for part in PARTS)


def load_source(folder: Path) -> Source | None:
    """Return the manifest of prepared data, None where there is none that can be read."""
    try:
        value = json.loads((folder / MANIFEST).read_bytes())
        listed = {
            str(name): SourceFile(fingerprint=(int(a), int(b), int(c), int(d)), sha256=str(sha256))
            for name, (a, b, c, d, sha256) in value["files"].items()
        }
        return Source(given=str(value["data"]), files=listed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def scan_source(data: str, before: Source | None = None) -> Source:
    """Return what is there now; files that `before` knows by their fingerprint are not hashed. Raises ConfigError."""
    known = before.files if before else {}
    found = {}
    for name, path in list_files(Path(data)):
        if not name.lower().endswith(ENDINGS):
            continue
        try:
            stat = path.stat()
            fingerprint = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
            old = known.get(name)
            same = old is not None and old.fingerprint == fingerprint
            sha256 = old.sha256 if old is not None and same else _hash(path)
        except OSError as error:
            raise ConfigError(f"--data {data}: {name} cannot be read: {error.strerror}; fix or remove it") from error
        found[name] = SourceFile(fingerprint=fingerprint, sha256=sha256)
    return Source(given=data, files=found)


def describe_change(before: Source, now: Source) -> str:
    """Return how the content differs, "" if it does not."""
    old, new = before.files, now.files
    kinds = {
        "changed": [name for name in new if name in old and new[name].sha256 != old[name].sha256],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
    }
    return ", ".join(f"{counted(len(names), 'file')} {kind}: {_name(names)}" for kind, names in kinds.items() if names)


def find_change(data: str, prepared: Path) -> str:
    """Return how a folder differs from what was prepared of it, "" if it does not. Raises ConfigError."""
    if not Path(data).exists():
        return ""  # what was prepared of it is there
    before = load_source(prepared)
    if before is None:
        return f"no {MANIFEST} says what it was made from"
    now = scan_source(data, before)
    change = describe_change(before, now)
    if not change and now.files != before.files:  # touched, or moved
        try:
            now.save(prepared)
        except RecordFailed:
            return ""  # only slower next time
    return change


def list_files(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield all plain files of a folder, or one file, by name; links are followed, hidden names are not."""
    if not source.is_dir():
        yield source.name, source
        return
    visited = set()
    for folder, names, below in os.walk(source, followlinks=True):
        stat = Path(folder).stat()
        key = stat.st_dev, stat.st_ino
        names[:] = [] if key in visited else sorted(name for name in names if not name.startswith("."))
        if key in visited:
            continue
        visited.add(key)
        for name in sorted(below):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield str(path.relative_to(source)), path


def mount_source(data: str, links: Path) -> list[Mount]:
    """Return the mounts that show the source as /corpus in a container, where its links lead elsewhere.

    A folder without links is mounted as it is. Of another one, and of a single file, `links` becomes a folder of links
    to all files, and what they are in is mounted beside it. Raises ConfigError.
    """
    source = Path(data).resolve()
    if source.is_dir() and not _has_links(source):
        return [Mount(source=str(source), target=CORPUS)]
    mounts = {source: SOURCE} if source.is_dir() else {}
    links.mkdir()
    for name, path in list_files(source):
        real = path.resolve()
        if source.is_dir() and real.is_relative_to(source):
            target = f"{SOURCE}/{real.relative_to(source)}"
        else:
            place = real.parent if source.is_dir() else real
            if place not in mounts and len(mounts) >= len(LINKED):
                raise ConfigError(
                    f"--data {data}: its links lead to more than {len(LINKED)} other folders; copy the files instead"
                )
            mounts.setdefault(place, LINKED[len(mounts)])
            target = f"{mounts[place]}/{real.name}" if source.is_dir() else mounts[place]
        (links / name).parent.mkdir(parents=True, exist_ok=True)
        (links / name).symlink_to(target)
    for folder in (links, *(path for path in links.rglob("*") if path.is_dir() and not path.is_symlink())):
        folder.chmod(0o755)
    return [
        Mount(source=str(links), target=CORPUS),
        *(Mount(source=str(place), target=target) for place, target in mounts.items()),
    ]


def _has_links(folder: Path) -> bool:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(Path(parent, name).is_symlink() for name in [*folders, *names] if not name.startswith(".")):
            return True
    return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(names: list[str]) -> str:
    return ", ".join(sorted(names)[:NAMED]) + (", …" if len(names) > NAMED else "")
