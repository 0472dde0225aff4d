"""Measure what the product is worth on this machine's GPU, within the minutes that it is lent for.

    make gpu-day MINUTES=25 UPSTREAM=folder         # python3 -m gpu_day --minutes 25 --upstream folder

Steps in order of worth: (a) what is there, (b) a minute of training and a score, (c) five minutes and the score of a
would-be best, (d) upstream's own scripts for as long, (e) six short trials of one source, (f) two honest models of
other kinds, (g) the same in containers, where an engine hands out GPUs. Each leaves one JSON file in build/gpu-day,
written after every trial: it may be cut off at any moment, and the same command goes on. `--profile cpu` rehearses it.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from gpu_day import ROOT, day, record
from gpu_day.direct import leased
from gpu_day.record import DayEndedError
from orchestrator.errors import AutoresearchError

WAIT_S = 60.0  # for an idle GPU: minutes of a lent machine are few
MINE = ROOT / "upstream"  # where a kit puts it


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=25.0, help="that this call may take")
    parser.add_argument("--profile", choices=["gpu", "cpu"], default="gpu", help="cpu: a rehearsal")
    parser.add_argument("--day", type=Path, default=ROOT / "build" / "gpu-day", help="where the step files are")
    parser.add_argument("--data", type=Path, help="prepared data; default: data/gpu-python, else it is made")
    parser.add_argument("--upstream", type=Path, default=MINE if MINE.is_dir() else None, help="upstream's checkout")
    parser.add_argument("--no-lease", action="store_true", help="on a machine that is yours alone")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes:g} must be above 0")
    return options


def run(options: argparse.Namespace) -> bool:
    """Measure; whether no step failed. Raises AutoresearchError."""
    until = time.monotonic() + 60 * options.minutes
    folder = options.day.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DayEndedError(f"{folder}: {error.strerror}: name a folder that can be written with DAY=") from error
    today = day.Day(
        profile=options.profile, folder=folder, until=until, data=options.data and options.data.resolve(),
        upstream=options.upstream and options.upstream.resolve(),
    )  # fmt: skip
    print(f"gpu-day: {options.minutes:g} min, files in {folder}", flush=True)
    here = day.begin(today)
    last = day.contained_plan(today)
    if here.problem and last.why_not:
        raise DayEndedError(here.problem)
    today = replace(today, start_s=here.start_s, data=None if here.problem else day.data_of(today))
    plans = day.direct_plans(today)
    if here.problem:
        day.go(today, tuple(replace(plan, why_not=here.problem) for plan in plans), here.hardware)
    else:
        wanted = options.profile == "gpu" and not options.no_lease  # a rehearsal disturbs nobody
        with leased(options.profile, wanted=wanted, wait_s=WAIT_S) as device:
            today = replace(today, device=device)
            day.go(today, plans, here.hardware)
            day.go_on(today, plans, here.hardware, day.needs_s(last, folder))
    day.go(today, (last,), here.hardware)
    steps = record.read(folder)
    print("gpu-day: " + ", ".join(f"({step.letter}) {step.status}" for step in steps.values()), flush=True)
    return all(step.status != "failed" for step in steps.values())


def main() -> None:
    """End with one line where the day cannot go on."""
    try:
        done = run(asked())
    except AutoresearchError as error:
        sys.exit(f"gpu-day: {error}")
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
