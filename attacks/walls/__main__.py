"""Attack the walls, each attack with a positive control, and say what held.

    make probes                 # python -m attacks.walls [--runtime runsc] [--fast] [group ...]

The last line is `probes: N blocked, 0 allowed, 0 void`; anything but zeros there ends with exit code 1.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attacks.walls import faults, files, gpu, kernel, network, proc, resources, traces
from attacks.walls.arena import Arena
from attacks.walls.base import Finding, Verdict
from attacks.walls.tiers import explained, tier_of
from orchestrator.errors import AutoresearchError
from orchestrator.text import sanitise
from orchestrator.walls.engine import Engine

COLOURS = {
    Verdict.BLOCKED: "green", Verdict.ALLOWED: "bold red", Verdict.VOID: "magenta", Verdict.DIFFERS: "yellow",
    Verdict.NOT_RUN: "bright_black",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Group:
    """Probes that belong together, and how they are run."""

    names: tuple[str, ...]
    run: Callable[[Arena], list[Finding]]


GROUPS = {
    **{m.NAME: Group(tuple(p.name for p in m.PROBES), m.run) for m in (files, kernel, proc, network, resources, gpu)},
    traces.LEFT: Group(tuple(trace.name for trace in traces.TRACES), traces.run_left),
    traces.PRINTED: Group(tuple(item.name for item in traces.PRINTS), traces.run_printed),
    faults.NAME: Group(tuple(faults.FAULTS), faults.run),
}


def main() -> int:
    """Run the groups that were named, or all."""
    options = arguments()
    console = Console(highlight=False)
    found: list[Finding] = []
    with closing(Engine.connect()) as engine, tempfile.TemporaryDirectory(prefix="probes-") as scratch:
        engine.check_runtime(options.runtime)
        engine.reap()
        tier = tier_of(engine, options.runtime)
        for name in options.groups or GROUPS:
            began = time.monotonic()
            (folder := Path(scratch) / name.replace(" ", "-")).mkdir()
            group = GROUPS[name].run(Arena(engine=engine, scratch=folder, runtime=options.runtime, fast=options.fast))
            group = [explained(finding, tier) for finding in group]
            console.print(table(name, group, time.monotonic() - began))
            found += group
    count = Counter(finding.verdict for finding in found)
    if count[Verdict.NOT_RUN]:
        print(f"not run here: {count[Verdict.NOT_RUN]}")
    for finding in found:
        if finding.verdict is Verdict.DIFFERS:
            print(f"differs on {tier}: {finding.probe}: {finding.why}")
    counted = [finding for finding in found if finding.verdict in (Verdict.BLOCKED, Verdict.ALLOWED)]
    print(f"judged by the host: {sum(finding.by_host for finding in counted)} of {len(counted)}")
    blocked, allowed, void = (count[verdict] for verdict in (Verdict.BLOCKED, Verdict.ALLOWED, Verdict.VOID))
    print(f"probes: {blocked} blocked, {allowed} allowed, {void} void")
    return 1 if allowed or void or not blocked else 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m attacks.walls", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtime", default="", help="the engine's runtime: runc, runsc")
    parser.add_argument(
        "--fast", action="store_true", help="less of what only takes long: fewer deadlines, smaller floods"
    )
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], metavar="group", help=", ".join(GROUPS))
    return parser.parse_args()


def table(name: str, group: list[Finding], seconds: float) -> Table:
    """Build a table with one row per probe."""
    shown = Table(title=f"{name} ({seconds:.0f} s)", title_justify="left", title_style="bold", box=None, expand=True)
    for column, ratio in (("probe", 4), ("verdict", 1), ("in the trainer's container", 4), ("in a weak one", 3)):
        shown.add_column(column, ratio=ratio, no_wrap=True, overflow="ellipsis", header_style="dim")
    for finding in group:
        cells = (finding.why, finding.control)
        verdict = Text(finding.verdict, COLOURS[finding.verdict])
        shown.add_row(Text(finding.probe), verdict, *(Text(sanitise(cell, limit=200)) for cell in cells))
    return shown


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AutoresearchError as error:
        sys.exit(f"error: {error}")
