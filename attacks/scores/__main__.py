"""`python -m attacks.scores`: every cheat and honest control in real containers; exit 1 if one was misjudged."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attacks.scores.run import Judged, Outcome, chosen, run_all
from orchestrator.errors import AutoresearchError


def verdict(judged: Judged) -> str:
    """Return the verdict on one entry, coloured for the terminal."""
    if judged.our_fault:
        return "[red bold]OUR FAULT[/]"
    if judged.believed:
        return "[red bold]BELIEVED[/]"
    if judged.refused:
        return "[red bold]REFUSED[/]"
    if judged.missed:
        return "[red bold]MISSED[/]"
    scored = "passed" if judged.entry.honest else "true value"
    return f"[green]{scored if judged.outcome.trial.score else 'refused'}[/]"


def number(value: float | None, digits: int = 4) -> str:
    """Format a number; a missing one is shown as a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(results: list[Judged]) -> Table:
    """Build the table of all results."""
    found = Table("train.py", "what it does", "claimed", "scored", "true", "worst nat", "verdict", "because", "s")
    for judged in results:
        entry, outcome = judged.entry, judged.outcome
        because = judged.missed or outcome.why or "its score is the true one"
        found.add_row(
            entry.name, entry.says, number(outcome.claimed), number(outcome.value), number(judged.truth),
            number(outcome.worst, 6), verdict(judged), Text(because[:160]), f"{outcome.seconds:.0f}",
        )  # fmt: skip
    return found


def main() -> int:
    """Run, print, count."""
    parser = argparse.ArgumentParser(prog="cheats", description=__doc__)
    parser.add_argument("names", nargs="*", help="only those whose folder/name contains one of these")
    parser.add_argument("--fast", action="store_true", help="a few of each kind")
    parser.add_argument("--jobs", type=int, default=2, help="at once")
    parser.add_argument("--folder", type=Path, help="where logs and specs are kept; default: nowhere")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)

    def heard(name: str, outcome: Outcome) -> None:
        console.print(Text(f"{name:34} {outcome.status:8} {outcome.seconds:3.0f} s  {outcome.why}"))

    with tempfile.TemporaryDirectory() as temporary:
        try:
            wanted = chosen(options.names, fast=options.fast)
            results = run_all(wanted, options.folder or Path(temporary), jobs=options.jobs, heard=heard)
        except AutoresearchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    Console(highlight=False, width=None if console.is_terminal else 200).print(table(results))
    void = [judged.entry.name for judged in results if judged.our_fault or judged.missed]
    if void:
        print(f"these prove nothing: {', '.join(void)}", file=sys.stderr)
    cheats, honest = [j for j in results if not j.entry.honest], [j for j in results if j.entry.honest]
    believed, refused = sum(j.believed for j in cheats), sum(j.refused for j in honest)
    print(f"cheats: {len(cheats)} tried, {believed} believed; honest: {len(honest)} runs, {refused} refused")
    return int(bool(believed or refused or void))


if __name__ == "__main__":
    sys.exit(main())
