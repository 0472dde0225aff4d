"""The scorer's messages: what it can send, what the host reads, and everything that is refused."""

import io
import json
import re
import struct
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import channel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scoring.messages import (
    CheckpointMessage,
    ClaimsMessage,
    Malformed,
    Message,
    RefusedMessage,
    ScoreMessage,
    parse_message,
    read_outcome,
)
from orchestrator.types import Level, Score
from orchestrator.walls.experiment_sandbox import ExperimentSandbox

SCORE = {
    "event": "score", "metric": "val_bpb", "value": 1.2345678901234567, "level": "L2", "standard_error": 1e-5,
    "audited_positions": 256,
}  # fmt: skip
CLAIMS = json.dumps({"event": "claims", "sha256": "ab" * 32})
GOOD = json.dumps(SCORE)


def outcome(*lines: str) -> object:
    """Return how a score came out whose scorer printed these lines."""
    messages = [message for line in lines if (message := parse_message(line)) is not None]
    return read_outcome(messages, "val_bpb")


def changed(**fields: object) -> str:
    """Return the line of a score message with some fields replaced, or left out where the value is `...`."""
    return json.dumps({key: value for key, value in {**SCORE, **fields}.items() if value is not ...})


def sent(event: str, **fields: Any) -> str:
    """Return what a scorer prints to send a message."""
    with redirect_stdout(io.StringIO()) as output:
        channel.send(event, **fields)
    return output.getvalue()


def test_a_well_formed_message_is_a_score() -> None:
    """One score and one claims message, among whatever else is logged."""
    expected = Score(
        value=1.2345678901234567, level=Level.L2, standard_error=1e-5, audited_positions=256, claims_sha256="ab" * 32
    )

    assert expected == outcome("loading", CLAIMS, "val_bpb: 0.1", '{"event": "progress", "value": 0.1}', "{}", GOOD)


def test_a_score_has_the_noise_that_its_scorer_reports() -> None:
    """It may be left out."""
    scores = [outcome(CLAIMS, changed(noise=noise)) for noise in (0.25, ...)]

    assert [0.25, None] == [score.noise for score in scores if isinstance(score, Score)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_score_arrives_as_it_was_computed(value: float) -> None:
    """Every bit of a float64."""
    line = sent(**{**SCORE, "value": value}).rstrip("\n")
    message = parse_message(line)

    assert isinstance(message, ScoreMessage)
    assert struct.pack("<d", value) == struct.pack("<d", message.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_never_sent(number: float) -> None:
    """The scorer fails loudly instead."""
    with pytest.raises(ValueError, match="JSON"):
        sent(**{**SCORE, "value": number})


@given(st.text())
def test_no_text_in_a_message_begins_another(text: str) -> None:
    """Line ends of every kind, quotes and whole messages stay inside the field."""
    line = sent("refused", reason=f"x{text}", detail=f"\n{GOOD}\n{text}")

    assert 1 == len(line.splitlines())
    assert line.isascii()
    assert RefusedMessage(event="refused", reason=f"x{text}", detail=f"\n{GOOD}\n{text}") == parse_message(line)


@given(st.text(), st.integers(0, 200))
def test_no_piece_of_a_message_is_one(text: str, start: int) -> None:
    """Lines that are too long are cut before they are read."""
    line = sent("refused", reason=text + GOOD, detail="y" * 50)

    assert parse_message(line[start + 1 :]) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (changed(value=...), "value: Field required"),
        (changed(value=None), "value: Input should be a valid number"),
        (changed(value="1.2"), "value: Input should be a valid number"),
        (changed(value=True), "value: Input should be a valid number"),
        (GOOD.replace("1.2345678901234567", "NaN"), "value: Input should be a finite number"),
        (GOOD.replace("1.2345678901234567", "Infinity"), "value: Input should be a finite number"),
        (GOOD.replace("1.2345678901234567", "1e999"), "value: Input should be a finite number"),
        (changed(noise=-1.0), "noise: Input should be greater than or equal to 0"),
        (changed(standard_error=...), "standard_error is required at level L2"),
        (changed(standard_error=None), "standard_error is required at level L2"),
        (changed(standard_error=-1e-9), "standard_error: Input should be greater than or equal to 0"),
        (GOOD.replace("1e-05", "NaN"), "standard_error: Input should be a finite number"),
        (changed(audited_positions=...), "audited_positions must be at least 1 at level L2"),
        (changed(audited_positions=25.5), "audited_positions: Input should be a valid integer"),
        (changed(level="L9"), "level: Input should be 'L1' or 'L2'"),
        (changed(level="L3"), "level: Input should be 'L1' or 'L2'"),
        (changed(level="L0"), "level: Input should be 'L1' or 'L2'"),
        (changed(level=...), "level: Field required"),
        (changed(metric=...), "metric: Field required"),
        (changed(metric="val_rmse"), "metric is 'val_rmse'; task.toml has 'val_bpb'"),
        (changed(standard_eror=1e-5), "standard_eror: Extra inputs are not permitted"),
    ],
)
def test_a_broken_score_is_refused(line: str, reason: str) -> None:
    """It is not a score, never 0.0, and the field is named."""
    assert Malformed(reason=f"score message: {reason}") == outcome(CLAIMS, line)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("level: L2",),
        ("val_bpb: 1.234500", "level: L2"),
        (CLAIMS,),
        (CLAIMS, GOOD.replace("1.2345678901234567", "0x1")),
        (CLAIMS, GOOD.replace("1.2345678901234567", "1_000")),
        (CLAIMS, GOOD.replace("1.2345678901234567", "١.٢")),  # noqa: RUF001  # digits, but not ours
        (CLAIMS, f"score: {GOOD}"),
        (CLAIMS, f"[{GOOD}]"),
        (CLAIMS, GOOD[:-1]),
        (CLAIMS, changed(event="Score")),
    ],
)
def test_no_score_message_is_no_score(lines: tuple[str, ...]) -> None:
    """Prose, broken JSON and what is wrapped in something else mean nothing; none is not 0.0."""
    expected = "expected exactly one score, refused, failed, too_slow or no_answer message, got 0"

    assert Malformed(reason=expected) == outcome(*lines)


@given(st.floats(0, 100), st.integers(2, 5))
def test_a_repeated_score_is_never_a_score(value: float, times: int) -> None:
    """However often and whatever is repeated, the same number too."""
    expected = f"expected exactly one score, refused, failed, too_slow or no_answer message, got {times}"

    assert Malformed(reason=expected) == outcome(CLAIMS, *[changed(value=value)] * times)


def test_two_different_scores_are_none() -> None:
    """Nor the lower, nor the later."""
    assert isinstance(outcome(CLAIMS, GOOD, changed(value=0.1)), Malformed)


@pytest.mark.parametrize("kind", ["too_slow", "no_answer"])
def test_a_score_beside_another_outcome_is_none(kind: str) -> None:
    """A scorer that says both says nothing."""
    assert isinstance(outcome(CLAIMS, GOOD, json.dumps({"event": kind, "reason": "late"})), Malformed)


@pytest.mark.parametrize("broken", [(), (changed(value=0.1),), (changed(value=...),)])
def test_a_refusal_wins_over_every_score(broken: tuple[str, ...]) -> None:
    """Whatever else was printed, in any order."""
    refusal = json.dumps({"event": "refused", "reason": "a claim is a lie", "max_difference": 0.3})
    expected = RefusedMessage(event="refused", reason="a claim is a lie", max_difference=0.3)

    assert expected == outcome(CLAIMS, refusal, GOOD, *broken) == outcome(CLAIMS, GOOD, *broken, refusal)


@pytest.mark.parametrize("claims", [(), (CLAIMS, CLAIMS)])
def test_an_audited_score_is_of_one_set_of_claims(claims: tuple[str, ...]) -> None:
    """The record holds their hash, and the host destroyed predictor A when it heard it."""
    expected = f"score message: level L2 needs exactly one claims message, got {len(claims)}"

    assert Malformed(reason=expected) == outcome(*claims, GOOD)


def test_a_score_without_an_audit_has_no_standard_error() -> None:
    """At L1 nothing was sampled: the number is None, not 0.0."""
    score = outcome('{"event": "score", "metric": "val_bpb", "value": 2, "level": "L1"}')

    assert Score(value=2.0, level=Level.L1, standard_error=None) == score


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"event": "claims"}', "claims message: sha256: Field required"),
        ('{"event": "claims", "sha256": "00"}', "claims message: sha256: String should match pattern '^[0-9a-f]{64}$'"),
        ('{"event": "rehearsed", "predictor": "c"}', "rehearsed message: predictor: Input should be 'a' or 'b'"),
        ('{"event": "refused"}', "refused message: reason: Field required"),
        ('{"event": "checkpoint", "sha256": "' + "0" * 64 + '", "bytes": -1}',
         "checkpoint message: bytes: Input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_broken_message_of_any_kind_is_named(line: str, reason: str) -> None:
    """A scorer that waits for an answer to it would wait for ever."""
    assert Malformed(reason=reason) == parse_message(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["event", "value", "x"]) | st.text(), inner),
)
KINDS = ["checkpoint", "rehearsed", "unsteady", "claims", "score", "refused", "too_slow", "no_answer"]


@given(st.text() | json_values.map(json.dumps) | st.builds(
    lambda kind, fields: json.dumps({**fields, "event": kind}),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from([*SCORE, "sha256", "reason"]), json_values),
))  # fmt: skip
def test_no_text_breaks_the_parser(line: str) -> None:
    """Any line is a message, a broken message or nothing, and any sequence has an outcome."""
    message = parse_message(line)

    assert message is None or isinstance(message, Malformed | Message)
    outcome(line, GOOD, line)


def test_the_host_and_the_scorer_name_their_files_alike(tmp_path: Path) -> None:
    """What the host writes in one process is what the scorer waits for in another."""
    (tmp_path / "control").mkdir()
    sandbox = cast("ExperimentSandbox", SimpleNamespace(private=tmp_path))
    ExperimentSandbox.signal_training_done(sandbox, 12.625)
    ExperimentSandbox.release_audit_seed(sandbox, bytes(range(32)))

    assert 12.625 == channel.wait_for_training(tmp_path / "control")
    assert bytes(range(32)) == channel.wait_for_seed(tmp_path / "control", until=0.0)


def test_the_contract_documents_every_event_and_field() -> None:
    """docs/tasks.md is what the author of a task reads."""
    contract = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    kinds = get_args(Message)
    documented = {
        name for row in re.findall(r"^\| (.+?) \|", contract, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }

    assert {kind.model_fields["event"].annotation.__args__[0] for kind in kinds} <= documented
    assert ScoreMessage.model_fields.keys() - {"event"} <= documented
    for kind in kinds:
        assert all(f"`{name}`" in contract for name in kind.model_fields), kind


def test_every_kind_can_be_sent() -> None:
    """Both sides have the same words."""
    digest = "cd" * 32

    assert CheckpointMessage(event="checkpoint", sha256=digest, bytes=3) == parse_message(
        sent("checkpoint", sha256=digest, bytes=3)
    )
    assert ClaimsMessage(event="claims", sha256=digest, value=2.5) == parse_message(
        sent("claims", sha256=digest, value=2.5)
    )
