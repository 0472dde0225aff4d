"""Writes what a GPU day measured into docs/performance.md and task.toml.

    make gpu-report                                 # python -m gpu_day.report

The step files of build/gpu-day are copied to docs/gpu-day, which is committed; the part of docs/performance.md between
its two marks is made of them, and of nothing else. In `[profile.gpu]` of task.toml the trainer's memory limit and the K
of a would-be best are set to what was measured. Without step files the documentation says that there are none.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_day import ROOT, record
from gpu_day.record import DayEndedError, Step, Trial

MEASURED = ROOT / "docs" / "gpu-day"
BEGIN, END = "<!-- make gpu-report writes this part -->", "<!-- to here -->"
NONE = "**No GPU day has been measured yet, so there are no GPU figures here**; `make gpu-day` measures them."
AUDIT_SHARE = 0.05  # of the budget, that scoring a would-be best may take
LEAST_K, MOST_K = 512, 32768
ROWS = 32  # positions in one question
ROOM = 1.5  # times the most memory that was seen
LEAST_GB = 8
ENOUGH = 2  # trials, for a spread
Steps = Mapping[str, Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Settings of `[profile.gpu]` that measurements ask for; None where nothing tells."""

    memory_gb: int | None
    large_k: int | None


def fit(steps: Steps) -> Fitted:
    """What the five minutes of step (c) and the small audit of step (b) ask for."""
    ours, smoke = _trial(steps, "c", "ours"), _trial(steps, "b", "smoke")
    if ours is None:
        return Fitted(memory_gb=None, large_k=None)
    peak = ours.conditions.host_peak_mb
    memory_gb = None if peak is None else max(LEAST_GB, -(-int(ROOM * peak) // 1000))
    return Fitted(memory_gb=memory_gb, large_k=None if smoke is None else fitting_k(smoke, ours))


def fitting_k(small: Trial, large: Trial) -> int | None:
    """The largest power of two of positions whose audit keeps scoring within AUDIT_SHARE of the large trial's budget.

    A score costs a part that is always the same, and a part for each question; two audits of one source tell both.
    """
    few, many = small.figures.get("audited_positions"), large.figures.get("audited_positions")
    if few is None or many is None or many <= few:
        return None
    a_position_s = max(0.0, large.figures["scoring_seconds"] - small.figures["scoring_seconds"]) / (many - few)
    always_s = small.figures["scoring_seconds"] - few * a_position_s
    k = MOST_K
    while k > LEAST_K and always_s + k * a_position_s > AUDIT_SHARE * large.budget_s:
        k //= 2
    return k


def render(steps: Steps) -> str:
    """The part of the documentation that is generated."""
    if not steps:
        return NONE
    rows = [
        row
        for rows in (_machine(steps), _ours(steps), _upstream(steps), _noise(steps), _others(steps), _walls(steps))
        for row in rows
    ]
    lacking = [f"({step.letter}) {step.title}: {step.reason}" for step in steps.values() if step.status != "done"]
    table = ["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows)]
    return "\n".join([*table, *(["", "Not measured: " + "; ".join(lacking) + "."] if lacking else [])])


def into(text: str, part: str) -> str:
    """A document with its generated part replaced. Raises DayEndedError where its marks are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise DayEndedError(f"docs/performance.md: its two marks are not there once each: put back {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{part}\n{END}{rest.partition(END)[2]}"


def settle(task: str, fitted: Fitted) -> str:
    """task.toml with the measured settings of `[profile.gpu]`. Raises DayEndedError where one of them is missing."""
    head, table, rest = task.partition("[profile.gpu]\n")
    gpu, end, others = rest.partition("\n\n")
    for name, value in (("memory_gb", fitted.memory_gb), ("large_k", fitted.large_k)):
        if value is None:
            continue
        written = f"{value}.0" if name.endswith("_gb") else f"{value}"
        gpu, found = re.subn(rf"^{name} = [\d.]+", f"{name} = {written}", gpu, flags=re.MULTILINE)
        if found != 1:
            raise DayEndedError(f"task.toml: [profile.gpu] has no {name}: add it, for the measured {written}")
    return head + table + gpu + end + others


def copied(source: Path, target: Path) -> dict[str, Step]:
    """The steps of `target`, with those of `source` put there. Raises DayEndedError for a rehearsal's."""
    for step in record.read(source).values():
        if step.profile != "gpu":
            raise DayEndedError(f"{source} holds a rehearsal ({step.hardware}): name a GPU's folder with DAY=")
        target.mkdir(exist_ok=True)
        record.write(target, step)
    return record.read(target)


def _machine(steps: Steps) -> list[tuple[str, str]]:
    step = steps.get("a")
    if step is None or not step.trials:
        return []
    trial = step.trials[-1]
    facts = [
        f"{name} {trial.facts[name]}" for name in ("Python", "Triton", "processors", "memory") if name in trial.facts
    ]
    return [("machine", ", ".join([step.hardware, *facts, trial.began_at[:10]]))]


def _ours(steps: Steps) -> list[tuple[str, str]]:
    rows = []
    if (trial := _trial(steps, "b", "smoke")) is not None:
        rows.append((f"from cold caches, {trial.budget_s:g} s", _figures(trial)))
    if (trial := _trial(steps, "c", "ours")) is not None:
        scoring, positions = trial.figures["scoring_seconds"], trial.figures["audited_positions"]
        share = 100 * scoring / trial.budget_s
        rows += [
            (f"`train.py`, {trial.budget_s:g} s", _figures(trial)),
            (
                "scoring it as a would-be best",
                f"{scoring:.1f} s, {share:.1f} % of the budget, with K = {positions:,.0f}",
            ),
        ]
        fitted = fit(steps)
        if fitted.large_k is not None:
            rows.append(("K that keeps it within 5 %, or the least", f"{fitted.large_k:,}: `large_k` in task.toml"))
        if fitted.memory_gb is not None:
            peak = f"{trial.conditions.host_peak_mb:,.0f} MB at most"
            rows.append(("memory of the trainer's processes", f"{peak}; `memory_gb = {fitted.memory_gb}` in task.toml"))
    return rows


def _upstream(steps: Steps) -> list[tuple[str, str]]:
    theirs, ours = _trial(steps, "d", "upstream"), _trial(steps, "c", "ours")
    if theirs is None:
        return []
    own = theirs.figures.get("own_val_bpb")
    text = f"{_figures(theirs)}; {theirs.took_s:.0f} s in all; attention: {theirs.facts['attention']}"
    text += f"; its own number {own:.4f}" if own else ""
    rows = [(f"upstream's `train.py`, {theirs.budget_s:g} s as it counts them", text)]
    if ours is not None and (theirs_per_s := theirs.figures.get("tokens_per_second")):
        gain = theirs.figures["val_bpb"] - ours.figures["val_bpb"]
        speed = ours.figures["tokens_per_second"] / theirs_per_s
        words = f"val_bpb {abs(gain):.4f} {'lower' if gain > 0 else 'higher'}"
        rows.append(("ours beside it, on the same rows", f"{speed:.2f} times its tokens/s, {words}"))
    return rows


def _noise(steps: Steps) -> list[tuple[str, str]]:
    trials = steps["e"].counted() if "e" in steps else ()
    if len(trials) < ENOUGH:
        return []
    scores = [trial.figures["val_bpb"] for trial in trials]
    speeds = [trial.figures["tokens_per_second"] for trial in trials]
    parts = [
        f"val_bpb {statistics.fmean(scores):.4f} ± {statistics.stdev(scores):.4f}",
        f"{statistics.fmean(speeds):,.0f} ± {statistics.stdev(speeds):,.0f} tokens/s",
    ]
    for name, unit in (("sm_clock_mhz", "MHz"), ("power_w", "W"), ("temperature_c", "°C")):
        values = [value for trial in trials if (value := getattr(trial.conditions, name)) is not None]
        parts += [f"{min(values):.0f} to {max(values):.0f} {unit}"] if values else []
    throttled = sorted({reason for trial in trials for reason in trial.conditions.throttled})
    parts += [f"held back by {', '.join(throttled)}"] if throttled else []
    return [(f"noise: {len(trials)} trials of {trials[0].budget_s:g} s with other seeds", ", ".join(parts))]


def _others(steps: Steps) -> list[tuple[str, str]]:
    rows = []
    for letter in "cf":
        for trial in steps[letter].counted() if letter in steps else ():
            worst, mean = trial.figures["max_difference_nats"], abs(trial.figures["mean_difference_nats"])
            rows.append((f"honest answers differ by: {trial.name}", f"{worst:.1e} nat at most, {mean:.1e} in the mean"))
    return rows


def _walls(steps: Steps) -> list[tuple[str, str]]:
    rows = []
    for trial in steps["g"].counted() if "g" in steps else ():
        said = "; ".join(trial.facts.values())
        rows.append((f"containers: {trial.name}", said or _figures(trial)))
    return rows


def _figures(trial: Trial) -> str:
    shown = {
        "tokens_per_second": "{:,.0f} tokens/s", "mfu_percent": "MFU {:.1f} %", "val_bpb": "val_bpb {:.4f}",
        "peak_vram_mb": "{:,.0f} MB of GPU memory", "startup_seconds": "start-up {:.1f} s",
        "compile_seconds": "compilation {:.1f} s", "scoring_seconds": "scoring {:.1f} s",
    }  # fmt: skip
    return ", ".join(text.format(trial.figures[name]) for name, text in shown.items() if name in trial.figures)


def _trial(steps: Steps, letter: str, name: str) -> Trial | None:
    return steps[letter].trial(name) if letter in steps else None


def main() -> None:
    """Copy, write, and print what task.toml has now."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--day", type=Path, default=ROOT / "build" / "gpu-day", help="where the step files are")
    options = parser.parse_args()
    page, task = ROOT / "docs" / "performance.md", ROOT / "task.toml"
    try:
        steps = copied(options.day, MEASURED)
        fitted = fit(steps)
        text, settings = into(page.read_text(encoding="utf-8"), render(steps)), settle(task.read_text(), fitted)
    except DayEndedError as error:
        sys.exit(f"gpu-report: {error}")
    page.write_text(text, encoding="utf-8")
    task.write_text(settings, encoding="utf-8")
    print(f"gpu-report: {len(steps)} steps in {page}; memory_gb {fitted.memory_gb}, large_k {fitted.large_k} in {task}")


if __name__ == "__main__":
    main()
