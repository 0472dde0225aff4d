"""`python -m cheats`: every cheat and every honest control through the real containers; exit 1 if one was misjudged."""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cheats.run import ALL, Entry, Outcome, around, believed, entries, failed_us, run
from orchestrator.errors import AutoresearchError

FAST = ("01", "10", "14", "21", "30", "36")
FAST_HONEST = ("01_small", "04_recurrent")
OVERRIDES = {  # what a cheat needs to be quick about it
    "23_stops_the_clock": {"time_budget_s": 5.0},
    "27_stalls": {"score_budget_s": 8.0},
    "00_baseline": {"time_budget_s": 12.0},
    "02_compiled": {"score_budget_s": 60.0},
}


def chosen(names: list[str], *, fast: bool) -> list[Entry]:
    """The entries to run."""
    if names:
        return [entry for entry in entries() if any(name in entry.name for name in names)]
    if not fast:
        return entries()
    return [e for e in entries() if (e.name in FAST_HONEST if e.honest else e.name.startswith(FAST))]


def verdict(entry: Entry, outcome: Outcome, truth: float | None) -> str:
    """One word in colour."""
    if failed_us(outcome):
        return "[red bold]OUR FAULT[/]"
    if entry.honest:
        return "[green]passed[/]" if outcome.trial.score else "[red bold]REFUSED[/]"
    if believed(entry, outcome, truth):
        return "[red bold]BELIEVED[/]"
    return "[green]true value[/]" if outcome.trial.score else "[green]refused[/]"


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def judge(entry: Entry, folder: Path, base: float | None, console: Console) -> tuple[Entry, Outcome, float | None]:
    """Run one entry, and its full audit where it has weights of its own."""
    overrides = OVERRIDES.get(entry.name, {})
    outcome = run(entry.source, folder / entry.name, **overrides)
    truth = base
    if entry.own_truth:
        truth = run(entry.source, folder / f"{entry.name}-truth", large_k=ALL, score_budget_s=120.0).val_bpb
    if entry.honest:
        truth = None
    console.print(f"{entry.name:32} {outcome.status:8} {verdict(entry, outcome, truth)}  {outcome.seconds:.0f} s")
    return entry, outcome, truth


def table(results: list[tuple[Entry, Outcome, float | None]]) -> Table:
    """Everything at a glance."""
    found = Table("train.py", "what it does", "claimed", "scored", "true", "worst nat", "ended", "verdict", "s")
    for entry, outcome, truth in results:
        found.add_row(
            entry.name, entry.says, number(outcome.claimed), number(outcome.val_bpb), number(truth),
            number(outcome.worst, 6), outcome.status, verdict(entry, outcome, truth), f"{outcome.seconds:.0f}",
        )  # fmt: skip
    return found


def main() -> int:
    """Run, print, count."""
    parser = argparse.ArgumentParser(prog="cheats", description=__doc__)
    parser.add_argument("names", nargs="*", help="only those whose name contains one of these")
    parser.add_argument("--fast", action="store_true", help="a few of each kind")
    parser.add_argument("--jobs", type=int, default=2, help="at once")
    parser.add_argument("--folder", type=Path, help="where logs and specs are kept; default: nowhere")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        try:
            base = run(around(""), folder / "truth", large_k=ALL, score_budget_s=120.0).val_bpb
            console.print(f"true score of the base, every position audited: {number(base, 6)}")
            with ThreadPoolExecutor(options.jobs) as pool:
                wanted = chosen(options.names, fast=options.fast)
                results = list(pool.map(lambda entry: judge(entry, folder, base, console), wanted))
        except AutoresearchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    Console(highlight=False, width=None if console.is_terminal else 200).print(table(results))
    cheats = [believed(entry, outcome, truth) for entry, outcome, truth in results if not entry.honest]
    honest = [outcome.trial.score is None for entry, outcome, _ in results if entry.honest]
    print(f"cheats: {len(cheats)} tried, {sum(cheats)} believed; honest: {len(honest)} runs, {sum(honest)} refused")
    return int(any(cheats) or any(honest) or any(failed_us(outcome) for _, outcome, _ in results))


if __name__ == "__main__":
    sys.exit(main())
