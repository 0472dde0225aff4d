"""inspect_ai: an evaluation with one sample per candidate, whose code is what the mock model answers.

The solver writes it to the sandbox and runs it there; the scorer reads the fitted line from there and scores it on the
host.
"""

import asyncio
import json
import math
import os
import sys
from datetime import datetime
from pathlib import Path

from common import Report, candidates, validation, work
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, mean, scorer
from inspect_ai.solver import generate, solver
from inspect_ai.util import sandbox
from inspect_ai.util._sandbox.docker.prereqs import validate_prereqs


def rmse(found, right):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(found, right)) / len(right))


@solver
def train():
    async def solve(state, generate):
        here = sandbox()
        await here.write_file("train.py", state.output.completion)
        for name in ("prepare.py", "points.json"):
            await here.write_file(name, Path(work(), "data", name).read_text(encoding="utf-8"))
        await here.exec(
            [os.environ.get("SANDBOX_PYTHON", "python3"), "train.py"],
            env={"TRAIN": "points.json", "CHECKPOINT": "model.json", "VAL": "/nowhere"},
            timeout=60,
        )
        return state

    return solve


@scorer(metrics=[mean()])
def error():
    async def score(state, target):
        slope, intercept = json.loads(await sandbox().read_file("model.json"))
        asked, right = validation()
        return Score(value=rmse([slope * x + intercept for x in asked], right))

    return score


def choose_sandbox() -> tuple[object, str]:
    """Return Docker where this machine has what inspect_ai asks for, or its local sandbox with the reason."""
    try:
        asyncio.run(validate_prereqs())
    except Exception as why:
        return "local", "local sandbox: " + " ".join(str(why).split()).removeprefix("ERROR: ")
    compose = Path(work(), "compose.yaml")
    compose.write_text(
        "services:\n  default:\n    image: autoresearch-sandbox:cpu\n    x-local: true\n    init: true\n"
        "    command: tail -f /dev/null\n    network_mode: none\n    working_dir: /tmp\n"
        "    cpus: 1.0\n    mem_limit: 1gb\n",
        encoding="utf-8",
    )
    return ("docker", str(compose)), "Docker sandbox"


def main() -> None:
    """Evaluate all candidates, one at a time."""
    found, report = candidates(), Report()
    chosen, note = choose_sandbox()
    report.notes.append(note)
    outputs = [ModelOutput.from_content("mockllm/model", source) for _, source in found]
    for output in outputs:  # without it the mock model counts tokens with a file from the network
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    model = get_model("mockllm/model", custom_outputs=outputs)
    task = Task(
        dataset=[Sample(input="Fit a line.", target="", id=name) for name, _ in found],
        solver=[generate(), train()],
        scorer=error(),
        sandbox=chosen,
    )
    log = eval(task, model=model, max_samples=1, max_sandboxes=1, display="none", log_dir=str(Path(work(), "logs")))[0]
    if log.error:
        sys.exit(log.error.message)
    ended = None
    for sample in sorted(log.samples, key=lambda one: one.completed_at):
        value = sample.scores["error"].value if sample.scores else None
        now = datetime.fromisoformat(sample.completed_at).timestamp()
        report.end(str(sample.id), value, kept=None, seconds=now - ended if ended else sample.total_time)
        ended = now
    report.finish()


if __name__ == "__main__":
    main()
