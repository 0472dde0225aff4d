"""One experiment, whole, in a terminal: what it tried and why, what it changed, ran, printed, and what was decided."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from orchestrator.records import ran
from orchestrator.records.folder import read
from orchestrator.records.journal import Journal
from orchestrator.score.confirm import Runs, confirmations
from orchestrator.score.told import in_words
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Level, Role
from orchestrator.watch import COLOURS

LOG_LINES = 40


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
    console.print(ran.containers(experiment.folder, finished))
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
