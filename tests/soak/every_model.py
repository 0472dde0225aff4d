"""The real loop with every model of the table, in real containers: does the bill say what record and report say?

    make test-models            # python -m tests.soak.every_model [--model NAME]

Each model answers from an emulator of the Messages API on loopback, which refuses what the documentation says it
refuses, and bills by prices of its own: three experiments, each with another constant of train.py, then lessons. Needs
the engine, the image and the data (`make image prepare-data`).
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.propose.models import MODELS
from orchestrator.record.journal import Journal
from tests.soak.kill_storm import command, make_task
from tests.support.fake_messages_api import KEY, FakeMessagesApi, Message, proposal

EXPERIMENTS = 3
CHANGES = (
    ("MATRIX_LR = 0.02 ", "MATRIX_LR = 0.018 "),
    ("EMBEDDING_LR = 0.1 ", "EMBEDDING_LR = 0.12 "),
    ("WARMDOWN_RATIO = 0.6 ", "WARMDOWN_RATIO = 0.5 "),
)
SETTINGS = {
    "ANTHROPIC_API_KEY": KEY,
    "AUTORESEARCH_CLAUDE__ENDPOINT": "anthropic",
    # a short training and audit, and time enough for the rest of a trial on a busy machine
    "AUTORESEARCH_PROFILE__CPU__TIME_BUDGET_S": "6",
    "AUTORESEARCH_PROFILE__CPU__GRACE_S": "30",
    "AUTORESEARCH_PROFILE__CPU__LOAD_BUDGET_S": "60",
    "AUTORESEARCH_PROFILE__CPU__SCORE_BUDGET_S": "90",
    "AUTORESEARCH_PROFILE__CPU__CPUS": "2",
    "AUTORESEARCH_PROFILE__CPU__SMALL_K": "32",
    "AUTORESEARCH_PROFILE__CPU__LARGE_K": "64",
    "AUTORESEARCH_NOISE__RULE": "lowest",  # one trial of each
    "AUTORESEARCH_CONTENTION__MAX_EXTRA_WAIT_SHARE": "1",
}
TODAY = datetime.now(UTC).date()
OUTPUT_TOKENS = 7_777
A_RUN_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one model; USD."""

    model: str
    judged: int
    asked: int
    refused: tuple[str, ...]
    billed: float
    recorded: float
    reported: str  # as the report shows it

    @property
    def is_equal(self) -> bool:
        """Whether all three say the same, the record to a millionth of a cent."""
        return abs(self.billed - self.recorded) < 1e-8 and f"{self.billed:.2f}" == self.reported

    def __str__(self) -> str:
        """In a line."""
        counts = f"{self.judged} experiments, {self.asked} requests, {len(self.refused)} refused"
        sums = f"billed ${self.billed:.6f}, record ${self.recorded:.6f}, report ${self.reported}"
        return f"{self.model}: {counts}; {sums}{'' if self.is_equal else '  DIFFERS'}"


def main(model: str | None) -> int:
    """Run a model or all that are not retired; return 1 unless each experiment was judged and all bills are equal."""
    names = [model] if model else [name for name, row in MODELS.items() if row.retires is None or row.retires > TODAY]
    outcomes = []
    for name in names:  # each in a task of its own, whose train.py nothing was kept in
        with tempfile.TemporaryDirectory(prefix="models-") as folder:
            outcomes.append(run(name, make_task(Path(folder))))
        print(outcomes[-1], flush=True)
    judged, refused = sum(o.judged for o in outcomes), [words for o in outcomes for words in o.refused]
    equal = sum(o.is_equal for o in outcomes)
    print(*refused, sep="\n", end="\n" if refused else "")
    print(
        f"emulator: {len(outcomes)} models, {judged} experiments, {len(refused)} refused,"
        f" bills equal {equal} of {len(outcomes)}"
    )
    return int(judged < EXPERIMENTS * len(names) or bool(refused) or equal < len(names))


def run(model: str, task: Path) -> Outcome:
    """Run a session of the loop, and read its bill in three places."""
    with FakeMessagesApi(today=TODAY) as api:
        changes = itertools.cycle(CHANGES)  # one that was refused is asked for again
        api.always = lambda _: propose(*next(changes))
        api.lessons = teach(model)
        words = ("--experiments", str(EXPERIMENTS), "--proposer", "claude", "--model", model, "--base-url", api.url)
        finish(command("loop", task, model, "--profile", "cpu", *words))
        page = finish(command("report", task, model)).removeprefix("report: ").strip()
    with Journal.read(task / "runs" / model) as journal:
        experiments, recorded = journal.experiments(), journal.charged().cost_usd
    (reported,) = re.findall(r"<b>\$([\d.]+)</b> and .* for the whole run", Path(page).read_text(encoding="utf-8"))
    return Outcome(
        model=model,
        judged=sum(e.is_judged and e.model == model for e in experiments),
        asked=len(api.checks) + len(api.requests),
        refused=tuple(api.refused),
        billed=api.bill_usd,
        recorded=recorded,
        reported=reported,
    )


def propose(search: str, replace: str) -> Message:
    """Return an answer with a change."""
    return measured(proposal(search, replace, f"{replace.strip()} is better"))


def teach(run: str) -> Message:
    """Return an answer with a lesson of the run's first experiment."""
    lesson = {"lesson": "The learning rate of the matrices matters.", "experiments": [f"{run}/1"]}
    return measured(json.dumps({"lessons": [lesson]}))


def measured(arguments: str) -> Message:
    """Return an answer whose input is counted by the emulator."""
    return Message(arguments=arguments, input_tokens=None, output_tokens=OUTPUT_TOKENS)


def finish(argv: list[str]) -> str:
    """Return what a command printed. Raises SystemExit with the end of it if it fails."""
    environment: dict[str, Any] = {**os.environ, **SETTINGS}
    done = subprocess.run(argv, env=environment, text=True, capture_output=True, timeout=A_RUN_S, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(argv)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.every_model")
    parser.add_argument("--model", help="only this one")
    sys.exit(main(**vars(parser.parse_args())))
