"""Show one experiment in a terminal: what it tried and why, what it changed, ran, printed, and what was decided."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from orchestrator.errors import JournalError
from orchestrator.events import ExperimentBegun, ExperimentFinished, body_of
from orchestrator.look.conditions import describe_loads
from orchestrator.look.containers import FIRST_TRIAL, Container, Fact, describe_containers
from orchestrator.look.live_view import COLOURS
from orchestrator.look.terminal import is_narrow
from orchestrator.record.claims import duels_of
from orchestrator.record.confirmations import list_confirmations
from orchestrator.record.experiment_dir import format_diff, source_path
from orchestrator.record.experiment_files import ExperimentFolder, read_text, unreadable
from orchestrator.record.journal import Journal
from orchestrator.scoring.self_reported import describe_figures
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Level, Role, Score
from orchestrator.units import MIB

LOG_LINES = 40
UNTRUSTED = (Role.TRAINER, Role.ANSWERER)  # whose output is shown
WALLS = ("image", "user", "network", "root file system", "capabilities", "memory")  # shown of each container


def show_experiment(console: Console, journal: Journal, experiment: Experiment, *, raw: bool = False) -> None:
    """Print it; `raw` prints the whole trainer log instead of its end. Raises JournalError."""
    finished, problem = read_finished(journal, experiment)
    console.print(Rule(Text(f"experiment {experiment.id} of {journal.folder.name}", "bold"), align="left"))
    if problem:
        console.print(Text(problem, "bold red"))
    console.print(_facts(experiment, journal, finished))
    console.print(Rule(Text("diff", "dim"), align="left"))
    if patch := read_text(experiment, "patch.diff"):
        print_diff(console, patch)
    else:
        console.print(Text("none: the empty patch", "dim"))
    console.print(Rule(Text("containers as they ran", "dim"), align="left"))
    console.print(containers_table(read_containers(experiment, finished), narrow=is_narrow(console)))
    role = next((role for role in UNTRUSTED if (experiment.folder / f"{role}.log").exists()), None)
    if role is None:  # only locked code ran
        return
    console.print(Rule(Text(f"output of the {role} (never trusted)", "dim"), align="left"))
    lines = sanitise(read_text(experiment, f"{role}.log")).splitlines()
    for line in lines if raw else lines[-LOG_LINES:]:
        console.print(Text(line), soft_wrap=True)


def print_diff(console: Console, text: str) -> None:
    """Print a diff: coloured and wrapped in a terminal; elsewhere so that `patch` applies it."""
    if console.is_terminal:
        console.print(Syntax(sanitise(text), "diff", word_wrap=True))
    else:
        console.file.write(sanitise(text))


def diff_sources(old: Experiment, new: Experiment) -> str:
    """Return the file of one as a unified diff against that of another. Raises JournalError."""
    names = [source_path(e.folder).name for e in (old, new)]
    before, after = (read_text(e, name).splitlines(keepends=True) for e, name in zip((old, new), names, strict=True))
    return format_diff(before, after, f"{old.id}/{names[0]}", f"{new.id}/{names[1]}")


def experiment_json(journal: Journal, experiment: Experiment) -> dict[str, Any]:
    """Return the same as plain data: the event, the executions and the names and hashes of its files."""
    finished, problem = read_finished(journal, experiment)
    return {
        **body_of(replace(finished, experiment=experiment)),  # as later events changed it
        **({"problem": problem} if problem else {}),
        "folder": str(experiment.folder),
        "diff": read_text(experiment, "patch.diff"),
        "confirmed": [asdict(scores) for scores in list_confirmations(journal, experiment)],
    }


def read_finished(journal: Journal, experiment: Experiment) -> tuple[ExperimentFinished, str]:
    """Return how an experiment finished; of a damaged line, what the index holds, and the problem."""
    try:
        return journal.finished(experiment.id), ""
    except JournalError as error:
        return ExperimentFinished(experiment=experiment), str(error)


def read_containers(experiment: Experiment, finished: ExperimentFinished) -> list[Container]:
    """Return the containers of an experiment, also if its folder was removed. Raises JournalError."""
    try:
        with ExperimentFolder.open(experiment.folder) as folder:
            return describe_containers(folder, finished.executions)
    except FileNotFoundError:
        return describe_containers(None, finished.executions)
    except OSError as error:
        raise unreadable(experiment.folder, error.strerror) from error


def containers_table(containers: Sequence[Container], *, narrow: bool = False) -> RenderableType:
    """Return the walls that all containers share, then a row for each container, by trial; `narrow`: wrapped lines."""
    ran = [c for c in containers if c.execution is not None]
    if not ran:
        return Text("none ran", "dim")
    walls = [tuple(_walls(c)) for c in ran]
    common = [Counter(same).most_common(1)[0][0] for same in zip(*filter(None, walls), strict=True)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("role", no_wrap=True)
    for name in ("peak MiB", "cpu s", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ended")
    trials, lines = list(dict.fromkeys(c.trial for c in ran)), list[Text]()
    for trial in trials:
        if trials != [FIRST_TRIAL]:
            table.add_row(Text(trial, "bold"))
            lines.append(Text(trial, "bold"))
        for container, own in zip(ran, walls, strict=True):
            if container.trial == trial:
                role, peak, cpu_s, seconds, ended = _row(container, own, common)
                table.add_row(role, peak, cpu_s, seconds, ended)
                told = Text(f"{role}  {seconds} s, {peak} MiB, {cpu_s} s of cpu")
                lines.append(told.append(", ").append(ended) if ended else told)
    text = Text("each: ")
    for number, wall in enumerate(common):
        text.append(", " if number else "").append(_words(wall), "bold red" if wall.good is False else "")
    text = text if common else Text("each: walls not on record")
    return Group(text, *lines) if narrow else Group(text, table)


def _walls(container: Container) -> Iterator[Fact]:
    return (replace(fact, used="") for fact in container.facts if fact.name in WALLS)


def _words(wall: Fact) -> str:
    return f"{wall.name.upper() if wall.good is False else wall.name} {wall.value}"


def _row(container: Container, walls: tuple[Fact, ...], common: list[Fact]) -> tuple[str, str, str, str, Text]:
    """Return how it lived and ended, and which of its walls differ from those of most."""
    execution, ended = container.execution, Text(container.ended)
    odd = [_words(wall) for wall in walls if wall not in common] if walls else ["walls not on record"]
    if common and odd:
        ended.append(f"; {', '.join(odd)}", "bold yellow")
    if container.differences:
        ended.append(f"; not as asked: {container.differences[0]}", "bold red")
    if execution is None:
        return container.role, "?", "?", "?", ended
    peak, cpu_s = execution.peak_memory_bytes, execution.cpu_s
    return (
        container.role,
        "?" if peak is None else f"{peak // MIB}",
        "?" if cpu_s is None else f"{cpu_s:.1f}",
        f"{execution.duration_s:.1f} of {execution.deadline_s:.0f}",
        ended,
    )


def _facts(experiment: Experiment, journal: Journal, finished: ExperimentFinished) -> Table:
    score, scores = experiment.score, experiment.scores
    std = journal.history().seed_std(experiment.conditions)
    number = "none" if experiment.value is None else f"{experiment.value:.6f}"
    several = f" (mean of {', '.join(f'{value:.6f}' for value in scores)})" if len(scores) > 1 else ""
    noise = "not known yet" if std is None else f"{std:.6f} between single trials of one source (1 sigma)"
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("tried", Text(sanitise(experiment.hypothesis))),
        ("expected", Text(sanitise(experiment.expected_effect) or "-")),
        *(("patch", Text(sanitise(note))) for note in _patch_notes(journal, experiment.id)),
        ("proposer", Text(sanitise(experiment.proposed_by))),
        ("parent", Text("-" if experiment.parent_id is None else str(experiment.parent_id))),
        ("status", Text(experiment.outcome, COLOURS[experiment.status])),
        ("reason", Text(sanitise(experiment.reason))),
        (journal.metric(), Text(number + several, "bold")),
        ("metric", Text(sanitise(journal.describe_metric(), limit=100))),
        ("audit", Text(_audit(score))),
        ("claims", Text(_claims(score))),
        ("noise", Text(noise)),
        *((("gain", Text(_gain(experiment))),) if experiment.sure is not None else ()),
        *(("duel", Text(sanitise(line))) for line in duels_of(journal, experiment.id)),
        ("machine", Text(describe_loads(experiment))),
        *(
            ("holdout", Text(f"{confirmed}, {Level.L3}", "bold"))
            for confirmed in list_confirmations(journal, experiment)
        ),
        ("took", Text(f"{experiment.duration_s:.1f} s{_training(experiment)}{_scoring(finished)}")),
        ("reported", Text(describe_figures(finished.self_reported) or "-", "dim")),
        ("cost", Text(f"${experiment.usage.cost_usd:.4f}")),
        ("commit", Text(experiment.commit or "-")),
        ("record", Text(str(experiment.folder))),
    ):
        table.add_row(Text(name, "dim"), value)
    return table


def _patch_notes(journal: Journal, experiment_id: int) -> tuple[str, ...]:
    """Return what of its proposal was not taken word for word; nothing where the record does not say."""
    try:
        return next((recorded.event.patch_notes for recorded in journal.events(ExperimentBegun, experiment_id)), ())
    except JournalError:
        return ()


def _gain(experiment: Experiment) -> str:
    """Return how sure its gain was when it was judged."""
    by = "" if experiment.gain is None else f"{experiment.gain:+.2g} over the best of then, "
    return f"{by}a gain with probability {experiment.sure:.2f}"


def _audit(score: Score | None) -> str:
    """Return how far the score can be trusted."""
    if score is None:
        return "-"
    if score.level is Level.L0:
        return f"{score.level}: none, the number is self-reported"
    if not score.audited_positions:
        return f"{score.level}: none"
    hidden = f"; undetected at most {score.undetectable:.1e}" if score.undetectable else ""
    return f"{score.level}, {score.audited_positions:,} positions{hidden}"


def _claims(score: Score | None) -> str:
    """Return what was audited, by which seed, and what that left open."""
    if score is None or score.level is Level.L0:
        return "-"
    seed = f"audit seed {score.audit_seed[:16]}" if score.audit_seed else ""
    error = "" if score.standard_error is None else f"; standard error {score.standard_error:.1e}"
    return (", ".join(filter(None, (score.claims_sha256[:16], seed))) or "-") + error


def _training(experiment: Experiment) -> str:
    """Return how much of its time it trained; "" where nothing is trained."""
    return f", {experiment.train_s:.1f} s of it training" if experiment.train_s else ""


def _scoring(finished: ExperimentFinished) -> str:
    """Return how long its last scoring took, as the host saw it; "" if there was none."""
    last = {execution.role: execution for execution in finished.executions}  # of the last trial
    scorer, trainer = last.get(Role.SCORER), last.get(Role.TRAINER)
    if scorer is None:
        return ""
    took_s = scorer.duration_s if trainer is None else scorer.ended_s - trainer.ended_s  # it waits for the trainer
    return f", {took_s:.1f} s scoring" if took_s > 0 else ""
