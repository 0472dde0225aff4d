"""A GPU day is resumed where it was cut off, keeps to its minutes, and ends with one line where it cannot go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.main import get_group

from gpu_day import contained, day, machine, record
from gpu_day.__main__ import asked, run
from gpu_day.day import Day, Item, Plan
from gpu_day.direct import leased
from gpu_day.record import Conditions, DayEndedError, Step, Trial, TrialFailedError
from gpu_day.watch import Watch, memory_mb
from orchestrator.cli import app
from orchestrator.devices import gpu, lease
from tests.support.boxes import ROOT
from tests.support.fake_nvml import Machine

HARDWARE = "H100"


def measures(value: float = 1.0, *, contended_by: str = "") -> Callable[[Day, Path], Trial]:
    """A trial that has a result at once."""
    return lambda _day, folder: Trial(
        name=folder.name.split("-", 1)[1], figures={"val_bpb": value}, conditions=Conditions(contended_by=contended_by)
    )


def fails(_day: Day, _folder: Path) -> Trial:
    """A trial that has none."""
    raise TrialFailedError("it diverged")


def plan(*runs: Callable[[Day, Path], Trial], why_not: str = "", needs_s: float = 10.0) -> Plan:
    """A step of trials named one, two, three."""
    names = ("one", "two", "three")
    items = tuple(Item(name=name, needs_s=needs_s, run=run) for name, run in zip(names, runs, strict=False))
    return Plan(letter="b", title="smoke", items=items, why_not=why_not)


@pytest.fixture
def today(tmp_path: Path) -> Day:
    """A call of twenty-five minutes."""
    return Day(profile="cpu", folder=tmp_path, until=time.monotonic() + 1500)


def step_of(today: Day, letter: str = "b") -> Step:
    """What a step's file says."""
    return record.read(today.folder)[letter]


def test_a_day_goes_on_where_it_was_cut_off(today: Day) -> None:
    """What was measured stays in the file as it was, and is not measured again."""

    def killed(_day: Day, _folder: Path) -> Trial:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        day.go(today, (plan(measures(1.0), killed, measures(3.0)),), HARDWARE)
    cut = step_of(today)
    day.go(today, (plan(fails, measures(2.0), measures(3.0)),), HARDWARE)

    assert ("partial", "cut off before two", 1) == (cut.status, cut.reason, len(cut.trials))
    done = step_of(today)
    assert ("done", "") == (done.status, done.reason)
    assert [1.0, 2.0, 3.0] == [trial.figures["val_bpb"] for trial in done.trials]
    assert [] == list(today.work.iterdir())


def test_a_step_that_does_not_fit_into_the_minutes_says_so(today: Day) -> None:
    """Before it begins; the next call does it."""
    late = replace(today, until=time.monotonic() + 5)
    day.go(late, (plan(measures()),), HARDWARE)
    skipped = step_of(today)
    day.go(replace(today, until=time.monotonic() + 15, clock=ticking(8.0)), (plan(measures(), measures()),), HARDWARE)

    assert "skipped" == skipped.status
    assert skipped.reason.startswith("one needs 10 s, ")
    assert "partial" == step_of(today).status
    assert step_of(today).reason.startswith("two needs 10 s, ")


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much whenever a trial has had two looks at it."""
    looks = iter(range(1000))
    began = time.monotonic()
    return lambda: began + seconds * (next(looks) // 2)


def test_a_trial_without_a_result_is_tried_again(today: Day) -> None:
    """By the next call; the steps after it are done nevertheless, and the failure stays on record."""
    other = replace(plan(measures()), letter="c")
    day.go(today, (plan(fails), other), HARDWARE)
    failed, after = step_of(today), step_of(today, "c")
    day.go(today, (plan(measures()),), HARDWARE)

    assert ("failed", "one: it diverged", "done") == (failed.status, failed.reason, after.status)
    assert ("done", 2) == (step_of(today).status, len(step_of(today).trials))


def test_a_trial_that_another_disturbed_does_not_count(today: Day) -> None:
    """It says who, and runs again."""
    day.go(today, (plan(measures(contended_by="bob's python (pid 7)")),), HARDWARE)

    assert "failed" == step_of(today).status
    assert "bob's python (pid 7)" in step_of(today).reason
    assert () == step_of(today).counted()


def test_spare_minutes_go_to_what_is_worth_another_trial(today: Day) -> None:
    """Only once all is done, and never those that a later step needs."""
    spare = replace(plan(measures()), extra=(Item(name="again", needs_s=100, run=measures(9.0)),))
    lacking = replace(plan(fails), letter="c")
    day.go(today, (spare, lacking), HARDWARE)
    day.go_on(today, (spare, lacking), HARDWARE, 0)
    day.go_on(today, (spare,), HARDWARE, 1450)
    before = len(step_of(today).trials)
    day.go_on(today, (spare,), HARDWARE, 0)

    assert (1, 2, "done") == (before, len(step_of(today).trials), step_of(today).status)


def test_what_cannot_be_done_here_has_a_file_with_the_reason(today: Day) -> None:
    """Upstream without a checkout, and containers without an engine."""
    plans = day.direct_plans(today)
    named = day.direct_plans(replace(today, upstream=today.folder))
    day.go(today, (day.contained_plan(today), next(plan for plan in plans if plan.letter == "d")), HARDWARE)

    assert "bcdef" == "".join(plan.letter for plan in plans)
    assert ("skipped", "the cpu profile measures no walls") == (step_of(today, "g").status, step_of(today, "g").reason)
    assert step_of(today, "d").reason.startswith("no checkout of upstream was named: UPSTREAM=")
    assert "has no train.py and no prepare.py" in named[2].why_not
    assert 6 == len(plans[3].items)


def test_a_day_on_a_gpu_fits_into_its_minutes() -> None:
    """Steps (a) to (e) by what they need at most, and (f) by what is left when they take what was seen elsewhere."""
    plans = day.direct_plans(Day(profile="gpu", folder=Path(), until=0.0, upstream=ROOT / "tests/scripts/upstream"))
    needed = [sum(item.needs_s for item in plan.items) for plan in plans]

    assert sum(needed[:4]) <= 25 * 60
    assert all(item.needs_s < 9 * 60 for plan in plans for item in plan.items)  # where a call may take ten minutes
    assert sum(needed) - 25 * 60 < needed[-1]


def test_a_full_disk_ends_the_day_and_keeps_what_was_measured(today: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the place: before it begins, and when a file cannot be written."""
    day.go(today, (plan(measures()),), HARDWARE)
    before = (today.folder / "b-smoke.json").read_bytes()
    (today.folder / "b-smoke.new").symlink_to("/dev/full")
    with pytest.raises(DayEndedError, match=r"b-smoke.json: No space left on device: make room there, or .* stays"):
        day.go(today, (plan(measures(), measures()),), HARDWARE)
    monkeypatch.setitem(day.BUDGETS, "cpu", replace(day.BUDGETS["cpu"], free_gb=1e9))
    with pytest.raises(DayEndedError, match=r"GB are free, 1e\+09 are needed: make room"):
        day.begin(today)

    assert before == (today.folder / "b-smoke.json").read_bytes()


def test_a_trial_that_fills_the_disk_ends_the_day(today: Day) -> None:
    """It is nothing that the next step could do without."""

    def fills(_day: Day, _folder: Path) -> Trial:
        with Path("/dev/full").open("w") as file:
            file.write("x")
        raise AssertionError

    with pytest.raises(DayEndedError, match="No space left on device"):
        day.go(today, (plan(fills),), HARDWARE)


def test_figures_of_two_machines_are_never_mixed(today: Day, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that another machine's figures are in is refused; this one's is gone on with."""
    here = day.begin(today)
    day.begin(today)
    assert here.problem or "done" == step_of(today, "a").status
    record.write(today.folder, replace(step_of(today, "a"), hardware="without a figure", trials=()))
    day.begin(today)
    record.write(today.folder, replace(step_of(today, "a"), hardware="another one", trials=(Trial(name="machine"),)))
    with pytest.raises(DayEndedError, match=r"holds figures of another one \(cpu\), this is .*: move that folder away"):
        day.begin(today)

    assert "processors: " in capsys.readouterr().out


def test_a_file_that_is_no_steps_is_named(today: Day) -> None:
    """Whatever is wrong with it; nothing is written over it."""
    for text in ("{", "[]", '{"letter": "b"}', '{"letter":"b","title":"t","profile":"cpu","trials":[{"x":1}]}'):
        (today.folder / "b-smoke.json").write_text(text)
        with pytest.raises(DayEndedError, match=r"b-smoke\.json is no step's file .*: move it away"):
            record.read(today.folder)


def test_without_a_gpu_it_says_so_and_what_was_measured_stays(tmp_path: Path) -> None:
    """One line, exit code 1."""
    step = Step(letter="b", title="smoke", profile="gpu", hardware=HARDWARE, trials=(Trial(name="smoke"),))
    record.write(tmp_path, step)
    command = [sys.executable, "-m", "gpu_day", "--day", str(tmp_path), "--minutes", "1"]
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)

    assert 1 == done.returncode
    assert [
        "gpu-day: there is no NVIDIA GPU to use here (neither nvidia-smi nor torch knows one): nothing was tested"
    ] == (done.stderr.splitlines())
    assert step == record.read(tmp_path)["b"]


def test_a_gpu_that_torch_cannot_use_ends_the_day_in_one_line(tmp_path: Path) -> None:
    """What was found is on file, with the reason; the day can begin there once the driver is new."""
    (torch := tmp_path / "torch").mkdir()
    (torch / "__init__.py").write_text(
        "from types import SimpleNamespace\n__version__ = '2.11.0'\nversion = SimpleNamespace(cuda='13.0')\n"
        "def init(): raise RuntimeError('The NVIDIA driver on your system is too old (found version 12020).')\n"
        "cuda = SimpleNamespace(init=init)\n"
    )
    (tmp_path / "nvidia-smi").write_text(
        '#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: NVIDIA H100 (UUID: GPU-1)" && exit\n'
        'echo "535.1, 1980 MHz, 345 MHz, 700 W, 30, 80 GB"\n'
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    command = [sys.executable, "-m", "gpu_day", "--day", str(tmp_path / "day"), "--minutes", "1"]
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    step = record.read(tmp_path / "day")["a"]

    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert "torch 2.11.0 is built for CUDA 13.0, and driver 535.1 is too old for it: update" in done.stderr
    assert ("failed", "1980 MHz") == (step.status, step.trials[0].facts["clocks.max.sm"])


def test_a_driver_that_is_too_old_for_torch_is_told_with_both_versions() -> None:
    """As torch says it, and anything else that torch says of a GPU it cannot use."""
    facts = {"torch": "2.13.0", "CUDA of torch": "13.0", "driver_version": "535.309.01"}
    old = machine.why_no_gpu("RuntimeError: The NVIDIA driver on your system is too old (found version 12020).", facts)
    other = machine.why_no_gpu("RuntimeError: CUDA unknown error", facts)

    assert "torch 2.13.0 is built for CUDA 13.0, and driver 535.309.01 is too old for it: update the driver" in old
    assert "torch cannot use the GPU (RuntimeError: CUDA unknown error): compare nvidia-smi" in other


def test_a_gpu_that_another_uses_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says who, and how to do without a lease."""
    fake = Machine(tmp_path)
    fake.gpu("GPU-1")
    fake.process(42, "python train.py")
    fake.runs("GPU-1", 42)
    policy = partial(lease.LeasePolicy, sysfs=fake.sysfs, proc=fake.proc, interval_s=0.01, poll_s=0.01)
    monkeypatch.setattr(lease, "LeasePolicy", policy)
    expected = r"GPU-1 is taken: root's python train.py \(pid 42\).*--no-lease"
    with pytest.raises(TrialFailedError, match=expected), leased("gpu", wait_s=0):
        pass
    fake.runs("GPU-1")
    with leased("gpu", wait_s=0) as device:
        assert device is not None
        assert ("GPU-1", "GPU-1") == (device.uuid, os.environ["CUDA_VISIBLE_DEVICES"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


def test_clocks_power_and_neighbours_are_watched(tmp_path: Path) -> None:
    """Means and worst; a process that is not one of ours counts as another's, ours and those of no name here do not."""
    fake = Machine(tmp_path)
    fake.gpu("GPU-1", clock=1000, draws=300, heat=40, throttled=4)
    device = gpu.devices(fake.sysfs)[0]
    fake.runs("GPU-1", os.getpid(), 4_000_000)
    with Watch(device, every_s=0.05) as watch:
        time.sleep(0.5)
        ours = watch.conditions()
        fake.gpu("GPU-1", clock=2000, draws=500, heat=60, throttled=0)
        fake.runs("GPU-1", 1)
        time.sleep(0.5)
    seen = watch.conditions()

    assert Conditions(sm_clock_mhz=1000, power_w=300, temperature_c=40, throttled=("power cap",)) == ours
    assert seen.sm_clock_mhz is not None
    assert 1000 < seen.sm_clock_mhz < 2000
    assert 60 == seen.temperature_c
    assert "(pid 1)" in seen.contended_by


def test_a_gpu_that_tells_nothing_leaves_figures_out(tmp_path: Path) -> None:
    """None, never 0."""
    fake = Machine(tmp_path)
    fake.gpu("GPU-1")
    with Watch(gpu.devices(fake.sysfs)[0], every_s=0.05) as watch:
        time.sleep(0.3)

    assert Conditions() == watch.conditions()


def test_the_memory_of_a_training_is_that_of_all_its_processes() -> None:
    """Its children's too, as their control group would count it."""
    child = "held = bytearray(60_000_000)\nprint(flush=True)\nimport time; time.sleep(60)"
    source = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = memory_mb(process.pid)
        os.killpg(process.pid, signal.SIGKILL)

    assert 60 < held < 200


def test_a_killed_day_takes_its_training_with_it() -> None:
    """Whatever killed it; nothing is left on the GPU."""
    source = (
        "import subprocess, sys, time\nfrom gpu_day.direct import program\n"
        "child = subprocess.Popen(program('import time; print(flush=True); time.sleep(60)'), stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = Path("/proc", process.stdout.readline().decode().strip())
        assert child.exists()
        process.kill()
    deadline = time.monotonic() + 10
    while child.exists() and "\nState:\tZ" not in (child / "status").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert time.monotonic() < deadline


def test_upstreams_summary_is_read_as_it_prints_it() -> None:
    """Its speed is that of the steps it counts; the number that compares is its model's on our rows."""
    output = (
        "step 00001 | loss: 9.0\n---\nval_bpb:          0.997900\ntraining_seconds: 300.1\ntotal_tokens_M:   499.6\n"
        "num_steps:        953\nmfu_percent:      39.80\npeak_vram_mb:     45060.2\nsame_rows_bpb: 1.012345\n"
    )
    found = day.of_upstream(output)

    assert (1.012345, 0.9979, 39.8) == (found["val_bpb"], found["own_val_bpb"], found["mfu_percent"])
    assert 1e6 * 499.6 * (953 - 11) / 953 / 300.1 == pytest.approx(found["tokens_per_second"], rel=1e-4)
    with pytest.raises(TrialFailedError, match="was not evaluated"):
        day.of_upstream(output.replace("same_rows_bpb", "x"))


def test_sharing_is_seen_in_what_the_loops_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loops of which the second waits, and a process that the first notices; all of them are ended."""
    says = {
        "first": "import pathlib, time\nprint('container.started role=trainer', flush=True)\n"
        "while not pathlib.Path('on').exists(): time.sleep(0.05)\nprint('device.contended by=bob', flush=True)\n"
        "time.sleep(60)",
        "second": "import time\nprint('GPU-1 is taken: by the first', flush=True)\ntime.sleep(60)",
    }
    monkeypatch.setattr(contained, "ROOT", tmp_path)

    def loop(tag: str) -> list[str]:
        return [sys.executable, "-c", says[tag]]

    trial = contained.shared(tmp_path, ["touch", "on"], loop)

    assert {"second loop": "GPU-1 is taken: by the first", "first loop": "device.contended by=bob"} == trial.facts
    monkeypatch.setattr(contained, "SEEN_S", 1.0)
    with pytest.raises(TrialFailedError, match="not seen within 1 s: the second loop waits for the GPU; it last said"):
        contained.shared(tmp_path, ["true"], lambda _: [sys.executable, "-c", says["first"]])


def test_a_check_of_the_product_is_told_by_its_last_line() -> None:
    """With the number in it; one that fails has no result."""
    trial = contained.command("walls", ["json.tool", "--help"], 20.0)
    with pytest.raises(TrialFailedError, match="ended with exit code 1"):
        contained.command("walls", ["no_such_module"], 20.0)

    assert trial.facts["last line"]
    assert {} == trial.figures


def test_minutes_of_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a folder that cannot be written is named."""
    monkeypatch.setattr(sys, "argv", ["gpu_day", "--minutes", "0"])
    with pytest.raises(SystemExit):
        asked()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["gpu_day", "--day", str(tmp_path / "file")])
    with pytest.raises(DayEndedError, match="file: File exists: name a folder that can be written with DAY="):
        run(asked())


def test_a_step_file_is_plain_json(today: Day) -> None:
    """For any other program."""
    day.go(today, (plan(measures(1.5)),), HARDWARE)
    found = json.loads((today.folder / "b-smoke.json").read_text())

    assert ("b", "done", HARDWARE, 1.5) == (
        found["letter"], found["status"], found["hardware"], found["trials"][0]["figures"]["val_bpb"],
    )  # fmt: skip


def test_what_step_g_runs_takes_its_words(tmp_path: Path) -> None:
    """The loop's command line by its own parser, the checks by theirs."""
    _, module, name, *words = contained.loop_command(tmp_path, "first")[1:]
    get_group(app).commands[name].make_context(name, words)

    assert "orchestrator" == module
    for check in (["benchmarks.overhead", "2", "60", "--profile", "gpu"], ["attacks.walls", "gpu"]):
        command = [sys.executable, "-m", *check, "--help"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
