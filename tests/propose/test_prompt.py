"""The prompt: bounded, in a stable order, read from program.md each time."""

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.errors import ConfigError
from orchestrator.propose import similarity
from orchestrator.propose.prompt import HISTORY_TOKENS, Prompt, PromptBuilder
from orchestrator.propose.token_count import counter, guess
from orchestrator.settings import Limits
from orchestrator.types import Context, Experiment, Memory, Spent, Status, Usage
from tests.support.journals import champion, kept

ROOT = Path(__file__).parents[2]


def builder(tmp_path: Path, **changes: object) -> PromptBuilder:
    """For a task of two files."""
    (tmp_path / "program.md").write_text("Find a lower val_bpb.\n")
    (tmp_path / "prepare.py").write_text("TIME_BUDGET = 1\n")
    values: dict[str, object] = {
        "instructions": tmp_path / "program.md", "prepare": tmp_path / "prepare.py", "facts": {"hardware": "two cores"},
        "limits": Limits(max_usd=5.0), "count": guess, "stagnation_after": 4,
    }  # fmt: skip
    return PromptBuilder(**(values | changes))  # type: ignore[arg-type]


def context(memory: Memory, **changes: object) -> Context:
    """A turn with a memory."""
    values = {
        "experiment_id": 9, "experiments_left": 92, "champion": champion(1.0, id=3),
        "champion_source": "LR = 0.02\n", "history": [], "memory": memory,
        "spent": Spent(experiments=8, usage=Usage(cost_usd=1.25)),
    }  # fmt: skip
    return Context(**(values | changes))  # type: ignore[arg-type]


def many(status: Status, count: int, **changes: object) -> tuple[Experiment, ...]:
    """Experiments with long words."""
    return tuple(
        kept(2.0, id=n, status=status, hypothesis=f"idea {n} " + "words " * 200, **changes) for n in range(count)
    )


def titles(prompt: Prompt) -> list[str]:
    """Of its parts."""
    return [block.title for block in prompt.blocks]


def test_what_was_tried_is_told_in_order(tmp_path: Path) -> None:
    """Kept, near misses, failures, the latest, the last crash, then what is particular to now."""
    crash = kept(0.0, id=8, status=Status.CRASH, score=None, message="ended with exit code 1\nTraceback\nKeyError: 1")
    memory = Memory(
        kept=(kept(1.1, hypothesis="baseline"),),
        near_misses=(kept(1.01, id=5, status=Status.DISCARD, hypothesis="wider"),),
        failures=(crash,),
        recent=(crash,),
        since_improvement=1,
    )
    prompt = builder(tmp_path).build(context(memory, in_flight=("deeper",)))

    assert [
        "Task",
        "How to answer",
        "The human's instructions (program.md)",
        "What train.py can import (prepare.py, read-only)",
        "The best train.py so far",
        "Kept: every improvement so far, oldest first",
        "Near misses: discarded, the closest to their own parent first",
        "Failures, newest first",
        "The latest experiments, oldest first",
        "End of the output of the last experiment, 8 (crash)",
        "Now",
    ] == titles(prompt)
    assert "- 5: 1.010000 discard: wider" in prompt.text
    assert "(ended with exit code 1 … KeyError: 1)" in prompt.text
    assert "- deeper" in prompt.text
    assert "8 experiments judged so far, 92 left in this session, $3.75 left for proposals" in prompt.text
    assert "two cores" in prompt.text


def test_measured_noise_says_what_a_gain_must_be(tmp_path: Path) -> None:
    """The spread of single runs, what luck may explain against the best's mean, and the metric by the task's name."""
    best = champion(1.0, id=3, repeat_scores=(0.99, 1.01))
    build = builder(tmp_path, metric="val_rmse")
    now = context(Memory(), champion=best, seed_std=0.01, trial_std=0.01, smallest_gain=0.0241, hardware="one core")
    text = build.build(now).text
    busy = build.build(replace(now, trial_std=0.31)).text

    assert "Repeated trials of one file differ by about 0.01 in val_rmse from the seed (standard deviations)." in text
    assert "0.01 in val_rmse from the seed, and by 0.31 with what else the machine does (standard deviations)." in busy
    assert "a gain below about 0.024 cannot be shown here in one night" in text
    assert "Experiment 3, val_rmse 1.000 (mean of 2 trials: 0.990, 1.010)" in text
    assert "hardware: one core" in text
    assert "val_bpb" not in text.replace("Find a lower val_bpb.", "")


def test_the_history_is_bounded_in_the_apis_tokens(tmp_path: Path) -> None:
    """Once the API has told that it counts twice as many tokens as we do, half as much history is told."""
    full = Memory(near_misses=many(Status.DISCARD, 200))
    build = builder(tmp_path)
    before = len(build.build(context(full)).blocks[5].text)
    build.learn(1000, 2000)
    halved = len(build.build(context(full)).blocks[5].text)
    build.learn(1000, 0)

    assert 0.4 < halved / before < 0.6
    assert 0.25 == build.api_ratio


def test_its_size_is_bounded_whatever_is_remembered(tmp_path: Path) -> None:
    """Long hypotheses, long messages, many of each: the history keeps to its share, the newest kept ones first."""
    full = Memory(
        kept=many(Status.KEEP, 200),
        near_misses=many(Status.DISCARD, 200),
        failures=many(Status.CRASH, 200, message="x" * 10**6),
        recent=many(Status.CRASH, 200, message="x" * 10**6),
    )
    build = builder(tmp_path)
    empty = guess(build.build(context(Memory())).text)
    prompt = build.build(context(full))

    assert guess(prompt.text) - empty < HISTORY_TOKENS + 1500
    assert "- 199: 2.000000 kept: idea 199 words" in prompt.text


def test_editing_program_md_steers_a_running_loop(tmp_path: Path) -> None:
    """It is read again for each proposal; while it is empty the last good one holds."""
    build = builder(tmp_path)
    build.check()
    (tmp_path / "program.md").write_text("Think about depth.\n")
    assert "Think about depth." in build.build(context(Memory())).text

    (tmp_path / "program.md").write_text("")
    with capture_logs() as logs:
        assert "Think about depth." in build.build(context(Memory())).text
    assert ["instructions.unusable"] == [entry["event"] for entry in logs]


def test_instructions_that_fit_no_prompt_are_refused(tmp_path: Path) -> None:
    """With the number of tokens and the fix."""
    build = builder(tmp_path)
    (tmp_path / "program.md").write_text("word " * 40_000)
    with pytest.raises(ConfigError, match=r"program\.md: has 66667 tokens, at most 16000 .* shorten it"):
        build.check()


def test_after_a_stagnation_another_kind_of_idea_is_asked_for(tmp_path: Path) -> None:
    """Then, every second time, with another kept file to start from; before, nothing of it."""
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "train.py").write_text("LR = 0.7\n")
    ancestors = (kept(1.2, id=1, folder=tmp_path / "0001"), kept(1.0, id=3))
    texts = [
        builder(tmp_path).build(context(Memory(kept=ancestors, since_improvement=since))).blocks[-1].text
        for since in (3, 4, 5, 6)
    ]

    assert ["different kind" in text for text in texts] == [False, True, True, True]
    assert ["set parent_id to 1" in text and "LR = 0.7" in text for text in texts] == [False, False, True, False]
    assert len(set(texts[1:])) == 3


def test_the_best_file_is_shown_byte_for_byte(tmp_path: Path) -> None:
    """Edits are searched in it, so nothing of it is cleaned or cut, and its own fences do not end it."""
    source = 'X = """\n```\n````\n"""  # \u00e9\t\x0c\n' + "y = 1\n" * 20_000
    block = builder(tmp_path).build(context(Memory(), champion_source=source)).blocks[4]

    assert source.rstrip("\n") in block.text
    assert "`````python\n" in block.text
    assert block.cached


def test_the_end_of_what_the_best_printed_is_shown(tmp_path: Path) -> None:
    """From its log, bounded and fenced."""
    (tmp_path / "0003").mkdir()
    (tmp_path / "0003" / "trainer.log").write_text("x" * 10_000 + "\nnum_steps: 512\n")
    text = (
        builder(tmp_path)
        .build(context(Memory(), champion=champion(1.0, id=3, folder=tmp_path / "0003")))
        .blocks[4]
        .text
    )

    assert "num_steps: 512" in text
    assert len(text) < 3000


def test_tokens_are_counted_by_the_tasks_own_encoding(tmp_path: Path) -> None:
    """Without prepared data, by a guess that is rather too high."""
    assert counter(tmp_path) is guess
    assert 4 == guess("twelve bytes")
    (tmp_path / "tokenizer.json").write_text('{"pattern": "\\\\w+|\\\\W+", "tokens": ["YQ==", "Yg==", "YWI="]}')

    assert 3 == counter(tmp_path)("abab" + "a")


@pytest.mark.parametrize(
    ("other", "close"),
    [
        ("-LR = 0.02\n+LR = 0.0305\n", True),
        ("-LR = 0.02  # a comment\n+LR = 0.03  # another\n", True),
        ("-LR = 0.02\n+LR = 0.06\n", False),
        ("-DECAY = 0.02\n+DECAY = 0.03\n", False),
        ("+LR = 0.02\n-LR = 0.03\n", False),
        ("", False),
    ],
)
def test_closeness_is_about_what_changes(other: str, *, close: bool) -> None:
    """Numbers within a tenth are the same, comments are nothing, the other way round is another change."""
    diff = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-LR = 0.02\n+LR = 0.03\n"

    assert close == (similarity.compare(diff, other) >= similarity.CLOSE)
