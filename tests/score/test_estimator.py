"""The arithmetic of an L2 score, by simulation: bias, false refusals, and the chance to catch a lie."""

import estimator
import numpy as np
import pytest

ROWS, WIDTH, BYTES = 256, 128, 100_000
SMALL_K, LARGE_K = 256, 4096  # the cpu profile's
EXACT = estimator.Thresholds(cap_nats=0.01, floor_nats=0.0002)
TARGET_BPB = 0.001  # what the liars want to gain
BITS_PER_NAT = 1 / np.log(2)


def truth(generator: np.random.Generator) -> np.ndarray:
    """True log-probabilities [N, T] of a small model."""
    return -generator.gamma(2.0, 1.0, size=(ROWS, WIDTH))


def audited(true: np.ndarray, positions: np.ndarray, generator: np.random.Generator, noise: float) -> np.ndarray:
    """What predictor B answers honestly, up to float noise."""
    return true[positions[:, 0], positions[:, 1]] + generator.normal(0, noise, len(positions))


def seed_of(number: int) -> bytes:
    """A fixed audit seed per trial."""
    return number.to_bytes(32, "big")


def lies(shape: str, true: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Claims that are better than the truth by TARGET_BPB over the whole set, in one of four shapes."""
    nats = TARGET_BPB * BYTES / BITS_PER_NAT
    gain = np.zeros(true.size)
    if shape == "everywhere":
        gain[:] = nats / true.size
    elif shape == "a tenth":
        gain[generator.choice(true.size, true.size // 10, replace=False)] = nats / (true.size // 10)
    elif shape == "late in the row":
        late = np.zeros(true.shape, bool)
        late[:, -8:] = True
        gain[late.ravel()] = nats / late.sum()
    else:  # a few large ones
        gain[generator.choice(true.size, 40, replace=False)] = nats / 40
    return true + gain.reshape(true.shape)


def test_log_softmax_is_right_for_huge_logits() -> None:
    """Logits of ±1e4 neither overflow nor lose the answer."""
    logits = np.array([[1e4, 1e4, -1e4]], dtype=np.float32)

    assert np.log(0.5) == pytest.approx(estimator.log_softmax_at(logits, np.array([0]))[0])


def test_a_bonus_on_the_target_logit_is_normalised_away() -> None:
    """Unnormalised scores cannot add up to more than one."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 64)) * 5

    total = sum(np.exp(estimator.log_softmax_at(logits, np.full(50, token))) for token in range(64))

    assert total == pytest.approx(np.ones(50))


def test_no_round_holds_a_row_twice_and_prefixes_grow() -> None:
    """Within a round rows differ; over the rounds each row's positions strictly increase; nothing is lost."""
    positions = estimator.draw(np.ones((16, WIDTH), bool), 700, seed_of(1))
    rounds = list(estimator.rounds(positions))

    assert sorted(map(tuple, positions)) == sorted(map(tuple, np.concatenate(rounds)))
    assert all(len(set(turn[:, 0])) == len(turn) for turn in rounds)
    last: dict[int, int] = {}
    for turn in rounds:
        for row, position in turn:
            assert position > last.get(row, -1)
            last[row] = position


def test_a_prefix_row_holds_nothing_but_the_prefix() -> None:
    """No token after the asked position reaches the predictor, and the shape stays whole."""
    rows = np.arange(4 * 129).reshape(4, 129)
    positions = np.array([[2, 0], [1, 5], [3, 127]])

    inputs = estimator.prefix_rows(rows, positions)

    assert inputs.shape == (3, 128)
    for (row, position), line in zip(positions, inputs, strict=True):
        assert rows[row, : position + 1].tolist() == line[: position + 1].tolist()
        assert set(line) <= set(rows[row, : position + 1])


def test_only_counted_positions_are_drawn_and_the_seed_decides() -> None:
    """BOS targets are never audited; the same seed draws the same positions."""
    counted = np.zeros((8, 16), bool)
    counted[3, 4:9] = True

    drawn = estimator.draw(counted, 4, seed_of(7))

    assert drawn.tolist() == estimator.draw(counted, 4, seed_of(7)).tolist()
    assert all(counted[row, position] for row, position in drawn)
    assert 5 == len(estimator.draw(counted, 99, seed_of(7)))


@pytest.mark.parametrize("k", [SMALL_K, LARGE_K])
def test_the_estimator_is_unbiased_even_for_liars(k: int) -> None:
    """Whatever is claimed, the mean score over many audits is the audited truth."""
    generator = np.random.default_rng(1)
    true = truth(generator)
    claims = lies("a few large ones", true, generator)
    counted = np.ones(true.shape, bool)
    expected = estimator.bits_per_byte(true, BYTES)
    scores = []
    for trial in range(400):
        positions = estimator.draw(counted, k, seed_of(trial))
        answer = audited(true, positions, generator, 1e-6)
        scores.append(estimator.estimate(claims, counted, positions, answer, BYTES).bpb)

    error = np.std(scores) / np.sqrt(len(scores))
    assert expected == pytest.approx(np.mean(scores), abs=4 * error)


@pytest.mark.parametrize("k", [SMALL_K, LARGE_K])
def test_honest_runs_are_never_refused(k: int) -> None:
    """200 honest runs with float noise: no false alarm."""
    generator = np.random.default_rng(2)
    true = truth(generator)
    counted = np.ones(true.shape, bool)
    reasons = []
    for trial in range(200):
        positions = estimator.draw(counted, k, seed_of(trial))
        claimed = audited(true, positions, generator, 2e-5)
        reasons.append(estimator.refusal(claimed, audited(true, positions, generator, 2e-5), EXACT))

    assert [""] * 200 == reasons


@pytest.mark.parametrize(
    ("shape", "k", "least"),
    [
        ("everywhere", SMALL_K, 1.0),
        ("a tenth", SMALL_K, 1.0),
        ("late in the row", SMALL_K, 0.99),
        ("a few large ones", SMALL_K, 0.15),
        ("everywhere", LARGE_K, 1.0),
        ("a tenth", LARGE_K, 1.0),
        ("late in the row", LARGE_K, 1.0),
        ("a few large ones", LARGE_K, 0.85),
    ],
)
def test_a_lie_of_a_thousandth_is_caught(shape: str, k: int, least: float) -> None:
    """The chance to refuse claims that are 0.001 bpb too good is at least what docs/scoring.md says."""
    generator = np.random.default_rng(3)
    true = truth(generator)
    counted = np.ones(true.shape, bool)
    caught = 0
    trials = 200
    for trial in range(trials):
        claims = lies(shape, true, generator)
        positions = estimator.draw(counted, k, seed_of(trial))
        claimed = claims[positions[:, 0], positions[:, 1]]
        caught += bool(estimator.refusal(claimed, audited(true, positions, generator, 1e-6), EXACT))

    assert least <= caught / trials


def test_a_number_that_is_none_is_refused() -> None:
    """NaN or inf in an audited answer is a refusal, not a score."""
    assert estimator.refusal(np.zeros(3), np.array([0.0, np.nan, 0.0]), EXACT)
    assert estimator.refusal(np.zeros(3), np.array([0.0, -np.inf, 0.0]), EXACT)


@pytest.mark.parametrize("k", [SMALL_K, LARGE_K])
def test_the_error_of_a_score_is_not_blind_to_what_was_not_asked(k: int) -> None:
    """It tells of a lie about so many of the hardest tokens that one audit in twenty sees none of them."""
    generator = np.random.default_rng(3)
    true = truth(generator)
    positions = estimator.draw(np.ones_like(true, dtype=bool), k, seed_of(0))
    values = audited(true, positions, generator, 0.0)
    found = estimator.estimate(true, np.ones_like(true, dtype=bool), positions, values, BYTES)
    tokens = round(found.unseen * BYTES / BITS_PER_NAT / -values.min())

    assert found.standard_error < 1e-12
    assert (1 - k / true.size) ** (tokens + 1) < 0.05 <= (1 - k / true.size) ** tokens


def test_nothing_can_hide_from_an_audit_of_everything() -> None:
    """Every position was asked."""
    true = truth(np.random.default_rng(3))
    positions = np.argwhere(np.ones_like(true, dtype=bool))

    assert 0.0 == estimator.estimate(true, true < 0, positions, true.ravel(), BYTES).unseen
