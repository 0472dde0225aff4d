"""The GPU part of docs/performance.md, and two settings of task.toml, are what the step files of docs/gpu-day say."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_day import record, report
from gpu_day.record import Conditions, DayEndedError, Step, Trial
from gpu_day.report import Fitted
from tests.support.boxes import ROOT

PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
TASK = (ROOT / "task.toml").read_text(encoding="utf-8")
GPU = tomllib.loads(TASK)["profile"]["gpu"]


def trial(name: str, budget_s: float = 300.0, **figures: float) -> Trial:
    """One of a GPU."""
    known = {"tokens_per_second": 1.5e6, "val_bpb": 1.0, "max_difference_nats": 0.1, "mean_difference_nats": -1e-4}
    known |= {"audited_positions": 512, "scoring_seconds": 9.0}
    seen = Conditions(sm_clock_mhz=1700, power_w=600, temperature_c=60, host_peak_mb=6000.0)
    return Trial(
        name=name, budget_s=budget_s, took_s=400.0, level="L2", figures=known | figures, conditions=seen,
        began_at="2026-11-27T00:00:00+00:00", facts={"attention": "its own kernel"} if name == "upstream" else {},
    )  # fmt: skip


def step(letter: str, *trials: Trial, status: record.Status = "done", reason: str = "") -> Step:
    """One of a GPU day."""
    return Step(
        letter=letter, title="step", profile="gpu", hardware="H100", status=status, reason=reason, trials=trials
    )


DAY = {
    "a": step("a", Trial(name="machine", facts={"Python": "3.12.3"}, began_at="2026-11-27T00:00:00+00:00")),
    "b": step("b", trial("smoke", 60.0, compile_seconds=41.0)),
    "c": step("c", trial("ours", scoring_seconds=41.0, audited_positions=32768, val_bpb=0.99)),
    "d": step("d", trial("upstream", tokens_per_second=1e6, val_bpb=1.02, own_val_bpb=1.03)),
    "e": step("e", *(trial(f"seed {n}", 45.0, val_bpb=1.2 + n / 100, tokens_per_second=1e6 + n) for n in range(6))),
    "f": step("f", trial("recurrent", max_difference_nats=0.2)),
    "g": step("g", status="skipped", reason="there is no docker command"),
}


def test_the_documentation_is_what_the_step_files_say() -> None:
    """Generated, never written by hand: `make gpu-report` would change nothing."""
    steps = record.read(report.MEASURED)

    assert PAGE == report.into(PAGE, report.render(steps))
    assert TASK == report.settle(TASK, report.fit(steps))


def test_without_step_files_the_documentation_says_so() -> None:
    """And settles nothing."""
    assert "no GPU figures here" in report.render({})
    assert Fitted(memory_gb=None, large_k=None) == report.fit({})


def test_every_figure_of_a_day_is_shown() -> None:
    """With what it compares with, and what is lacking."""
    text = report.render(DAY)

    for words in (
        "H100, Python 3.12.3, 2026-11-27", "compilation 41.0 s", "1,500,000 tokens/s, val_bpb 0.9900",
        "41.0 s, 13.7 % of the budget, with K = 32,768", "1.50 times its tokens/s, val_bpb 0.0300 lower",
        "its own number 1.0300", "noise: 6 trials of 45 s", "val_bpb 1.2250 ± 0.0187", "1700 to 1700 MHz",
        "honest answers differ by: recurrent | 2.0e-01 nat at most",
        "Not measured: (g) step: there is no docker command.",
    ):  # fmt: skip
        assert words in text, text


def test_a_day_that_was_cut_off_is_shown_as_far_as_it_got() -> None:
    """Whichever steps are there."""
    for letters in ("a", "ab", "ac", "ad", "cd", "efg"):
        assert report.render({letter: DAY[letter] for letter in letters}).startswith("| | |")


def test_k_is_what_scoring_has_time_for() -> None:
    """A twentieth of the budget: 15 s of 300, of which 8.5 s go to what every score takes."""
    small, large = trial("smoke"), trial("ours", scoring_seconds=41.0, audited_positions=32768)
    always = small.figures["scoring_seconds"] - 512 * 32 / 32256
    k = report.fitting_k(small, large)

    assert 4096 == k
    assert always + 4096 * 32 / 32256 <= 15 < always + 8192 * 32 / 32256
    assert 32768 == report.fitting_k(small, trial("ours", scoring_seconds=12.0, audited_positions=32768))
    assert 512 == report.fitting_k(small, trial("ours", scoring_seconds=900.0, audited_positions=32768))
    assert report.fitting_k(small, trial("ours")) is None


def test_memory_is_half_as_much_again_as_was_seen() -> None:
    """And never less than a small machine's; nothing where it was not seen."""
    unseen = replace(DAY["c"].trials[0], conditions=Conditions())

    assert Fitted(memory_gb=9, large_k=4096) == report.fit(DAY)
    assert report.fit({"c": step("c", unseen)}).memory_gb is None


def test_task_toml_gets_the_measured_settings_and_nothing_else() -> None:
    """Of the gpu profile; comments stay."""
    settled = report.settle(TASK, Fitted(memory_gb=9, large_k=4096))
    found = tomllib.loads(settled)

    assert (9.0, 4096) == (found["profile"]["gpu"]["memory_gb"], found["profile"]["gpu"]["large_k"])
    found["profile"]["gpu"] |= {"memory_gb": GPU["memory_gb"], "large_k": GPU["large_k"]}
    assert tomllib.loads(TASK) == found
    assert TASK.count("#") == settled.count("#")
    with pytest.raises(DayEndedError, match=r"\[profile.gpu\] has no large_k: add it, for the measured 4096"):
        report.settle(TASK.replace("large_k = 32768", ""), Fitted(memory_gb=9, large_k=4096))


def test_marks_that_are_gone_are_named() -> None:
    """The page is not written then."""
    for page in ("", f"{report.BEGIN}{report.BEGIN}{report.END}", report.BEGIN):
        with pytest.raises(DayEndedError, match="its two marks are not there once each"):
            report.into(page, "part")


def test_a_rehearsals_figures_never_get_into_the_documentation(tmp_path: Path) -> None:
    """Only a GPU's are copied."""
    (source := tmp_path / "source").mkdir()
    record.write(source, replace(DAY["b"], profile="cpu"))
    with pytest.raises(DayEndedError, match="holds a rehearsal"):
        report.copied(source, tmp_path / "target")
    record.write(source, DAY["b"])

    assert {"b": DAY["b"]} == report.copied(source, tmp_path / "target")
    assert {"b": DAY["b"]} == report.copied(tmp_path / "nowhere", tmp_path / "target")
