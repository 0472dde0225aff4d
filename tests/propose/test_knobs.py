"""The constants a sweep finds, what it may make of them, and the edits that say so."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator import patch
from orchestrator.edits import apply_edits
from orchestrator.propose import tunables as kn
from orchestrator.types import Proposal

ROOT = Path(__file__).parents[2]
SOURCE = """import prepare

if prepare.PROFILE == "cpu":
    DEPTH = 2  # layers
    MLP_RATIO = 4
    MODEL_DIM = 96
else:
    DEPTH = 8
    MLP_RATIO = 4
    MODEL_DIM = 512

if prepare.GPU:
    HIDDEN = 3
LR = 0.02
DECAY: float = 0.0
MOMENTUM = 0.95
BATCH_SIZE = 2048
USE_BIAS = False
NAME = "x"
lower = 3
TWICE = 1
TWICE = 2
WARMUP_SECONDS = 3.0
SEED = 7
NEGATIVE = -1.0
"""


def test_the_profile_decides_which_branch_counts() -> None:
    """Constants of the other branch, of other conditions, of other kinds and assigned twice are none."""
    expected = ["BATCH_SIZE", "DECAY", "DEPTH", "LR", "MLP_RATIO", "MODEL_DIM", "MOMENTUM", "USE_BIAS"]

    assert expected == sorted(kn.find_tunables(SOURCE, "cpu"))
    assert 2 == kn.find_tunables(SOURCE, "cpu")["DEPTH"].value
    assert 8 == kn.find_tunables(SOURCE, "gpu")["DEPTH"].value


def test_powers_of_two_stay_powers_of_two_and_dimensions_stay_divisible() -> None:
    """2048 becomes 512 to 8192; 96 stays a multiple of 32; small counts go one by one."""
    knobs = kn.find_tunables(SOURCE, "cpu")
    batch, dim, depth = knobs["BATCH_SIZE"], knobs["MODEL_DIM"], knobs["DEPTH"]

    assert [512, 1024, 2048, 4096, 8192] == [batch.to_value(n) for n in range(9, 14)]
    assert (9, 13) == (batch.distribution().low, batch.distribution().high)
    assert [32, 384] == [dim.to_value(n) for n in (dim.distribution().low, dim.distribution().high)]
    assert [1, 8] == [depth.to_value(n) for n in (depth.distribution().low, depth.distribution().high)]


def test_a_share_near_one_is_sought_by_its_distance_from_one() -> None:
    """0.95 becomes 0.8 to 0.9875, never 1 or more."""
    knob = kn.find_tunables(SOURCE, "cpu")["MOMENTUM"]

    assert [0.8, 0.988] == [knob.to_value(x) for x in (knob.distribution().high, knob.distribution().low)]


@given(st.sampled_from(sorted(kn.find_tunables(SOURCE, "cpu"))), st.data())
def test_what_is_drawn_can_be_recognised_again(name: str, data: st.DataObject) -> None:
    """A value read back from a source maps to what Optuna had drawn for it, up to rounding."""
    knob = kn.find_tunables(SOURCE, "cpu")[name]
    assert abs(float(knob.to_value(knob.from_value(knob.value))) - float(knob.value)) < 1e-9
    if isinstance(knob.value, int) and not isinstance(knob.value, bool):
        drawn = data.draw(st.integers(knob.distribution().low, knob.distribution().high))
        assert drawn == knob.from_value(knob.to_value(drawn))


@given(st.sets(st.sampled_from(sorted(kn.find_tunables(SOURCE, "cpu"))), min_size=1))
def test_edits_change_these_constants_and_nothing_else(names: set[str]) -> None:
    """Also where a line stands in both branches, and where changed lines are neighbours."""
    knobs = kn.find_tunables(SOURCE, "cpu")
    values: dict[str, kn.Value] = dict.fromkeys(names, 77.5)
    changed = apply_edits(SOURCE, kn.edits_for(SOURCE, knobs, values)).text
    after = kn.find_tunables(changed, "cpu")

    assert {name: values.get(name, knob.value) for name, knob in knobs.items()} == {
        n: k.value for n, k in after.items()
    }
    assert kn.find_tunables(SOURCE, "gpu")["MODEL_DIM"].value == kn.find_tunables(changed, "gpu")["MODEL_DIM"].value
    assert len(SOURCE.splitlines()) == len(changed.splitlines())


def test_the_task_has_constants_for_both_profiles() -> None:
    """The train.py that comes with the project can be swept as it is."""
    source = (ROOT / "mutable" / "train.py").read_text()
    for profile in ("cpu", "gpu"):
        knobs = kn.find_tunables(source, profile)
        assert {"MATRIX_LR", "DEPTH", "TOTAL_BATCH_SIZE", "MOMENTUM"} <= set(knobs)
        for name, knob in knobs.items():
            new = {name: knob.to_value(knob.distribution()._asdict().get("low", False))}
            if new[name] != knob.value:
                patch.apply(source, Proposal(hypothesis="h", edits=kn.edits_for(source, knobs, new)))
