"""What the prompt tells of each experiment: numbers of its training, its difference to its parent, what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.propose.diagnostics import Diagnostics, parse_diagnostics, read_diagnostics
from orchestrator.propose.history import rank_near_misses, select_history
from orchestrator.propose.tell import DIFF_CHARS, Teller, tell_diff
from orchestrator.record.journal import Journal
from orchestrator.types import Experiment, MachineLoad, Memory, Status
from tests.propose.test_prompt import builder, context, titles
from tests.support.journals import finish, kept

LOG = "".join(
    f"[{s:9.3f} out] step {19 * s} | loss {5 - s / 10:.4f} | 38,394 tok/s | 2.0s left\n" for s in range(1, 24)
)
LOG += """[   23.084 out] ---
[   23.084 out] train_bpb:        1.946314
[   23.084 out] startup_seconds:  2.0
[   23.084 out] tokens_per_second: 35943
[   23.084 out] num_steps:        440
"""


def discarded(number: int, value: float | None, parent: int, folder: Path = Path("gone"), **more: object) -> Experiment:
    """A discarded child."""
    return kept(value or 0.0, id=number, parent_id=parent, status=Status.DISCARD, folder=folder, **more)


def test_numbers_are_read_from_a_log() -> None:
    """With time stamps or without; ten points of the loss, the first and the last among them."""
    found = parse_diagnostics(LOG)

    assert (440, 35943.0, 2.0, "1.95") == (found.steps, found.tokens_per_second, found.startup_s, found.final)
    assert (10, "4.90", "2.70") == (len(found.curve), found.curve[0], found.curve[-1])
    assert "440 steps, 35,943 tokens/s, 2.0 s start-up, train loss 2.70" == found.line()
    assert found.curve_line().startswith("train loss 4.90 → 4.70 → ")


@pytest.mark.parametrize("text", ["", "\x00\xff", "step x | loss y\nnum_steps: many\n", "loss 3.0\n", "step 1\n"])
def test_a_log_without_numbers_tells_nothing(text: str) -> None:
    """Nor does one that was cleaned up."""
    assert "" == parse_diagnostics(text).line() == parse_diagnostics(text).curve_line()
    assert Diagnostics() == read_diagnostics(Path("gone") / "trainer.log")


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    """It is the most telling of all."""
    assert "3 steps, train loss nan" == parse_diagnostics("step 1 | loss 3.1\nstep 3 | loss nan\n").line()


def test_a_long_log_is_read_at_both_ends(tmp_path: Path) -> None:
    """A gigabyte of anything between them costs nothing."""
    path = tmp_path / "trainer.log"
    with path.open("wb") as file:
        file.write(b"step 1 | loss 9.0\n")
        file.truncate(2**30)
        file.seek(0, 2)
        file.write(b"\nstep 7 | loss 1.0\n")

    assert (7, ("9.00", "1.00")) == (read_diagnostics(path).steps, read_diagnostics(path).curve)


def test_an_outcome_is_one_line(tmp_path: Path) -> None:
    """Score by the digits that mean something, difference to the parent with its error, numbers, what was expected."""
    (tmp_path / "trainer.log").write_text(LOG)
    parent = kept(2.0, id=3, repeat_scores=(1.99, 2.01))
    e = discarded(5, 2.0123456, 3, tmp_path, hypothesis="wider", expected_effect="1.95,\nmore memory",
                  peak_memory_bytes=400 << 20)  # fmt: skip
    told = Teller(parents={3: parent}, trial_std=0.01)

    assert (
        "- 5: 2.012 discard: wider [+0.012 ± 0.012 against its parent 3 (2.000); 440 steps, 35,943 tokens/s, 2.0 s"
        " start-up, train loss 2.70; 400 MB; expected: 1.95, more memory]"
    ) == told.outcome(e)
    assert "- 3: 2.000 (mean of 2 trials: 1.990, 2.010) kept: baseline" == told.outcome(parent)
    assert "parent 3 (2.000); a gain with probability 0.31; 440 steps" in told.outcome(replace(e, sure=0.312))
    assert "parent 3 (2.000); estimated gain 0.0037 with probability 0.42; 440" in told.outcome(
        replace(e, sure=0.421, gain=0.00371)
    )


def test_without_a_known_noise_nothing_is_claimed_about_an_error() -> None:
    """Nor about a parent that is unknown."""
    told = Teller(parents={3: kept(2.0, id=3)}, trial_std=None)

    assert "- 5: 2.100000 discard: h [+0.100000 against its parent 3 (2.000000)]" == told.outcome(
        discarded(5, 2.1, 3, hypothesis="h")
    )
    assert "- 6: 2.100000 discard: h [parent 4]" == told.outcome(discarded(6, 2.1, 4, hypothesis="h"))


def test_near_misses_are_ranked_by_what_they_lost_to_their_own_parent() -> None:
    """A small loss on a poor file is nearer than a large one on a good file, though its score is worse."""
    parents = {0: kept(3.0), 9: kept(1.0, id=9)}
    far, near, gain = discarded(10, 1.5, 9), discarded(1, 3.01, 0), discarded(2, 2.99, 0)
    unknown = discarded(11, 0.5, 77)

    assert (gain, near, far, unknown) == rank_near_misses([far, unknown, near, gain], parents)


def test_what_the_nearest_misses_changed_is_shown(tmp_path: Path) -> None:
    """As data, bounded, so that they can be combined or continued."""
    (tmp_path / "patch.diff").write_text(
        "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-LR = 0.02\n+LR = 0.03\n```\n" + "+x\n" * 9999
    )
    e = discarded(5, 2.1, 3, tmp_path)
    prompt = builder(tmp_path).build(context(Memory(near_misses=(e,), parents={3: kept(2.0, id=3)})))
    (block,) = [block.text for block in prompt.blocks if block.title == "Changes of the nearest misses"]

    assert block.startswith("Experiment 5:\n````diff\n@@ -1 +1 @@\n-LR = 0.02\n+LR = 0.03\n")
    assert len(block) < DIFF_CHARS + 200
    assert "" == tell_diff(discarded(6, 2.1, 3))


def test_no_number_is_missing_without_a_word(tmp_path: Path) -> None:
    """What is owed again and what only ran again are listed as such."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0, folder=tmp_path / "0000"))
        finish(
            journal, kept(0.0, id=1, score=None, status=Status.CONTENDED, hypothesis="deeper", folder=tmp_path / "1")
        )
        finish(
            journal, kept(2.02, id=2, status=Status.DISCARD, remeasures_id=0, parent_id=None, folder=tmp_path / "0002")
        )
        finish(journal, discarded(3, 2.1, 0, tmp_path / "0003"))
        best = journal.champion()
        assert best is not None
        memory = select_history(journal, best)
    prompt = builder(tmp_path).build(context(memory))

    assert "Not judged yet, and remeasurements" in titles(prompt)
    assert "Numbers that are not listed are attempts that could not be judged, repeats of kept" in prompt.text
    assert "- 1: not judged (contended), will be rerun: deeper" in prompt.text
    assert "- 2: experiment 0 remeasured: 2.020000" in prompt.text
    assert 1 == prompt.text.count("- 3: 2.100000 discard: baseline [+0.090000 against its parent 0 (2.010000)]")
    assert "The latest experiments, oldest first\n\n- 0: kept, see above\n- 3: discard, see above" in (prompt.text)


def test_the_minutes_left_are_those_of_this_session(tmp_path: Path) -> None:
    """Whatever devices were used for before, and how many of them."""
    assert "17 minutes left" in builder(tmp_path).build(context(Memory(), hours_left=17.2 / 60)).text
    assert "minutes left" not in builder(tmp_path).build(context(Memory())).text


@pytest.mark.parametrize(
    ("others_cpu_s", "expected"),
    [
        (12.0, "others used 30% of the processors, waited 20% of its time for a processor"),
        (2.0, None),  # what is usual anywhere
        (None, None),
    ],
)
def test_a_busy_machine_is_told_beside_the_score(others_cpu_s: float | None, expected: str | None) -> None:
    """A score from a busy minute is read as such; a quiet one needs no word."""
    load = MachineLoad(duration_s=20.0, cpus=2, waited_s=5.0, cpu_s=20.0, others_cpu_s=others_cpu_s)
    line = Teller(parents={}, trial_std=None).outcome(discarded(3, 2.1, 0, loads=(load,)))

    assert (expected in line) if expected else ("others" not in line)
