"""A host of a cluster: what its worker tells its slots, by a file that a variable names, and what they hold."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import Config, load
from orchestrator.errors import ConfigError

VARIABLE = "AUTORESEARCH_WORKER"  # the worker's folder
FILE = "worker.json"
HELD = "held-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the worker of this host was started with."""

    folder: Path  # for its owner alone
    root: Path  # the task directory
    accept_risk: tuple[str, ...]


def name() -> str:
    """Return this host's name, as the record has it."""
    return socket.gethostname().partition(".")[0]


def write_host(here: Host) -> None:
    """Leave for the slots what they need to know."""
    plain = {"root": str(here.root), "accept_risk": list(here.accept_risk)}
    (here.folder / FILE).write_text(json.dumps(plain), encoding="utf-8")


def read_host(environment: Mapping[str, str]) -> Host:
    """Return what the worker left. Raises ConfigError outside a worker's host."""
    try:
        folder = Path(environment[VARIABLE])
        plain = json.loads((folder / FILE).read_bytes())
    except (KeyError, OSError, ValueError) as error:
        raise ConfigError("this host was not joined by `autoresearch worker`") from error
    return Host(folder=folder, root=Path(plain["root"]), accept_risk=tuple(plain["accept_risk"]))


def load_config(here: Host, settings: dict[str, Any], *, tag: str, runs: Path) -> Config:
    """Return the head's settings on this host: its task directory, devices and accepted risks are its own."""
    return load(here.root, {**settings, "tag": tag, "runs": runs, "accept_risk": here.accept_risk})


@contextmanager
def holding(folder: Path, what: str) -> Iterator[None]:
    """Let the worker see what this process runs."""
    note = folder / f"{HELD}{os.getpid()}"
    note.write_text(what, encoding="utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def held(folder: Path) -> dict[int, str]:
    """Return what the slots of a worker run, by process; notes of dead processes are removed."""
    found = {}
    for note in sorted(folder.glob(f"{HELD}*")):
        pid = int(note.name.removeprefix(HELD))
        with suppress(OSError):
            if Path(f"/proc/{pid}").exists():
                found[pid] = note.read_text(encoding="utf-8")
            else:
                note.unlink(missing_ok=True)
    return found
