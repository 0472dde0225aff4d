"""What a prompt costs to build as a run grows: the queries a turn makes and the text, in a real journal on disk.

    .venv/bin/python -m benchmarks.prompt_growth [EXPERIMENTS]

Experiments are written in bulk, everything else is what the loop does before it asks the LLM.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.propose.history import History, select_history
from orchestrator.propose.prompt import Prompt, PromptBuilder
from orchestrator.propose.token_count import counter
from orchestrator.record import index
from orchestrator.record.index import canonical
from orchestrator.record.journal import Journal
from orchestrator.settings import Limits
from orchestrator.types import Context, Experiment, Level, Score, Status, Usage

ROOT = Path(__file__).parents[1]
SIZES = (100, 1000, 10_000)
REPEATS = 15
WORDS = ("wider", "deeper", "rate", "decay", "warmup", "window", "gate", "norm", "batch", "head", "embedding", "value")
ENDS = (Status.DISCARD, Status.DISCARD, Status.CRASH, Status.DISCARD, Status.TIMEOUT, Status.OOM, Status.INVALID)
DIFF = "".join(f"+    x{n} = torch.relu(x{n - 1} @ self.w{n})\n" for n in range(30))


def experiment(number: int, folder: Path) -> Experiment:
    """One of many: every two-hundredth is kept, the others end in every way there is."""
    status = Status.KEEP if number % 200 == 0 else ENDS[number % len(ENDS)]
    scored = status in (Status.KEEP, Status.DISCARD)
    bpb = 2.0 - number / 1e6 if status is Status.KEEP else 2.1 + (number * 7919 % 1000) / 1e3
    idea = " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 12))
    return Experiment(
        id=number, parent_id=max(0, number - 1), status=status, reason="as it was", hypothesis=f"{number}: {idea}",
        expected_effect="lower", proposer="claude", model="m",
        score=Score(value=bpb, level=Level.L2) if scored else None,
        message="" if scored else f"ended with exit code 1\n{idea}\nRuntimeError: {idea}", source_sha256="0" * 64,
        started_at="2026-11-01T00:00:00+00:00", duration_s=30.0, train_s=25.0, usage=Usage(), attempt=1,
        folder=folder / "0000", fingerprint=f"{number:064x}",
    )  # fmt: skip


def fill(journal: Journal, start: int, end: int) -> None:
    """Write experiments and their records in one transaction; the chain is not what is measured."""
    reply = canonical({"body": {"proposer": "c", "model": "m", "prompt": "x" * 1000, "text": "", "calls": [1]}})
    begun = canonical({"body": {"retry_of": None}, "padding": "x" * 500})
    with journal._db as db:  # noqa: SLF001 - in bulk: a commit to disk for each would take an hour
        for number in range(start, end):
            made = experiment(number, journal.folder)
            end = {"seq": 3 * number + 2, "kind": "experiment.finished", "body": {"experiment": journal.as_json(made)}}
            finished = canonical({**end, "padding": "x" * 500})
            for seq, kind, of, line in (
                (3 * number, "reply.received", None, reply),
                (3 * number + 1, "experiment.begun", number, begun),
                (3 * number + 2, "experiment.finished", number, finished),
            ):
                db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", (seq, kind, of, line, f"{seq:064x}"))
            index.follow(db, end, DIFF)


def turn(journal: Journal, builder: PromptBuilder) -> Prompt:
    """All that happens between two experiments until the prompt is there."""
    best, spent = journal.best(), journal.spent()
    assert best is not None  # noqa: S101
    journal.queued()
    journal.pending_reply()
    return builder.build(
        Context(
            experiment_id=journal.next_id(),
            best=best,
            best_source=(best.folder / "train.py").read_text(encoding="utf-8"),
            history=History(journal),
            spent=spent,
            memory=select_history(journal, best),
            in_flight=("what runs now",),
        )
    )


def main() -> None:
    """Grow a journal and measure at each size."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    builder = PromptBuilder(
        instructions=ROOT / "program.md", prepare=ROOT / "locked" / "prepare.py", facts={"hardware": "two cores"},
        limits=Limits(), count=counter(ROOT / "data" / "cpu-python" / "tokenizer"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, Journal.open(Path(folder, "run")) as journal:
        done = 0
        for size in (*[size for size in SIZES if size < largest], largest):
            fill(journal, done, size)
            done = size
            best = journal.best()
            assert best is not None  # noqa: S101
            best.folder.mkdir()
            (best.folder / "train.py").write_bytes((ROOT / "mutable" / "train.py").read_bytes())
            prompt = turn(journal, builder)
            times = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                turn(journal, builder)
                times.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            journal.similar("a wider head with another init\n" + DIFF, 8)
            similar = 1000 * (time.perf_counter() - started)
            print(
                f"{size:>7} experiments: median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms,"
                f" {builder.count(prompt.text)} tokens; search for near repeats {similar:.1f} ms"
            )
    print(f"prompt at {largest} experiments: {statistics.median(times):.0f} ms")


if __name__ == "__main__":
    main()
