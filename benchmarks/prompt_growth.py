"""What a prompt costs to build as a run grows: the queries a turn makes and the text, in a real journal on disk.

    .venv/bin/python -m benchmarks.prompt_growth [EXPERIMENTS]

Experiments are written in bulk, everything else is what the loop does before it asks the LLM.
"""

import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.events import (
    Event,
    ExperimentBegun,
    ExperimentFinished,
    ReplyReceived,
    SessionStarted,
    body_of,
    experiment_id_of,
)
from orchestrator.propose.history import FullHistory, select_history
from orchestrator.propose.prompt import Prompt, PromptBuilder
from orchestrator.propose.token_count import counter
from orchestrator.record import record_file
from orchestrator.record.experiment_dir import source_path
from orchestrator.record.journal import Journal
from orchestrator.record.record_file import FORMAT, GENESIS, canonical, seal
from orchestrator.settings import Limits
from orchestrator.types import (
    Context,
    Environment,
    Experiment,
    Level,
    Proposal,
    Reply,
    Score,
    SeedCommitment,
    Status,
    Usage,
)

ROOT = Path(__file__).parents[1]
SIZES = (100, 1000, 10_000)
REPEATS = 15
AT = "2026-11-01T00:00:00.000+00:00"
WORDS = ("wider", "deeper", "rate", "decay", "warmup", "window", "gate", "norm", "batch", "head", "embedding", "value")
ENDS = (Status.DISCARD, Status.DISCARD, Status.CRASH, Status.DISCARD, Status.TIMEOUT, Status.OOM, Status.INVALID)
DIFF = "".join(f"+    x{n} = torch.relu(x{n - 1} @ self.w{n})\n" for n in range(30))


def experiment(number: int, folder: Path) -> Experiment:
    """Build one of many experiments: every two-hundredth is kept, the others end in every possible way."""
    status = Status.KEEP if number % 200 == 0 else ENDS[number % len(ENDS)]
    scored = status in (Status.KEEP, Status.DISCARD)
    bpb = 2.0 - number / 1e6 if status is Status.KEEP else 2.1 + (number * 7919 % 1000) / 1e3
    idea = " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 12))
    return Experiment(
        id=number, parent_id=number - 1 if number else None, status=status, reason="as it was",
        hypothesis=f"{number}: {idea}",
        expected_effect="lower", proposer="claude", model="m",
        score=Score(value=bpb, level=Level.L2) if scored else None,
        message="" if scored else f"ended with exit code 1\n{idea}\nRuntimeError: {idea}", source_sha256="0" * 64,
        started_at="2026-11-01T00:00:00+00:00", duration_s=30.0, train_s=25.0, usage=Usage(), attempt=1,
        folder=folder / "0000", fingerprint=f"{number:064x}",
    )  # fmt: skip


def fill(folder: Path, start: int, end: int) -> None:
    """Append experiments to the record in one go: a sync to the disk for each would take an hour."""
    path = folder / record_file.NAME
    last = path.read_bytes()[-200_000:].splitlines()[-1:] if path.exists() else []
    seq, head = (json.loads(last[0])["seq"], hashlib.sha256(last[0]).hexdigest()) if last else (0, GENESIS)
    usage = Usage(input_tokens=1000, output_tokens=100, cost_usd=0.01)
    reply = Reply(proposer="c", model="m", prompt="x" * 1000, usage=usage)
    idea = Proposal(hypothesis="a wider head")
    session = SessionStarted(task="t", metric="value", proposer="c", environment=Environment(), rule="estimate")
    with path.open("ab") as file:
        for number in range(start, end):
            begun = ExperimentBegun(
                experiment_id=number, attempt=1, retry_of=None, remeasures_id=None, parent_id=0, reply=reply,
                proposal=idea, source_sha256="0" * 64, seeds=SeedCommitment(train_seed=1, audit_seed_sha256="0" * 64),
                files={}, environment=Environment(hardware="two cores"),
            )  # fmt: skip
            finished = ExperimentFinished(experiment=experiment(number, folder))
            events: tuple[Event, ...] = (ReplyReceived(reply=reply), begun, finished)
            for event in events if number else (session, *events):
                seq += 1
                values = {"seq": seq, "kind": event.kind, "experiment_id": experiment_id_of(event), "previous": head}
                line = seal(canonical({**values, "at": AT, "body": body_of(event), "format": FORMAT})).encode()
                head = hashlib.sha256(line).hexdigest()
                file.write(line + b"\n")


def make_builder() -> PromptBuilder:
    """Return the builder of this task's prompts."""
    return PromptBuilder(
        instructions=ROOT / "program.md", prepare=ROOT / "locked" / "prepare.py", facts={"hardware": "two cores"},
        limits=Limits(), count=counter(ROOT / "data" / "cpu-python" / "tokenizer"),
    )  # fmt: skip


def turn(journal: Journal, builder: PromptBuilder) -> Prompt:
    """Do all that happens between two experiments until the prompt is built."""
    best, spent = journal.champion(), journal.spent()
    assert best is not None  # noqa: S101
    journal.queued()
    journal.pending_reply()
    return builder.build(
        Context(
            experiment_id=journal.next_id(),
            champion=best,
            champion_source=source_path(best.experiment.folder).read_text(encoding="utf-8"),
            history=FullHistory(journal),
            spent=spent,
            memory=select_history(journal, best),
            in_flight=("what runs now",),
        )
    )


def measure_opening(folder: Path) -> float:
    """Return how many milliseconds `status` waits until it knows the best of a run."""
    started = time.perf_counter()
    with Journal.read(folder) as journal:
        journal.champion()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Grow a journal and measure at each size."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    builder = make_builder()
    done = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        folder.mkdir()
        for size in (*[size for size in SIZES if size < largest], largest):
            fill(folder, done, size)
            started = time.perf_counter()
            with Journal.open(folder) as journal:
                indexed = 3 * (size - done) / (time.perf_counter() - started)
                done = size
                best = journal.champion()
                assert best is not None  # noqa: S101
                best.experiment.folder.mkdir(exist_ok=True)
                shutil.copy(ROOT / "mutable" / "train.py", best.experiment.folder)
                prompt = turn(journal, builder)
                times = []
                for _ in range(REPEATS):
                    started = time.perf_counter()
                    turn(journal, builder)
                    times.append(1000 * (time.perf_counter() - started))
                started = time.perf_counter()
                journal.similar("a wider head with another init\n" + DIFF, 8)
                similar = 1000 * (time.perf_counter() - started)
            opened = measure_opening(folder)
            print(
                f"{size:>7} experiments: median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms,"
                f" {builder.count(prompt.text)} tokens; search for near repeats {similar:.1f} ms; indexed"
                f" {indexed:,.0f} lines/s; opened, and the best known, in {opened:.0f} ms"
            )
    print(f"prompt at {largest} experiments: {statistics.median(times):.0f} ms")


if __name__ == "__main__":
    main()
