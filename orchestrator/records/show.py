"""One experiment, whole, in a terminal: what it tried and why, what it changed, ran, printed, and what was decided."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from orchestrator.errors import JournalError
from orchestrator.records.journal import Journal
from orchestrator.score.confirm import Runs, confirmations
from orchestrator.score.told import in_words
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Level, Role
from orchestrator.units import MIB
from orchestrator.watch import COLOURS

LOG_LINES = 40
MOST = 4 << 20  # bytes of a file that are shown from its start, and from its end


def show(console: Console, journal: Journal, experiment: Experiment, *, raw: bool = False) -> None:
    """Print it; `raw` prints the whole trainer log instead of its end."""
    console.print(Rule(Text(f"experiment {experiment.id} of {journal.folder.name}", "bold"), align="left"))
    finished = journal.records("experiment.finished", experiment.id)[0].body
    console.print(_facts(experiment, journal.metric(), list(confirmations(journal, experiment)), finished))
    console.print(Rule(Text("what it changed", "dim"), align="left"))
    if changed := read(experiment.folder / "patch.diff"):
        diff(console, changed)
    else:
        console.print(Text("nothing: train.py as it was", "dim"))
    console.print(Rule(Text("the containers as they ran", "dim"), align="left"))
    console.print(_containers(experiment, finished))
    console.print(Rule(Text("what the trainer printed (never believed)", "dim"), align="left"))
    lines = sanitise(read(experiment.folder / f"{Role.TRAINER}.log")).splitlines()
    for line in lines if raw else lines[-LOG_LINES:]:
        console.print(Text(line), soft_wrap=True)


def diff(console: Console, text: str) -> None:
    """Print a diff: in colours on a terminal, where long lines are wrapped; elsewhere so that `patch` applies it."""
    if console.is_terminal:
        console.print(Syntax(sanitise(text), "diff", word_wrap=True))
    else:
        console.file.write(sanitise(text))


def as_json(journal: Journal, experiment: Experiment) -> dict[str, Any]:
    """The same as plain data: the record, the executions and the names and hashes of its files."""
    finished = journal.records("experiment.finished", experiment.id)[0].body
    confirmed = [asdict(runs) for runs in confirmations(journal, experiment)]
    diff = read(experiment.folder / "patch.diff")
    now = journal.as_json(experiment)
    return {**finished, "experiment": now, "folder": str(experiment.folder), "diff": diff, "confirmed": confirmed}


def read(path: Path) -> str:
    """A file of the record, of an overlong one its head and tail; one that was never made is "".

    Raises JournalError naming it when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MOST)
            rest = os.fstat(file.fileno()).st_size - len(head)
            if rest > MOST:
                head += f"\n[{rest - MOST} bytes not shown]\n".encode()
                file.seek(-MOST, os.SEEK_END)
            return (head + file.read(MOST)).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}; `autoresearch verify` says what is intact"
        raise JournalError(message) from error


def part(experiment: Experiment, name: str) -> Path:
    """The folder of an experiment, or of one of its further runs. Raises JournalError if there is none."""
    known = sorted(path.name for path in experiment.folder.glob("*/"))
    if name and name not in known:
        message = (
            f"{experiment.folder}: there is no {name!r}; further runs of this experiment: {', '.join(known) or 'none'}"
        )
        raise JournalError(message)
    return experiment.folder / name


def _facts(experiment: Experiment, metric: str, confirmed: list[Runs], finished: dict[str, Any]) -> Table:
    score = experiment.score
    number = "none" if score is None else f"{experiment.val_bpb:.6f} ± {score.standard_error:.1e}"
    runs = f", mean of {', '.join(f'{value:.6f}' for value in experiment.runs)}" if len(experiment.runs) > 1 else ""
    if score is not None and score.unseen_bpb:
        number += f", and lies about few tokens may hide {score.unseen_bpb:.1e}"
    level = "" if score is None else f", {score.level}, {score.audited_positions} positions audited"
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("tried", Text(sanitise(experiment.hypothesis))),
        ("expected", Text(sanitise(experiment.expected_effect) or "-")),
        ("by", Text(sanitise(f"{experiment.proposer} {experiment.model}".strip()))),
        ("parent", Text("-" if experiment.parent_id is None else str(experiment.parent_id))),
        ("status", Text(experiment.status.value, COLOURS[experiment.status])),
        ("because", Text(sanitise(experiment.rule))),
        (metric, Text(number + level + runs, "bold")),
        ("audited", Text(f"claims {score.claims_sha256[:16]}, seed {score.audit_seed[:16]}" if score else "-")),
        *(("holdout", Text(f"{found}, {Level.L3}", "bold")) for found in confirmed),
        ("took", Text(f"{experiment.duration_s:.1f} s, {experiment.train_s:.1f} s of it training{scoring(finished)}")),
        ("it says", Text(in_words(finished.get("told") or {}) or "-", "dim")),
        ("cost", Text(f"${experiment.usage.cost_usd:.4f}")),
        ("commit", Text(experiment.commit or "-")),
        ("record", Text(str(experiment.folder))),
    ):
        table.add_row(Text(name, "dim"), value)
    return table


def scoring(finished: dict[str, Any]) -> str:
    """How long its last score took, as the host saw it."""
    ended = {e["role"]: e["ended_s"] for e in finished.get("executions", [])}  # of the last run
    took = ended.get(Role.SCORER, 0.0) - ended.get(Role.TRAINER, 0.0)
    return f", {took:.1f} s scoring" if Role.SCORER in ended and took > 0 else ""


def _containers(experiment: Experiment, finished: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("role", "image", "user", "network", "root", "caps", "memory", "peak", "cpu s", "seconds", "ended"):
        table.add_column(name)
    for execution in finished.get("executions", []):
        created = _json(experiment.folder / f"{execution['role']}.created.json")
        host, config = created.get("HostConfig", {}), created.get("Config", {})
        peak = execution["peak_memory_bytes"]
        table.add_row(
            execution["role"],
            str(created.get("Image", "?")).removeprefix("sha256:")[:12],
            str(config.get("User", "?")),
            str(host.get("NetworkMode", "?")),
            "read-only" if host.get("ReadonlyRootfs") else "WRITABLE",
            "none" if host.get("CapDrop") == ["ALL"] and not host.get("CapAdd") else "SOME",
            f"{host.get('Memory', 0) // MIB} MiB",
            "?" if peak is None else f"{peak // MIB} MiB",
            "?" if execution["cpu_s"] is None else f"{execution['cpu_s']:.1f}",
            f"{execution['duration_s']:.1f} of {execution['deadline_s']:.0f}",
            _ending(execution),
        )
    return table


def _ending(execution: dict[str, Any]) -> str:
    if execution["oom_killed"]:
        return "killed for memory"
    return f"killed: {execution['killed_by']}" if execution["killed_by"] else f"exit {execution['exit_code']}"


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read(path) or "{}")
    except ValueError as error:
        message = f"{path}: is no JSON: {error}; `autoresearch verify` says what is intact"
        raise JournalError(message) from error
    return data if isinstance(data, dict) else {}
