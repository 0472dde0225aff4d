"""One experiment, whole, in a terminal: what it tried and why, what it changed, ran, printed, and what was decided."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from orchestrator.look import container_rows
from orchestrator.look.live_view import COLOURS
from orchestrator.record.confirmations import confirmations
from orchestrator.record.experiment_files import read
from orchestrator.record.journal import Journal
from orchestrator.scoring.noise import spread
from orchestrator.scoring.self_reported import describe_figures
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Level, Role, Score

LOG_LINES = 40


def show(console: Console, journal: Journal, experiment: Experiment, *, raw: bool = False) -> None:
    """Print it; `raw` prints the whole trainer log instead of its end."""
    console.print(Rule(Text(f"experiment {experiment.id} of {journal.folder.name}", "bold"), align="left"))
    finished = journal.records("experiment.finished", experiment.id)[0].body
    console.print(_facts(experiment, journal, finished))
    console.print(Rule(Text("what it changed", "dim"), align="left"))
    if changed := read(experiment.folder / "patch.diff"):
        diff(console, changed)
    else:
        console.print(Text("nothing: train.py as it was", "dim"))
    console.print(Rule(Text("the containers as they ran", "dim"), align="left"))
    console.print(container_rows.containers(experiment.folder, finished))
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


def _facts(experiment: Experiment, journal: Journal, finished: dict[str, Any]) -> Table:
    metric, score, confirmed = journal.metric(), experiment.score, confirmations(journal, experiment)
    noise = spread(e.runs for e in journal.repeated() if e.conditions == experiment.conditions)
    number = "none" if experiment.value is None else f"{experiment.value:.6f}"
    several = f" (mean of {', '.join(f'{value:.6f}' for value in experiment.runs)})" if len(experiment.runs) > 1 else ""
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("tried", Text(sanitise(experiment.hypothesis))),
        ("expected", Text(sanitise(experiment.expected_effect) or "-")),
        ("by", Text(sanitise(experiment.proposed_by))),
        ("parent", Text("-" if experiment.parent_id is None else str(experiment.parent_id))),
        ("status", Text(experiment.outcome, COLOURS[experiment.status])),
        ("because", Text(sanitise(experiment.reason))),
        (metric, Text(number + several, "bold")),
        ("audit", Text(_audit(experiment.score))),
        ("claims", Text(_claims(score))),
        (
            "noise",
            Text("not known yet" if noise is None else f"{noise:.6f} between single runs of one source (1 sigma)"),
        ),
        *(("holdout", Text(f"{found}, {Level.L3}", "bold")) for found in confirmed),
        ("took", Text(f"{experiment.duration_s:.1f} s, {experiment.train_s:.1f} s of it training{scoring(finished)}")),
        ("it says", Text(describe_figures(finished.get("told") or {}) or "-", "dim")),
        ("cost", Text(f"${experiment.usage.cost_usd:.4f}")),
        ("commit", Text(experiment.commit or "-")),
        ("record", Text(str(experiment.folder))),
    ):
        table.add_row(Text(name, "dim"), value)
    return table


def _audit(score: Score | None) -> str:
    """How far the score can be trusted."""
    if score is None:
        return "-"
    if score.level is Level.L0:
        return f"{score.level}: none, this is the script's own number"
    hidden = f"; undetected at most {score.undetectable_bpb:.1e}" if score.undetectable_bpb else ""
    return f"{score.level}, {score.audited_positions:,} positions{hidden}"


def _claims(score: Score | None) -> str:
    """What was audited, by which seed, and what that left open."""
    if score is None or score.level is Level.L0:
        return "-"
    error = "" if score.standard_error is None else f"; standard error {score.standard_error:.1e}"
    return f"{score.claims_sha256[:16]}, audit seed {score.audit_seed[:16]}{error}"


def scoring(finished: dict[str, Any]) -> str:
    """How long its last score took, as the host saw it."""
    ended = {e["role"]: e["ended_s"] for e in finished.get("executions", [])}  # of the last run
    took = ended.get(Role.SCORER, 0.0) - ended.get(Role.TRAINER, 0.0)
    return f", {took:.1f} s scoring" if Role.SCORER in ended and took > 0 else ""
