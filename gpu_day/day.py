"""The steps of a GPU day, in order of worth, and which of them still fit into the minutes.

A step is a list of items, an item is one trial. After each the step's file is written, so the next call begins where
this one was cut off. What does not fit is left to the next call, and the step's file says why.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_day import ROOT, contained, machine, record
from gpu_day.direct import Direct, prepared, program, read_figures, shown, visible
from gpu_day.record import DayEndedError, Step, Trial, TrialFailedError, now
from gpu_day.upstream import FILES
from gpu_day.watch import Watch
from orchestrator.scoring.self_reported import parse_figures

if TYPE_CHECKING:
    from orchestrator.devices.gpu import Device

MODELS = ROOT / "reference_models"
OTHERS = ("recurrent", "bfloat16")  # honest models whose answers may differ with the shape of a question
NOISE_TRIALS = 6
COLD_S = 60.0  # that compiling from cold caches may go past the smoke trial's budget
COLD_STEPS = 11  # that upstream does not count
MAIN = '\n\nif __name__ == "__main__":\n    train()\n'
UPSTREAM = "import runpy\nrunpy.run_module('gpu_day.upstream', run_name='__main__', alter_sys=True)\n"
OF_UPSTREAM = (
    "training_seconds", "total_seconds", "peak_vram_mb", "mfu_percent", "total_tokens_M", "num_steps", "num_params_M",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Seconds of training, and what comes on top of it: starting, loading and scoring."""

    smoke: float
    full: float
    short: float
    other: float
    scoring: float  # with the small audit
    large_scoring: float
    upstream_more: float  # its start-up, compilation and evaluation, which its own budget leaves out
    free_gb: float  # of disk, for compile caches and a checkpoint


BUDGETS = {
    "gpu": Budgets(
        smoke=60, full=300, short=45, other=30, scoring=40, large_scoring=110, upstream_more=150, free_gb=4.0
    ),
    "cpu": Budgets(smoke=6, full=10, short=4, other=15, scoring=6, large_scoring=9, upstream_more=20, free_gb=0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What one call may use."""

    profile: str
    folder: Path
    until: float  # monotonic
    data: Path | None = None
    upstream: Path | None = None
    device: "Device | None" = None
    start_s: float = 0.0  # to start Python with torch
    clock: Callable[[], float] = time.monotonic

    @property
    def work(self) -> Path:
        """Where trials leave what is no result: compile caches, checkpoints, upstream's data."""
        return self.folder / "work"

    def left(self) -> float:
        """Seconds that are left."""
        return self.until - self.clock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One trial that is planned."""

    name: str
    needs_s: float
    run: Callable[[Day, Path], Trial]  # in an empty folder; raises TrialFailedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A step: what it needs to be done, and what is worth a trial where minutes are left over."""

    letter: str
    title: str
    items: tuple[Item, ...]
    extra: tuple[Item, ...] = ()
    why_not: str = ""  # why it cannot be done here


def budgets(day: Day) -> Budgets:
    """The budgets of a profile. Those of a rehearsal grow with what starting takes: its machine may be busy."""
    b, more = BUDGETS[day.profile], 2 * day.start_s
    if day.profile == "gpu":
        return b
    return replace(
        b, smoke=b.smoke + more, full=b.full + more, short=b.short + more, other=b.other + 2 * more,
        scoring=b.scoring + more, large_scoring=b.large_scoring + 2 * more, upstream_more=b.upstream_more + 2 * more,
    )  # fmt: skip


def direct_plans(day: Day) -> tuple[Plan, ...]:
    """Steps (b) to (f)."""
    b = budgets(day)
    checkout = _why_no_checkout(day.upstream)
    seeds = range(1, NOISE_TRIALS + 1)
    pair = (
        _ours("ours again", b.full, b.scoring, small_audit=True, seed=2),
        Item(name="upstream again", needs_s=b.full + b.upstream_more, run=_upstream("upstream again", b)),
    )
    return (
        Plan(letter="b", title="smoke", items=(_ours("smoke", b.smoke, b.scoring, small_audit=True, grace_s=COLD_S),)),
        Plan(letter="c", title="would-be best", items=(_ours("ours", b.full, b.large_scoring),)),
        Plan(
            letter="d", title="upstream", why_not=checkout,
            items=(Item(name="upstream", needs_s=b.full + b.upstream_more, run=_upstream("upstream", b)),),
            extra=pair if day.profile == "gpu" else (),  # a rehearsal has no figures to compare
        ),
        Plan(
            letter="e", title="noise",
            items=tuple(_ours(f"seed {seed}", b.short, b.scoring, small_audit=True, seed=seed) for seed in seeds),
        ),
        Plan(letter="f", title="other models", items=tuple(_other(name, b) for name in OTHERS)),
    )  # fmt: skip


def contained_plan(day: Day) -> Plan:
    """Step (g)."""
    try:
        why = contained.why_not() if day.profile == "gpu" else "the cpu profile measures no walls"
    except TrialFailedError as error:
        why = str(error)
    b = BUDGETS[day.profile]

    def baseline(_day: Day, folder: Path) -> Trial:
        return contained.baseline(Direct(profile="gpu", folder=folder, seconds=b.full, name="in containers"))

    def walls(day: Day, _folder: Path) -> Trial:
        words = ["benchmarks.overhead", "2", f"{b.smoke:g}", "--profile", "gpu"]
        return contained.command("walls", words, day.left(), "overhead_percent")

    items = (
        Item(name="in containers", needs_s=b.full + b.large_scoring + 60, run=baseline),
        Item(name="walls", needs_s=4 * b.smoke + 120, run=walls),
        Item(
            name="attacks",
            needs_s=300,
            run=lambda day, _: contained.command("attacks", ["attacks.walls", "gpu"], day.left()),
        ),
        Item(name="shared", needs_s=300, run=lambda _, folder: contained.shared(folder)),
    )
    return Plan(letter="g", title="containers", items=items, why_not=why)


def begin(day: Day) -> machine.Machine:
    """Step (a), at every call: a machine that is another one, has no room or no GPU ends the day with one line."""
    room_gb = shutil.disk_usage(day.folder).free / 1e9
    if room_gb < (needed := BUDGETS[day.profile].free_gb):
        raise DayEndedError(
            f"{day.folder}: {room_gb:.1f} GB are free, {needed:g} are needed: make room, or name another folder with"
            " OUT=; what was measured stays"
        )
    known = record.read(day.folder)
    here = machine.look(day.profile)
    for step in known.values():
        if step.counted() and (step.profile, step.hardware) != (day.profile, here.hardware):
            raise DayEndedError(
                f"{day.folder} holds figures of {step.hardware} ({step.profile}), this is {here.hardware}"
                f" ({day.profile}): move that folder away, or name another one with DAY="
            )
    facts = {**here.facts, "disk": f"{room_gb:.0f} GB free"}
    trial = Trial(name="machine", began_at=now(), facts=facts, failure=here.problem)
    step = Step(letter="a", title="machine", profile=day.profile, hardware=here.hardware)
    if here.problem or "a" not in known or known["a"].status != "done":
        record.write(day.folder, _judged(step.add(trial), wanted=("machine",)))
    for name, value in facts.items():
        print(f"  {name}: {value}", flush=True)
    return here


def go(day: Day, plans: tuple[Plan, ...], hardware: str) -> None:
    """Do what is not done yet and fits into the minutes; every step has a file afterwards."""
    for plan in plans:
        _go(day, plan, hardware)


def go_on(day: Day, plans: tuple[Plan, ...], hardware: str, reserve_s: float) -> None:
    """What is worth a trial where all is done and minutes are left over."""
    known = record.read(day.folder)
    if not all(known[plan.letter].status == "done" for plan in plans):
        return
    spare = replace(day, until=day.until - reserve_s)
    for plan in plans:
        _go(spare, plan, hardware, extra=True)


def needs_s(plan: Plan, folder: Path) -> float:
    """Seconds of what a step still lacks, 0 for one that cannot be done here."""
    step = record.read(folder).get(plan.letter)
    lacking = [item for item in plan.items if step is None or step.trial(item.name) is None]
    return 0.0 if plan.why_not else sum(item.needs_s for item in lacking)


def _go(day: Day, plan: Plan, hardware: str, *, extra: bool = False) -> None:
    step = record.read(day.folder).get(plan.letter) or Step(
        letter=plan.letter, title=plan.title, profile=day.profile, hardware=hardware
    )
    wanted, reason = tuple(item.name for item in plan.items), plan.why_not
    for item in plan.extra if extra else plan.items:
        if step.trial(item.name) is not None:
            continue
        if not reason and item.needs_s > day.left():
            reason = f"{item.name} needs {item.needs_s:.0f} s, {max(day.left(), 0):.0f} s are left"
        if reason:
            break
        _say(plan, f"{item.name}, at most {item.needs_s:.0f} s; {day.left() / 60:.1f} min are left")
        trial = _attempt(day, plan, item)
        step = _judged(step.add(trial), wanted)
        record.write(day.folder, step)
        _say(plan, f"{item.name}: {in_words(trial)}")
    step = _judged(step, wanted, reason)
    record.write(day.folder, step)
    if not extra:
        _say(plan, f"{step.status}{f': {step.reason}' if step.reason else ''}")


def _judged(step: Step, wanted: tuple[str, ...], reason: str = "") -> Step:
    """The step with its status: what its trials and the reason for its end come to."""
    if all(step.trial(name) for name in wanted):
        return replace(step, status="done", reason="")
    lacking = next(name for name in wanted if step.trial(name) is None)
    last = step.trials[-1] if step.trials else None
    if not reason and last is not None and not last.counts:
        return replace(step, status="failed", reason=f"{last.name}: {last.failure or _contended(last)}")
    return replace(
        step, status="partial" if step.counted() else "skipped", reason=reason or f"cut off before {lacking}"
    )


def _attempt(day: Day, plan: Plan, item: Item) -> Trial:
    """The trial, or why it has no result. Raises DayEndedError where nothing can be written."""
    folder = day.work / f"{plan.letter}-{item.name.replace(' ', '-')}"
    began_at, began = now(), time.monotonic()
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return item.run(day, folder)
    except TrialFailedError as error:
        return Trial(name=item.name, began_at=began_at, took_s=round(time.monotonic() - began, 1), failure=str(error))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
            raise
        raise DayEndedError(
            f"{folder}: {error.strerror}: make room there, or name another folder with DAY=; what was measured stays"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_words(trial: Trial) -> str:
    """One trial, for a terminal."""
    if not trial.counts:
        return trial.failure or _contended(trial)
    known = [f"{name} {value:,.6g}" for name, value in trial.figures.items()]
    known += [f"{name}: {value}" for name, value in trial.facts.items()]
    return ", ".join([*known, f"{trial.took_s:.0f} s in all"])


def data_of(day: Day) -> Path:
    """The prepared data, made once where it was not brought along. Raises DayEndedError."""
    made = day.work / "prepared"
    asked = Direct(profile=day.profile, folder=made, seconds=1.0, data=day.data)
    if day.data is None and (made / "data/val/manifest.json").is_file():
        return made / "data"
    try:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        return prepared(asked, asked.environment())
    except TrialFailedError as error:
        raise DayEndedError(str(error)) from error


def _grace_s(day: Day) -> float:
    """What a rehearsal's busy machine may need to write a checkpoint."""
    return 0.0 if day.profile == "gpu" else 3 * day.start_s


def _ours(  # noqa: PLR0913
    name: str, seconds: float, scoring_s: float, *, seed: int = 1, small_audit: bool = False, grace_s: float = 0.0
) -> Item:
    """The task's own train.py."""

    def run(day: Day, folder: Path) -> Trial:
        return Direct(
            profile=day.profile, folder=folder, seconds=seconds, name=name, seed=seed, data=day.data,
            small_audit=small_audit, caches=day.work / "caches", until=day.until, grace_s=grace_s + _grace_s(day),
        ).run(day.device)  # fmt: skip

    return Item(name=name, needs_s=seconds + scoring_s, run=run)


def _other(name: str, b: Budgets) -> Item:
    """An honest model of another kind: the reference models' base, then what redefines parts of it."""

    def run(day: Day, folder: Path) -> Trial:
        text = (MODELS / "base.py").read_text(encoding="utf-8")
        text += "\n\n" + next(MODELS.glob(f"[0-9]*_{name}.py")).read_text(encoding="utf-8") + MAIN
        (folder / "train.py").write_text(text, encoding="utf-8")
        return Direct(
            profile=day.profile, folder=folder, seconds=b.other, name=name, train=folder / "train.py", data=day.data,
            small_audit=True, caches=day.work / "caches", until=day.until, grace_s=_grace_s(day),
        ).run(day.device)  # fmt: skip

    return Item(name=name, needs_s=b.other + b.scoring, run=run)


def _upstream(name: str, b: Budgets) -> Callable[[Day, Path], Trial]:
    """Upstream's scripts, in a home of their own that keeps their data."""

    def run(day: Day, _folder: Path) -> Trial:
        began_at, began = now(), time.monotonic()
        (home := day.work / "upstream").mkdir(exist_ok=True)
        caches = day.work / "caches"
        environment = {
            **os.environ, **visible(), "HOME": str(home), "PYTHONUNBUFFERED": "1", "AUTORESEARCH_PROFILE": day.profile,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"), "TRITON_CACHE_DIR": str(caches / "triton"),
        }  # fmt: skip
        seconds = {"gpu": b.full, "cpu": b.short}[day.profile]
        command = program(UPSTREAM, str(day.upstream), str(day.data), f"{seconds:g}")
        with Watch(day.device) as watch:
            output = shown(
                "upstream's train.py", command, environment, min(seconds + b.upstream_more, day.left()), watch
            )
        return Trial(
            name=name, budget_s=seconds, began_at=began_at, took_s=round(time.monotonic() - began, 1), level="L0",
            figures=of_upstream(output), facts=_attention(output), conditions=watch.conditions(),
        )  # fmt: skip

    return run


def of_upstream(output: str) -> dict[str, float]:
    """Upstream's summary, its speed once compiled, and its model's bits per byte on our rows as `val_bpb`.

    Raises TrialFailedError where the last of these is missing.
    """
    figures = {**read_figures(output, OF_UPSTREAM), **parse_figures(output)}
    numbers = read_figures(output, ("val_bpb", "same_rows_bpb"))
    if "same_rows_bpb" not in numbers:
        raise TrialFailedError("upstream's train.py ended well, but its model was not evaluated; see above")
    steps, seconds = figures.get("num_steps", 0.0), figures.get("training_seconds", 0.0)
    if steps > COLD_STEPS and seconds and "total_tokens_M" in figures:
        figures["tokens_per_second"] = round(1e6 * figures["total_tokens_M"] * (1 - COLD_STEPS / steps) / seconds)
    figures["val_bpb"] = numbers["same_rows_bpb"]
    return {**figures, **({"own_val_bpb": numbers["val_bpb"]} if "val_bpb" in numbers else {})}


def _attention(output: str) -> dict[str, str]:
    lines = [line for line in output.splitlines() if line.startswith("attention: ")]
    return {"attention": lines[0].removeprefix("attention: ") if lines else "its own kernel"}


def _why_no_checkout(upstream: Path | None) -> str:
    if upstream is None:
        return "no checkout of upstream was named: UPSTREAM=folder with its train.py and prepare.py"
    missing = [name for name in FILES if not (upstream / name).is_file()]
    return f"UPSTREAM={upstream} has no {' and no '.join(missing)}: name upstream's checkout" if missing else ""


def _contended(trial: Trial) -> str:
    return f"another used the GPU, {trial.conditions.contended_by}: not counted, it runs again"


def _say(plan: Plan, text: str) -> None:
    print(f"gpu-day: ({plan.letter}) {plan.title}: {text}", flush=True)
