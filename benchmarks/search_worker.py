"""Scores candidates of examples/code-size and examples/kernel, one a line of standard input, each in a fork of its own.

Runs in a container of the image: `search_worker.py code-size|kernel`, with the example's locked/ on its path. A line is
a JSON object with `source` and `seed`; the answer is one with `value`, or `failed` and why.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

TRAINING_S = 0.3  # processor seconds of a code-size training; 12 s of wall-clock time in the example
RESERVE_S = 1.5  # what its train.py leaves of the example's budget
LIMIT_S = 60  # of a candidate in all, by the wall clock: a limit of processor time would make its clock coarse
PAIRS = 5  # of times of kernel and reference


def score_code_size(source: str, seed: int) -> float:
    """Train as long as the budget says, by the processor's clock, and return the error on the validation functions."""
    import numpy as np
    import prepare
    import torch

    began = time.process_time()
    scale = (prepare.TIME_BUDGET - RESERVE_S) / TRAINING_S
    prepare.SEED = seed
    prepare.time_left = lambda: prepare.TIME_BUDGET - (time.process_time() - began) * scale
    prepare.load = lambda *_: DATA["train"]
    with tempfile.TemporaryDirectory() as folder:
        prepare.CHECKPOINT = Path(folder, "checkpoint.pt")
        run(source, "__main__")
        model = run(source, "train")["load_model"](str(prepare.CHECKPOINT), "cpu")
    features, sizes = DATA["val"]
    with torch.no_grad():
        found = model(torch.from_numpy(features)).double().numpy()
    return float(np.sqrt(((found - sizes) ** 2).mean()))


def score_kernel(source: str, seed: int) -> float:
    """Return the median of the candidate's time in times of the reference's, both by the processor's clock."""
    import numpy as np
    import problem

    chance = np.random.default_rng(seed)
    programs = [run(text, "subject")["nearest"] for text in (source, DATA["reference"])]
    for kind in problem.KINDS:
        question = problem.draw(chance, kind)
        got, wanted = (program(question.points, question.queries).tobytes() for program in programs)
        if fault := problem.find_fault(got, wanted):
            raise ValueError(fault)
    ratios = []
    for _ in range(PAIRS):
        question, times = problem.draw(chance), [0.0, 0.0]
        for which in chance.permutation(2):
            began = time.process_time()
            programs[which](question.points, question.queries)
            times[which] = time.process_time() - began
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))


def run(source: str, name: str) -> dict:
    """Execute a source as a module of a name; return its names."""
    names = {"__name__": name}
    exec(compile(source, "train.py", "exec"), names)
    return names


def in_fork(task, source: str, seed: int) -> dict:
    """Score in a process of its own, which is ended when its time is over."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.alarm(LIMIT_S)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            answer = {"value": task(source, seed)}
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            answer = {"failed": f"{type(error).__name__}: {error} (line {where.lineno})"}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(data) if data else {"failed": "it used up its time"}


def warm_up() -> None:
    """Take a step before the forks: what torch imports with the first one is no part of a training."""
    import torch

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    averaged = torch.optim.swa_utils.AveragedModel(model)
    model(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    averaged.update_parameters(model)


DATA: dict = {}


def main() -> None:
    """Prepare the data, say so, and answer until the input ends."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if sys.argv[1] == "kernel":
        import problem

        DATA["reference"] = Path(problem.__file__).with_name("reference.py").read_text(encoding="utf-8")

        task = score_kernel
    else:
        import prepare
        import torch

        torch.set_num_threads(1)
        DATA.update({side: prepare.load(Path("/data", side)) for side in ("train", "val")})
        task = score_code_size
        warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(in_fork(task, asked["source"], asked["seed"])), flush=True)


if __name__ == "__main__":
    main()
