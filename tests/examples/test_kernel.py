"""The judge of examples/kernel: its questions, what counts as right, and the statistics of its times."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import problem
import pytest
import reference
import timing

KERNEL = Path(__file__).parents[2] / "examples" / "kernel"
DRAFTS = sorted((KERNEL / "drafts").glob("*.py"))
SEED = list(range(32))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def question(kind: str = "uniform", number: int = 0) -> problem.Question:
    return problem.draw(np.random.default_rng([number, *SEED]), kind)


def fault(module: ModuleType, kind: str) -> str:
    asked = problem.decode(problem.encode(question(kind)))
    expected = reference.nearest(asked.points, asked.queries).tobytes()
    return problem.find_fault(module.nearest(asked.points, asked.queries).tobytes(), expected)


# questions and answers


def test_a_question_comes_back_as_it_was_sent() -> None:
    """Bit for bit, and read-only, so that an answer cannot depend on inputs that were changed."""
    asked = question()
    got = problem.decode(problem.encode(asked))

    assert np.array_equal(asked.points, got.points) and np.array_equal(asked.queries, got.queries)
    assert not got.points.flags.writeable and not got.queries.flags.writeable
    assert 8 * len(asked.queries) == asked.answer_bytes


def test_every_question_is_new() -> None:
    """Another number, other sizes and values; the same number, the same question."""
    assert problem.encode(question(number=1)) != problem.encode(question(number=2))
    assert problem.encode(question(number=1)) == problem.encode(question(number=1))
    assert len({question(number=number).points.shape for number in range(10)}) > 5


@pytest.mark.parametrize("kind", problem.KINDS)
def test_the_reference_is_right(kind: str) -> None:
    """Beside the definition, for every kind of input."""
    asked = question(kind)
    expected = [min(np.linalg.norm(asked.points - query, axis=1)) for query in asked.queries[:20]]

    assert pytest.approx(expected, abs=1e-12) == reference.nearest(asked.points, asked.queries)[:20]


@pytest.mark.parametrize("kind", problem.KINDS)
def test_no_query_is_nearer_than_the_tolerance_allows_for(kind: str) -> None:
    """1e-4: there a product of matrices in float64 is right to 1e-9."""
    asked = question(kind)

    assert reference.nearest(asked.points, asked.queries).min() > 1e-4


@pytest.mark.parametrize("kind", problem.KINDS)
def test_the_baseline_and_the_honest_drafts_are_right(kind: str) -> None:
    """A product of matrices too."""
    for path in (KERNEL / "mutable" / "kernel.py", DRAFTS[0], DRAFTS[2], DRAFTS[4]):
        assert "" == fault(load(path), kind)


@pytest.mark.parametrize("kind", problem.KINDS)
def test_single_precision_is_found(kind: str) -> None:
    """The draft that computes in float32 is refused for every kind of input."""
    assert "a distance is off by more than 1e-09" == fault(load(DRAFTS[1]), kind)


def test_a_draft_that_writes_into_its_inputs_fails() -> None:
    """They are read-only in the program that asks it."""
    with pytest.raises(ValueError, match="read-only"):
        fault(load(DRAFTS[3]), "uniform")


def test_an_answer_that_is_no_number_is_found() -> None:
    """NaN compares with nothing."""
    right = np.ones(3)

    assert "" == problem.find_fault(right.tobytes(), right.tobytes())
    assert "a distance is not a finite number" == problem.find_fault(
        np.array([1, np.nan, 1]).tobytes(), right.tobytes()
    )
    assert problem.find_fault((right + 2e-9).tobytes(), right.tobytes())
    assert "" == problem.find_fault((right + 5e-10).tobytes(), right.tobytes())


# times


def times(count: int, median: float, spread: float = 0.1, seed: int = 1) -> np.ndarray:
    return median * np.exp(np.random.default_rng(seed).normal(0, spread, count))


ALONE = (times(10, 0.1, seed=3), times(10, 0.1, seed=4))  # of the reference, before and after


def test_the_ratio_of_equal_programs_is_one() -> None:
    """Within its interval."""
    found = timing.compare(times(30, 0.1), times(30, 0.1, seed=2), *ALONE, SEED)

    assert found.low < 1 < found.high
    assert 0 < found.standard_error < 0.05
    assert 1 == found.slowdown


def test_a_program_that_takes_half_as_long_has_half_the_ratio() -> None:
    """And its interval is far from 1."""
    found = timing.compare(times(30, 0.05), times(30, 0.1, seed=2), *ALONE, SEED)

    assert pytest.approx(0.5, rel=0.1) == found.value
    assert found.high < 0.6


def test_what_slows_both_of_a_pair_moves_nothing() -> None:
    """The machine drifts by a factor of three within the turns; the ratio stays, since it is the same in each pair."""
    drift = np.linspace(1, 3, 20)
    found = timing.compare(0.05 * drift, 0.1 * drift, times(10, 0.1), times(10, 0.3), SEED)

    assert pytest.approx(0.5) == found.value / found.slowdown


def test_a_few_spoiled_pairs_move_little() -> None:
    """Three of 20 took ten times as long."""
    candidate = times(20, 0.05)
    candidate[:3] *= 10
    found = timing.compare(candidate, times(20, 0.1, seed=2), *ALONE, SEED)

    assert pytest.approx(0.5, rel=0.15) == found.value


def test_a_reference_that_is_slow_beside_the_candidate_only_gains_it_nothing() -> None:
    """The ratio is raised by what is certain of the slowdown."""
    fair = timing.compare(times(30, 0.1), times(30, 0.1, seed=2), *ALONE, SEED)
    burning = timing.compare(times(30, 0.1), times(30, 0.2, seed=2), *ALONE, SEED)

    assert burning.slowdown > 1.7
    assert burning.value > 0.85 * fair.value


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.2), (0.2, 0.1)])
def test_others_who_come_or_leave_raise_no_ratio(before: float, after: float) -> None:
    """The reference was as slow alone, at one of both times, as it is beside the candidate."""
    found = timing.compare(
        times(30, 0.1), times(30, 0.2, seed=2), times(10, before, seed=3), times(10, after, seed=4), SEED
    )

    assert found.slowdown < 1.1
    assert pytest.approx(0.5, rel=0.1) == found.value


def test_the_same_times_and_seed_give_the_same_ratio() -> None:
    """No other chance than the seed's."""
    parts = times(20, 0.05), times(20, 0.1, seed=2), *ALONE

    assert timing.compare(*parts, SEED) == timing.compare(*parts, SEED)


@pytest.mark.parametrize(
    "bad", [([0.1], [0.1], [0.1, 0.1]), ([0.1, 0.0], [0.1, 0.1], [0.1, 0.1]), ([0.1] * 2, [0.1] * 3, [0.1] * 2)]
)
def test_too_few_or_impossible_times_are_refused(bad: tuple[list[float], list[float], list[float]]) -> None:
    """No ratio is made up."""
    with pytest.raises(ValueError, match="at least two pairs"):
        timing.compare(*bad, [0.1] * 2, SEED)
    with pytest.raises(ValueError, match="two times of the reference alone"):
        timing.compare([0.1] * 2, [0.1] * 2, [0.1] * 2, [0.1], SEED)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """About 95 of 100 times."""
    held = 0
    for seed in range(200):
        found = timing.compare(
            times(20, 0.05, seed=3 * seed), times(20, 0.1, seed=3 * seed + 1), [0.2, 0.2], [0.2, 0.2], SEED
        )
        held += found.low <= 0.5 <= found.high

    assert 180 <= held <= 200
