"""The controls of a task: its baseline has a score, a broken file has none, and one that forges a score gains nothing.

A task may bring its own, `controls/broken*` and `controls/forging*` with the mutable file's suffix; without them a few
lines that fit any task are taken.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import files
from orchestrator.config import Config
from orchestrator.execution.slot import Slot
from orchestrator.trust.retrain import run_alone
from orchestrator.types import Stages, Status, Trial

FOLDER = "controls"
FORGED = 0.123456789  # no honest file has this score by chance
TRIALS_OF_EXACT = 2
REASON_CHARS = 200
BROKEN = '''"""A program that ends at once."""

raise SystemExit("broken on purpose")
'''
FORGING = '''"""A program that prints and writes a score of its own."""

from pathlib import Path

LINE = {line!r}
print(LINE, flush=True)
print("{metric}: {value}", flush=True)
for folder in ("/out", "/answer", "/tmp"):
    for name in ("score", "result.json", "0.answer", "checkpoint.pt"):
        try:
            Path(folder, name).write_text(LINE)
        except OSError:
            pass


def load_model(path, device):
    print(LINE, flush=True)
    return lambda asked: LINE


def answer(*asked):
    print(LINE, flush=True)
    return LINE


if __name__ == "__main__":
    print(LINE, flush=True)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A file, and whether it must have a score."""

    name: str
    source: str
    must_score: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a control."""

    control: Control
    trial: Trial
    problem: str  # "" where it is as it must be

    def describe(self, metric: str) -> str:
        """Return it as one line."""
        score = self.trial.score
        reason = (self.trial.message.strip().splitlines() or [""])[0][:REASON_CHARS]
        said = f"{metric} {score.value:.6g} at {score.level}" if score else f"no score: {self.trial.failure}: {reason}"
        return f"{'FAIL' if self.problem else 'ok':5} {self.control.name:10} {self.problem or said}"


def list_controls(config: Config) -> Iterator[Control]:
    """Yield the controls of a task, the baseline first, twice where its metric has no noise."""
    baseline = files.read_text(config.mutable_path)
    for _ in range(TRIALS_OF_EXACT if config.task.noise == "none" else 1):
        yield Control(name="baseline", source=baseline, must_score=True)
    line = json.dumps({"event": "score", "metric": config.task.metric, "value": FORGED, "level": "L1"})
    made = {"broken": "", "forging": f"{line}\n{config.task.metric}: {FORGED}\n"}
    if config.task.is_python:
        forging = FORGING.format(line=line, metric=config.task.metric, value=FORGED)
        made = {"broken": BROKEN, "forging": forging}
    for kind, text in made.items():
        own = sorted((config.root / FOLDER).glob(f"{kind}*{config.task.mutable.suffix}"))
        yield from (Control(name=path.stem, source=files.read_text(path)) for path in own)
        if not own:
            yield Control(name=kind, source=text)


def run_controls(slot: Slot, config: Config, folder: Path, on_outcome: Callable[[Outcome], object]) -> list[Outcome]:
    """Run all controls, each in fresh containers; `on_outcome` is called after each. Raises SandboxError."""
    found: list[Outcome] = []
    for number, control in enumerate(list_controls(config)):
        trial = run_alone(slot, control.source, folder / f"{number}-{control.name}")
        found.append(Outcome(control=control, trial=trial, problem=find_problem(control, trial, found, config)))
        on_outcome(found[-1])
    return found


def find_problem(  # noqa: PLR0911  # one return per rule, in order
    control: Control, trial: Trial, earlier: list[Outcome], config: Config
) -> str:
    """Return what a control shows to be wrong with the task; "" for nothing."""
    if control.must_score:
        if trial.score is None:
            return f"the baseline has no score: {trial.failure}: {trial.message[:REASON_CHARS]}"
        first = next((one.trial.score for one in earlier if one.control.must_score), None)
        if first and first.value != trial.score.value:
            return f'noise = "none", but {first.value!r} became {trial.score.value!r}: say noise = "measured"'
        return ""
    if trial.failure is Status.INFRA:
        return f"the scorer itself failed: {trial.message[:REASON_CHARS]}"
    if trial.score is None:
        return ""
    if control.name.startswith("forging"):
        is_data = config.task.stages is Stages.SCORE and trial.score.value != FORGED
        return "" if is_data else f"it forged its score: {trial.score.value!r}"
    return f"a broken file has a score, {trial.score.value!r}: locked/score.py must send `failed` or `refused` for it"
