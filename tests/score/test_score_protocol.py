"""The scorer as the host runs it, against predictors that answer honestly, lie, or break every rule of the frames."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import estimator
import frames
import numpy as np
import prepare
import protocol
import pytest

from orchestrator.scoring.messages import (
    CheckpointMessage,
    ClaimsMessage,
    Malformed,
    Message,
    NoAnswerMessage,
    RefusedMessage,
    RehearsedMessage,
    TooSlowMessage,
    UnsteadyMessage,
    find_message,
    parse_message,
    read_outcome,
)
from orchestrator.types import Level, Score

SCORER = Path(__file__).parents[2] / "locked" / "score.py"
RUNTIME = Path(__file__).parents[2] / "orchestrator" / "runtime"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(RUNTIME)}  # in a container all files are in one folder
ROWS, BATCH, BYTES = 24, 8, 5000
SMALL_K, LARGE_K = 60, 300
TABLE = np.random.default_rng(5).normal(size=(prepare.VOCAB_SIZE, prepare.VOCAB_SIZE)).astype("<f4") * 2
DIGEST = hashlib.sha256(b"checkpoint").digest()


def log_probs(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log-probabilities of a bigram model: what an honest predictor claims."""
    flat = estimator.log_softmax_at(TABLE[inputs.ravel()], targets.ravel())
    return flat.reshape(inputs.shape).astype("<f4")


@dataclass
class Honest:
    """A predictor on a thread: answers as it should until it is told to stop."""

    ask: Path
    answer: Path
    digest: bytes = DIGEST
    fresh: bool = True
    ready: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    asks: list[protocol.Ask] = field(default_factory=list)

    def run(self) -> None:
        """The harness of locked/predict.py, without torch and without train.py."""
        self.wait(protocol.BEGIN)
        self.wait(protocol.HASH)
        hello = protocol.Hello(digest=self.digest, size=10, fresh=self.fresh)
        frames.write(self.answer, protocol.HELLO, hello.encode())
        frames.write(self.answer, protocol.READY, b"")
        while not self.stop.is_set():
            number = len(self.asks)
            if self.wait(protocol.ask_name(number)):
                self.asks.append(protocol.decode((self.ask / protocol.ask_name(number)).read_bytes()))
                self.reply(protocol.answer_name(number), self.asks[-1])

    def wait(self, name: str) -> bool:
        """Whether a frame came before the stop."""
        while not (self.ask / name).exists():
            if self.stop.wait(0.001):
                return False
        return True

    def reply(self, name: str, ask: protocol.Ask) -> None:
        """Put an answer in place; cheats override this."""
        frames.write(self.answer, name, self.values(ask).tobytes())

    def values(self, ask: protocol.Ask) -> np.ndarray:
        """The right answer; liars override this."""
        if ask.kind == protocol.CLAIMS:
            return log_probs(ask.tokens[:, :-1], ask.tokens[:, 1:])
        return TABLE[ask.tokens[np.arange(len(ask.tokens)), ask.positions]]


@dataclass
class Stage:
    """A container's folders, two predictors on threads, and the scorer as a process."""

    root: Path
    load_budget_s: float = 10.0
    threads: list[tuple[Honest, threading.Thread]] = field(default_factory=list)

    def predictor(self, which: str, kind: Callable[..., Honest] = Honest, **values: object) -> Honest:
        """Start a predictor."""
        fake = kind(self.root / f"ask-{which}", self.root / f"answer-{which}", **values)
        thread = threading.Thread(target=fake.run)
        thread.start()
        self.threads.append((fake, thread))
        return fake

    def scorer(self, *more: str) -> "subprocess.Popen[str]":
        """Start the scorer, once the trainer is gone."""
        frames.write(self.root / "control", "trained", struct.pack("<d", self.load_budget_s))
        argv = [sys.executable, str(SCORER), f"--root={self.root}", f"--batch={BATCH}", f"--small-k={SMALL_K}"]
        argv += [f"--large-k={LARGE_K}", "--cap=0.01", "--floor=0.0002", "--seconds=20", *more]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)

    def run(self, *more: str) -> tuple[int, str]:
        """Exit code and output of a whole score."""
        self.release_audit_seed()
        with self.scorer(*more) as process:
            output, _ = process.communicate(timeout=30)
            return process.returncode, output

    def release_audit_seed(self, seed: bytes = bytes(32)) -> None:
        """What the host does once A is gone."""
        frames.write(self.root / "control", "seed", seed)

    def close(self) -> None:
        """Stop the threads."""
        for fake, thread in self.threads:
            fake.stop.set()
            thread.join()


def make_rows() -> np.ndarray:
    """Text of the bigram model's own making, with a BOS here and there."""
    generator = np.random.default_rng(6)
    rows = generator.integers(prepare.BOS_TOKEN_ID, size=(ROWS, prepare.MAX_SEQ_LEN + 1)).astype("<u2")
    rows[:, 0] = prepare.BOS_TOKEN_ID
    rows[generator.random(rows.shape) < 0.02] = prepare.BOS_TOKEN_ID
    return rows


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """All folders and the validation data."""
    for name in ("ask-a", "answer-a", "ask-b", "answer-b", "control", "data/val"):
        (tmp_path / name).mkdir(parents=True)
    val = tmp_path / "data/val"
    np.save(val / "rows.npy", make_rows())
    np.save(val / "row_bytes.npy", np.full(ROWS, BYTES // ROWS, dtype=np.int64))
    files = {
        path.name: {"bytes": path.stat().st_size, "count": ROWS, "sha256": prepare.file_sha256(path)}
        for path in val.iterdir()
    }
    (val / prepare.MANIFEST).write_text(json.dumps({"profile": "cpu", "files": files}))
    made = Stage(tmp_path)
    yield made
    made.close()


def messages_of(output: str) -> list[Message | Malformed]:
    """Return the messages in a scorer's output, none of which may be broken."""
    messages = [message for line in output.splitlines() if (message := parse_message(line)) is not None]

    assert find_message(messages, Malformed) is None
    return messages


def score_of(output: str) -> Score | None:
    """Return the score in a scorer's output, as the host reads it."""
    outcome = read_outcome(messages_of(output), "val_bpb")
    return outcome if isinstance(outcome, Score) else None


def refused(output: str) -> str:
    """Return why the scorer refused; "" if it did not."""
    message = find_message(messages_of(output), RefusedMessage)
    return message.reason if message else ""


def truth(stage: Stage) -> float:
    """The bigram model's bits per byte, by the definition."""
    rows, row_bytes = prepare.load_rows(stage.root / "data/val")
    nats = log_probs(rows[:, :-1], rows[:, 1:]).astype(np.float64)
    return float(-nats[rows[:, 1:] != prepare.BOS_TOKEN_ID].sum() / np.log(2) / row_bytes.sum())


def test_an_honest_model_gets_its_true_score(stage: Stage) -> None:
    """The printed score is the definition's, at L2, with K, hash of the claims and standard error."""
    stage.predictor("a")
    stage.predictor("b")
    code, output = stage.run()
    score = score_of(output)

    assert 0 == code
    assert score is not None
    assert truth(stage) == pytest.approx(score.value, abs=1e-7)
    assert score.value != round(score.value, 6)
    assert score.standard_error is not None
    assert (Level.L2, LARGE_K) == (score.level, score.audited_positions)
    assert score.standard_error < 1e-6
    assert 0.02 == score.noise
    assert 64 == len(score.claims_sha256)
    assert CheckpointMessage(event="checkpoint", sha256=DIGEST.hex(), bytes=10) in messages_of(output)


def test_k_is_small_unless_the_claims_beat_the_best(stage: Stage) -> None:
    """The large audit is for would-be bests."""
    stage.predictor("a")
    stage.predictor("b")
    _, output = stage.run(f"--keep-below={truth(stage) - 0.01}")
    score = score_of(output)

    assert score is not None
    assert SMALL_K == score.audited_positions


def test_a_sees_whole_rows_and_b_only_prefixes(stage: Stage) -> None:
    """No token after the asked position, no row twice in a batch, growing prefixes; a rehearsal comes first."""
    first, second = stage.predictor("a"), stage.predictor("b")
    code, _ = stage.run()
    rows = {tuple(row) for row in prepare.load_rows(stage.root / "data/val")[0].tolist()}

    assert 0 == code
    assert rows == {tuple(row) for ask in first.asks[2:] for row in ask.tokens.tolist()}
    assert not rows & {tuple(row) for ask in first.asks[:2] for row in ask.tokens.tolist()}
    by_start: dict[tuple[int, ...], int] = {}
    for ask in second.asks[1:]:
        lengths = {}
        for tokens, position in zip(ask.tokens.tolist(), ask.positions.tolist(), strict=True):
            prefix = tokens[: position + 1]
            owners = [row for row in rows if list(row[: position + 1]) == prefix]
            assert owners
            assert set(tokens) <= set(prefix)
            lengths[owners[0]] = position
        for row, position in lengths.items():
            assert position > by_start.get(row, -1)
            by_start[row] = position


def test_b_is_asked_nothing_before_the_host_says_that_a_is_gone(stage: Stage) -> None:
    """Claims are printed, then the scorer waits: B has hashed and loaded nothing until the seed is there."""
    first, second = stage.predictor("a"), stage.predictor("b")
    with stage.scorer() as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        said = []
        for line in lines:
            said.append(line)
            if isinstance(parse_message(line), ClaimsMessage):
                break
        time.sleep(0.3)
        before, claimed = len(second.asks), len(first.asks)
        hashed = (second.answer / protocol.HELLO).exists()
        stage.release_audit_seed()
        output = "".join([*said, *lines])

    assert (0, False) == (before, hashed)
    assert 2 + ROWS // BATCH == claimed
    assert score_of(output) is not None


def test_another_seed_audits_other_positions(stage: Stage) -> None:
    """The host's secret decides what is asked."""
    asked = []
    for seed in (bytes(32), bytes(31) + b"\1"):
        for folder in ("ask-a", "answer-a", "ask-b", "answer-b"):
            for path in (stage.root / folder).iterdir():
                path.unlink()
        stage.predictor("a")
        second = stage.predictor("b")
        stage.release_audit_seed(seed)
        with stage.scorer(f"--large-k={SMALL_K}") as process:
            process.communicate(timeout=30)
        stage.close()
        asked.append([ask.positions.tolist() for ask in second.asks[1:]])

    assert asked[0] != asked[1]


class Peeking(Honest):
    """Claims as if the next token were known: the accident that public loops had."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        right = super().values(ask)
        return right * 0.02 if ask.kind == protocol.CLAIMS else right


class Modest(Honest):
    """Claims two thousandths of a nat better everywhere."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        right = super().values(ask)
        return right + np.float32(0.002) if ask.kind == protocol.CLAIMS else right


class Positive(Honest):
    """Claims probabilities above one."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        return np.full_like(super().values(ask), 0.001)


class Nan(Honest):
    """One claim, and every audited answer, is no number."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        values = super().values(ask).copy()
        values[0, 3] = np.nan
        return values


class Infinite(Honest):
    """Infinite logits."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        values = super().values(ask).copy()
        values[..., 3] = -np.inf if ask.kind == protocol.CLAIMS else np.inf
        return values


class Short(Honest):
    """Frames that are too short."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        return super().values(ask)[:-1]


class Long(Honest):
    """Frames that are larger than agreed."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        return np.concatenate([super().values(ask)] * 3)


class Linked(Honest):
    """A symlink in the place of a frame."""

    def reply(self, name: str, ask: protocol.Ask) -> None:  # noqa: D102
        (self.answer / "real").write_bytes(self.values(ask).tobytes())
        (self.answer / name).symlink_to("real")


class Piped(Honest):
    """A FIFO in the place of a frame."""

    def reply(self, name: str, ask: protocol.Ask) -> None:  # noqa: D102
        os.mkfifo(self.answer / name)


class Foldered(Honest):
    """A directory in the place of a frame."""

    def reply(self, name: str, ask: protocol.Ask) -> None:  # noqa: D102
        (self.answer / name).mkdir()


class Looping(Honest):
    """A symlink to itself."""

    def reply(self, name: str, ask: protocol.Ask) -> None:  # noqa: D102
        (self.answer / name).symlink_to(name)


class Silent(Honest):
    """Never answers."""

    def reply(self, name: str, ask: protocol.Ask) -> None:  # noqa: D102
        pass


BROKEN_FRAMES = {
    Short: "expected", Long: "expected", Linked: "cannot be opened", Looping: "cannot be opened",
    Piped: "not a plain file", Foldered: "not a plain file",
}  # fmt: skip
REFUSALS = [
    ("a", Peeking, "a claim differs from its audit by more than 0.01 nat"),
    ("a", Modest, "nat off on average"),
    ("a", Positive, "a log-probability above 0"),
    ("a", Nan, "a claim is not a finite number"),
    ("b", Nan, "an audited answer is not a finite number"),
    ("a", Infinite, "a claim is not a finite number"),
    ("b", Infinite, "an audited answer is not a finite number"),
    *((which, kind, "not the plain file of the agreed size") for which in "ab" for kind in BROKEN_FRAMES),
]


@pytest.mark.parametrize(
    ("which", "kind", "reason"), REFUSALS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_what_cannot_be_believed_is_refused(stage: Stage, which: str, kind: type[Honest], reason: str) -> None:
    """Exit 3, the reason, and no score in the output; the other predictor is honest."""
    for name in "ab":
        stage.predictor(name, kind if name == which else Honest)
    code, output = stage.run()

    assert 3 == code
    assert reason in refused(output)
    assert BROKEN_FRAMES.get(kind, "") in output
    assert score_of(output) is None


def test_a_refusal_holds_nothing_that_a_predictor_chose(stage: Stage) -> None:
    """It has seen validation text by then, and the researcher reads why it was refused; figures are for people only."""
    said = set()
    for size in (np.float32(0.5), np.float32(0.25)):

        class Telling(Honest):
            def values(self, ask: protocol.Ask, size: np.float32 = size) -> np.ndarray:
                right = super().values(ask)
                return right * size if ask.kind == protocol.CLAIMS else right

        for folder in ("ask-a", "answer-a", "ask-b", "answer-b"):
            for path in (stage.root / folder).iterdir():
                path.unlink()
        stage.predictor("a", Telling)
        stage.predictor("b")
        _, output = stage.run()
        stage.close()
        message = find_message(messages_of(output), RefusedMessage)
        assert message is not None
        said.add((message.reason, message.max_difference))

    assert 2 == len(said)
    assert 1 == len({reason for reason, _ in said})


class Moody(Honest):
    """Dropout that was left on."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        right = super().values(ask)
        return right + np.random.default_rng(len(self.asks)).normal(size=right.shape).astype("<f4")


class Batched(Honest):
    """Batch statistics: the other rows move every answer."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        return super().values(ask) - np.float32(ask.tokens.mean() / 100)


@pytest.mark.parametrize("kind", [Moody, Batched])
def test_a_model_left_in_training_mode_is_recognised_before_any_text_is_out(stage: Stage, kind: type[Honest]) -> None:
    """Its second rehearsal differs, which is said; it is refused all the same, for a cheat may look like it."""
    stage.predictor("a", kind)
    stage.predictor("b", kind)
    code, output = stage.run()

    assert 3 == code
    kinds = [type(message) for message in messages_of(output)]
    assert kinds.index(UnsteadyMessage) < kinds.index(RehearsedMessage)


class Unbounded(Honest):
    """Claims of minus infinity for another row each time, which is no number that a message could contain."""

    def values(self, ask: protocol.Ask) -> np.ndarray:  # noqa: D102
        values = super().values(ask).copy()
        values[len(self.asks) % 2 :: 2] = -np.inf
        return values


def test_a_model_cannot_break_the_scorer_by_a_number_that_json_does_not_have(stage: Stage) -> None:
    """It is refused as every other one, and is not taken for a failure of ours."""
    stage.predictor("a", Unbounded)
    stage.predictor("b", Unbounded)
    code, output = stage.run()

    assert 3 == code
    assert UnsteadyMessage(event="unsteady") in messages_of(output)
    assert "a claim is not a finite number" == refused(output)


def test_an_honest_model_is_steady(stage: Stage) -> None:
    """It answers a row as it did before."""
    stage.predictor("a")
    stage.predictor("b")
    code, output = stage.run()

    assert 0 == code
    assert "unsteady" not in output


@pytest.mark.parametrize("which", ["a", "b"])
def test_silence_is_no_answer(stage: Stage, which: str) -> None:
    """Exit 4 when the time is over, not a hang and not a score."""
    for name in "ab":
        stage.predictor(name, Silent if name == which else Honest)
    stage.load_budget_s = 1.0
    code, output = stage.run()

    assert 4 == code
    message = find_message(messages_of(output), TooSlowMessage)
    assert message is not None
    assert message.reason.startswith("load_model and the model's first answer took longer than the")
    assert score_of(output) is None


class Fading(Honest):
    """Answers its rehearsals and then no more."""

    def reply(self, name: str, ask: protocol.Ask) -> None:  # noqa: D102
        if len(self.asks) <= 2:
            super().reply(name, ask)


@pytest.mark.parametrize("which", ["a", "b"])
def test_silence_after_the_rehearsal_is_no_answer_either(stage: Stage, which: str) -> None:
    """Exit 4 and a message of its own: it loaded in time."""
    for name in "ab":
        stage.predictor(name, Fading if name == which else Honest)
    code, output = stage.run("--seconds=2")

    assert 4 == code
    assert isinstance(read_outcome(messages_of(output), "val_bpb"), NoAnswerMessage)
    assert score_of(output) is None


@dataclass
class Late(Honest):
    """Takes its time for one answer: the rehearsal's is number 0."""

    number: int = 0
    seconds: float = 1.0

    def reply(self, name: str, ask: protocol.Ask) -> None:
        """As if it trained on meanwhile."""
        if len(self.asks) == self.number + 1:
            time.sleep(self.seconds)
        super().reply(name, ask)


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (0, "first answer took longer than the 0.6 s left"),
        (1, "together more than the 0.6 s left"),
        (2, "together more"),
    ],
)
def test_training_on_while_loading_or_answering_is_too_slow(stage: Stage, which: str, number: int, reason: str) -> None:
    """What loading may take is what the training left: later answers that are late count as loading too."""
    stage.load_budget_s = 0.6
    for name in "ab":
        stage.predictor(name, Late, number=number, seconds=1.0 if name == which else 0.0)
    code, output = stage.run()

    assert 4 == code
    message = find_message(messages_of(output), TooSlowMessage)
    assert message is not None
    assert reason in message.reason
    assert score_of(output) is None


def test_a_busy_machine_is_no_training(stage: Stage) -> None:
    """What is late after the first answers cannot have changed the model unseen."""
    stage.load_budget_s = 2.0
    stage.predictor("a")
    stage.predictor("b", Late, number=9, seconds=3.0)
    code, _ = stage.run()

    assert 0 == code


@pytest.mark.parametrize("number", [0, 1])
def test_time_that_the_training_left_may_be_spent_on_loading(stage: Stage, number: int) -> None:
    """Compiling once, at the first answer of either kind, is no cheat."""
    stage.load_budget_s = 5.0
    for name in "ab":
        stage.predictor(name, Late, number=number)
    code, _ = stage.run()

    assert 0 == code


def test_a_checkpoint_swapped_between_a_and_b_is_refused(stage: Stage) -> None:
    """Both must have hashed the same bytes."""
    stage.predictor("a")
    second = stage.predictor("b", digest=hashlib.sha256(b"another").digest())
    code, output = stage.run()

    assert 3 == code
    assert "the checkpoint changed" in refused(output)
    assert [] == second.asks


def test_a_checkpoint_that_was_there_before_the_training_is_never_scored(stage: Stage) -> None:
    """What is older than the run is our own failure to clean up, and no refusal of the patch."""
    stage.predictor("a", fresh=False)
    stage.predictor("b", fresh=False)
    code, output = stage.run()

    assert code not in (0, 3, 4)
    assert "a checkpoint was there before the training" in output
    assert score_of(output) is None
    assert "" == refused(output)


def test_nothing_but_scored_positions_must_be_finite(stage: Stage) -> None:
    """A model may give BOS no probability at all: it is never scored."""

    class NoBos(Honest):
        def values(self, ask: protocol.Ask) -> np.ndarray:
            values = super().values(ask).copy()
            if ask.kind == protocol.CLAIMS:
                values[ask.tokens[:, 1:] == prepare.BOS_TOKEN_ID] = -np.inf
            return values

    stage.predictor("a", NoBos)
    stage.predictor("b", NoBos)
    code, output = stage.run()

    assert 0 == code
    assert score_of(output) is not None


def test_validation_data_that_changed_is_named(stage: Stage) -> None:
    """One flipped byte: no score, and a message that says which file and what to do."""
    path = stage.root / "data/val/rows.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    stage.predictor("a")
    stage.predictor("b")
    code, output = stage.run()

    assert code not in (0, 3, 4)
    assert "rows.npy is not what its manifest says" in output
    assert score_of(output) is None
