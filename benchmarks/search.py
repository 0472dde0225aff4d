"""Which source of ideas finds more in the same number of trainings? Arms side by side, several seeds each.

    .venv/bin/python -m benchmarks.search [--task code-size] [--seeds 8] [--minutes 10] [--ideas FOLDER]

code-size needs the engine and the image (`make image`). The real loop with its rules of keeping runs real proposers:

random  every constant of train.py anywhere between a quarter and four times its value
tpe     the sweep: one to three constants of the best file at a time, by Optuna's TPE
replay  the recorded ideas of search_ideas/TASK.json in order, each on the best file if it fits; kernel has none of a
        language model, and its hand-written drafts/ take their place
mix     ideas and sweep in turns, as the loop's `mix` takes them; the sweep alone when the ideas are used up

What stands in for the experiments in containers, of which 1,536 would take five hours: all candidates run in forks of
one process, single-threaded. A training of code-size, in a container without network, has 0.3 s of processor time
instead of 12 s, and its score is not audited; kernel, in a plain process, times five pairs by the processor's clock.
Gains are therefore those of these small budgets.

Champion and baseline are scored again with three seeds that no search saw; what is reported is the difference of the
means, over the arm's seeds, with a 95 % bootstrap interval of the mean.

Every run that has ended is a line in build/bench/search/TASK.jsonl: the command may be interrupted and goes on there.
With --ideas the trials that were recorded with ideas for the cpu profile are summed up, too; nothing is run again.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna

from orchestrator.config import Config, load
from orchestrator.errors import BudgetExhausted, PatchRejected, ProposerUnavailable
from orchestrator.loop import run_session
from orchestrator.propose import tunables
from orchestrator.propose.mix import MixProposer
from orchestrator.propose.sweep import SweepProposer
from orchestrator.protocols import Proposer
from orchestrator.record.experiment_dir import source_path
from orchestrator.record.session_log import log_to
from orchestrator.types import Candidate, Context, Edit, Plan, Proposal, Reply, Stages, Status, Trial
from tests.support import fakes
from tests.support.sessions import open_session

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "bench" / "search"
IMAGE = "autoresearch-sandbox:cpu"
IN_CONTAINER = ("code-size",)  # it needs torch, which the image has
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
ARMS = ("random", "tpe", "replay", "mix")
BUDGETS = (12, 24, 48)  # trainings
FRESH_SEEDS = (10_001, 10_002, 10_003)
DRAWS = 200  # before there is nothing new
ASKS = 4 * BUDGETS[-1]  # of a proposer, most of whose ideas are refused
LLM_SHARE = 0.3  # as in task.toml
RESAMPLES = 10_000
STANDS_IN = {
    "code-size": "gain in val_rmse; trainings of 0.3 s of processor time in one container, not 12 s in their own",
    "kernel": "gain in time_ratio; timed in one process, no container; its ideas are five hand-written drafts",
}
TASKS = tuple(STANDS_IN)
PUBLISHED = (  # best val_bpb after 24 h of trainings, mean and standard deviation of 3 seeds, and failed trials
    ("Centaur (CMA-ES and Opus 4.6)", 0.9739, 0.0012, 17),
    ("TPE", 0.9768, 0.0019, 11),
    ("agent that edits the code (Opus 4.6)", 0.9770, 0.0027, 5),
    ("SMAC", 0.9778, 0.0020, 36),
    ("CMA-ES", 0.9785, 0.0036, 16),
    ("agent that edits the code (Qwen3.5 27B)", 0.9814, 0.0046, 12),
    ("random", 0.9873, 0.0021, 56),
    ("agent that sets 14 constants (Qwen3.5 27B)", 0.9904, 0.0002, 1),
)


# -- scoring


def command_here(task: str) -> list[str]:
    """Return the command of a plain process: the files are recorded ones and constants of ours."""
    return [sys.executable, "-B", str(ROOT / "benchmarks" / "search_worker.py"), task]


def command_in_container(task: str, data: Path) -> list[str]:
    """Return the command of a container without network."""
    example = ROOT / "examples" / task
    mounts = {ROOT / "benchmarks" / "search_worker.py": "/worker.py", example / "locked": "/locked", data: "/data"}
    command = ["docker", "run", "--rm", "-i", "--network=none", "--cpus=1", "--memory=2g", "--pids-limit=64"]
    command += ["--tmpfs=/tmp", "--user=65534", "--cap-drop=ALL", "--read-only"]
    for key, value in {"PYTHONPATH": "/locked", "HOME": "/tmp", **ONE_THREAD}.items():  # noqa: S108  # a tmpfs
        command += ["-e", f"{key}={value}"]
    for source, target in mounts.items():
        command += ["-v", f"{source}:{target}:ro"]
    return [*command, IMAGE, "python3", "-B", "/worker.py", task]


class Scorer(Protocol):
    """Scores a candidate."""

    def score(self, source: str, seed: int) -> dict[str, Any]:
        """Return `value`, or `failed` and why."""


class Worker:
    """A process that scores candidates, one after the other."""

    def __init__(self, task: str, data: Path) -> None:
        """Start it and wait until it is ready."""
        command = command_in_container(task, data) if task in IN_CONTAINER else command_here(task)
        variables = {**os.environ, "PYTHONPATH": str(ROOT / "examples" / task / "locked"), **ONE_THREAD}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)
        if self._line() != "ready\n":
            raise RuntimeError("search: what scores did not start; `make image` makes its image")

    def score(self, source: str, seed: int) -> dict[str, Any]:
        """Return `value`, or `failed` and why."""
        assert self.process.stdin is not None  # noqa: S101  # it is a pipe
        self.process.stdin.write(json.dumps({"source": source, "seed": seed}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def _line(self) -> str:
        assert self.process.stdout is not None  # noqa: S101
        return self.process.stdout.readline()


@dataclass(slots=True, kw_only=True)
class Runner(fakes.ArithmeticRunner):
    """Lets a worker score each trial."""

    worker: Scorer
    trials: int = 0

    def run(  # the folder and the best score are of no use here
        self,
        candidate: Candidate,
        plan: Plan,
        *,
        experiment_id: int,  # noqa: ARG002
        folder: Path,  # noqa: ARG002
        best: float | None,  # noqa: ARG002
    ) -> Trial:
        """Score once, with the trial's seed."""
        self.trials += 1
        found = self.worker.score(candidate.source, plan.train_seed)
        if "value" in found:
            return fakes.scored(found["value"])
        return fakes.broken(Status.CRASH, found["failed"])


# -- the arms


@dataclass(slots=True, kw_only=True)
class RandomProposer:
    """Draws every constant of the baseline at once; knows nothing of what was scored."""

    profile: str
    seed: int
    name: str = "random"
    _drawn: int = 0
    _baseline: str = ""
    _seen: set[str] = field(default_factory=set)

    def ask(self, context: Context) -> Reply:
        """Return the baseline with other constants, not drawn before. Raises ProposerUnavailable if there are none."""
        baseline = self._baseline = self._baseline or context.champion_source  # at first it is the only file
        self._seen.add(baseline)
        knobs = tunables.find_tunables(baseline, self.profile)
        for _ in range(DRAWS):
            self._drawn += 1
            chance = random.Random(f"{self.seed}/{self._drawn}")  # noqa: S311  # no secret
            values = {name: draw(knob, chance) for name, knob in knobs.items()}
            source = apply(baseline, tunables.edits_for(baseline, knobs, values))
            if source not in self._seen:
                self._seen.add(source)
                words = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()))
                return Reply(proposer=self.name, model="", text=json.dumps({"hypothesis": words, "source": source}))
        raise ProposerUnavailable("every value of the constants was drawn")

    def read(self, reply: Reply) -> Proposal:
        """Return the file that `ask` wrote."""
        return Proposal(**json.loads(reply.text), retry_rationale="it was drawn")


def draw(knob: tunables.Tunable, chance: random.Random) -> tunables.Value:
    """Return a value of a constant, uniform over the sweep's range, on a logarithmic scale where that has one."""
    sampler = optuna.samplers.RandomSampler(seed=chance.randrange(2**31))
    study = optuna.create_study(sampler=sampler)
    return knob.to_value(study.ask(fixed_distributions={"x": knob.distribution()}).params["x"])


def apply(source: str, edits: Sequence[Edit]) -> str:
    """Return a source with edits made to it."""
    for edit in edits:
        source = source.replace(edit.search, edit.replace, 1)
    return source


@dataclass(slots=True, kw_only=True)
class IdeasProposer:
    """Proposes recorded ideas in their order; one whose edits do not fit the best file is left out."""

    ideas: Sequence[Mapping[str, Any]]
    name: str = "ideas"
    asked: int = 0

    def ask(self, context: Context) -> Reply:
        """Return the next idea that fits. Raises BudgetExhausted after the last one."""
        while self.asked < len(self.ideas):
            idea = self.ideas[self.asked]
            self.asked += 1
            if all(context.champion_source.count(edit["search"]) == 1 for edit in idea.get("edits", ())):
                return Reply(proposer=self.name, model="recorded", text=json.dumps(idea))
        raise BudgetExhausted(f"all {len(self.ideas)} ideas were proposed")

    def read(self, reply: Reply) -> Proposal:
        """Return an idea as edits, or as a whole file."""
        idea = json.loads(reply.text)
        edits = tuple(Edit(**edit) for edit in idea.get("edits", ()))
        return Proposal(
            hypothesis=idea["hypothesis"], edits=edits, source=idea.get("source"), retry_rationale="it was recorded"
        )


@dataclass(slots=True, kw_only=True)
class UntilEmpty:
    """Asks the ideas, and the sweep when they are used up."""

    ideas: IdeasProposer
    sweep: SweepProposer
    name: str = "ideas"

    def ask(self, context: Context) -> Reply:
        """Return an idea of either."""
        try:
            return self.ideas.ask(context)
        except BudgetExhausted:
            return self.sweep.ask(context)

    def read(self, reply: Reply) -> Proposal:
        """Parse a reply of the ideas; the mix gives the sweep its own."""
        return self.ideas.read(reply)


@dataclass(slots=True, kw_only=True)
class Watched:
    """Another proposer, until the trainings are used up; notes what the best file was after so many."""

    inner: Proposer
    runner: Runner
    name: str = "watched"
    found: dict[int, str] = field(default_factory=dict)
    asked: int = 0

    def ask(self, context: Context) -> Reply:
        """Return the other one's idea. Raises BudgetExhausted when the trainings are used up, or its ideas."""
        for budget in BUDGETS:
            if self.runner.trials >= budget:
                self.found.setdefault(budget, context.champion_source)
        self.asked += 1
        if self.runner.trials >= BUDGETS[-1] or self.asked > ASKS:
            raise BudgetExhausted("all trainings were used, or all ideas are refused")
        try:
            return self.inner.ask(context)
        except ProposerUnavailable as error:
            raise BudgetExhausted(str(error)) from error

    def read(self, reply: Reply) -> Proposal:
        """Parse a reply of the other one."""
        return self.inner.read(reply)


def make_arm(arm: str, seed: int, ideas: Sequence[Mapping[str, Any]]) -> Proposer:
    """Return the proposer of an arm."""
    sweep = SweepProposer(profile="cpu", seed=seed)
    recorded = IdeasProposer(ideas=ideas)
    match arm:
        case "random":
            return RandomProposer(profile="cpu", seed=seed)
        case "tpe":
            return sweep
        case "replay":
            return recorded
        case _:
            return MixProposer(llm=UntilEmpty(ideas=recorded, sweep=sweep), sweep=sweep, llm_share=LLM_SHARE)


def read_ideas(task: str) -> list[dict[str, Any]]:
    """Return the recorded ideas of a task: search_ideas/TASK.json, or else the drafts of the example."""
    path = ROOT / "benchmarks" / "search_ideas" / f"{task}.json"
    if path.exists():
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return found
    drafts = sorted((ROOT / "examples" / task / "drafts").glob("*.py"))
    return [{"hypothesis": draft.stem, "source": draft.read_text(encoding="utf-8")} for draft in drafts]


# -- one run


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a session of an arm found."""

    task: str
    arm: str
    seed: int
    trials: int
    experiments: int
    kept: int
    failed: int  # without a score
    base: float  # fresh seeds
    best: dict[int, float]  # after so many trainings, fresh seeds

    def gain(self, budget: int) -> float:
        """Return by how much the best is lower than the baseline."""
        return self.base - self.best[budget]


def make_task(task: str, root: Path) -> Config:
    """Copy an example to a folder and return its config, without claims at the end."""
    ignore = shutil.ignore_patterns("__pycache__", "data", "runs")
    shutil.copytree(ROOT / "examples" / task, root, ignore=ignore)
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    flags = {"tag": "search", "runs": root / "runs", "limits.experiments": 0, "noise.claim_hours": 0.0, "prefetch": 0}
    return load(root, flags)


def search(task: str, arm: str, seed: int, worker: Scorer) -> Run:
    """Run one session in the real loop and score what it found with fresh seeds."""
    memory = Path("/dev/shm")  # noqa: S108  # its many fsyncs are not measured
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="search-") as name:
        config = make_task(task, Path(name, task))
        base = config.mutable_path.read_text(encoding="utf-8")
        runner = Runner(score=fakes.broken, worker=worker)  # type: ignore[arg-type]  # its score is not asked
        watched = Watched(inner=make_arm(arm, seed, read_ideas(task)), runner=runner)
        session = open_session(config, watched, runner)
        proposals = replace(session.proposals, needs_contract=config.task.stages is Stages.TRAIN)
        session = replace(session, proposals=replace(proposals, file_name=config.task.mutable.name))
        with log_to(config.run_path, screen=False), session.journal as journal:
            run_session(session)
            champion = journal.champion()
            if champion is None:
                raise RuntimeError("search: the baseline has no score")
            last = source_path(champion.experiment.folder).read_text(encoding="utf-8")
            experiments = journal.experiments()
    sources = {budget: watched.found.get(budget, last) for budget in BUDGETS}
    fresh = {source: fresh_score(worker, source) for source in {base, *sources.values()}}
    return Run(
        task=task, arm=arm, seed=seed, trials=runner.trials, experiments=len(experiments),
        kept=sum(e.status is Status.KEEP for e in experiments) - 1,
        failed=sum(e.value is None for e in experiments), base=fresh[base],
        best={budget: fresh[source] for budget, source in sources.items()},
    )  # fmt: skip


def fresh_score(worker: Scorer, source: str) -> float:
    """Return the mean over the fresh seeds. Raises RuntimeError where one has no score."""
    found = [worker.score(source, seed) for seed in FRESH_SEEDS]
    if any("value" not in one for one in found):
        raise RuntimeError(f"search: a champion has no score any more: {found}")
    return statistics.fmean(one["value"] for one in found)


# -- what came of it


def interval(values: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean."""
    chance = np.random.default_rng(seed)
    means = chance.choice(np.asarray(values), (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def describe_gains(gains: Sequence[float]) -> str:
    """Return the mean with its interval, which a single seed does not have."""
    low, high = interval(gains)
    return f"{statistics.fmean(gains):.4f}" + (f" [{low:.4f}, {high:.4f}]" if len(gains) > 1 else " [one seed]")


def summary(runs: Sequence[Run]) -> list[str]:
    """Return the table: a line per arm, gains over its own baseline."""
    lines = ["| arm | seeds | " + " | ".join(f"after {budget}" for budget in BUDGETS) + " | kept | failed |"]
    lines.append("|" + " --- |" * (len(BUDGETS) + 4))
    for arm in ARMS:
        mine = [run for run in runs if run.arm == arm]
        if not mine:
            continue
        cells = [describe_gains([run.gain(budget) for run in mine]) for budget in BUDGETS]
        kept, failed = (statistics.fmean(getattr(run, what) for run in mine) for what in ("kept", "failed"))
        lines.append(f"| {arm} | {len(mine)} | {' | '.join(cells)} | {kept:.1f} | {failed:.1f} |")
    return lines


def last_line(runs: Sequence[Run]) -> str:
    """Return the gains after the most trainings in a line."""
    parts = []
    for task in sorted({run.task for run in runs}):
        found = []
        for arm in ARMS:
            gains = [run.gain(BUDGETS[-1]) for run in runs if (run.task, run.arm) == (task, arm)]
            if gains:
                found.append(f"{arm} {describe_gains(gains)}" + (f" ({len(gains)} seeds)" if len(gains) > 1 else ""))
        parts.append(f"{task} {', '.join(found)}")
    return f"search: gain after {BUDGETS[-1]} trainings: " + ("; ".join(parts) or "nothing has been run")


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a file, one a line."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Run(**{**line, "best": {int(n): value for n, value in line["best"].items()}}) for line in lines]


def recorded_ideas(folder: Path) -> str:
    """Return what the trials say that were recorded with ideas: one run, so no interval."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/idea.json"))]
    if not found or "trials" not in found[0]:
        raise SystemExit(f"search: {folder}: no */idea.json with trials there")
    base, best, cells = statistics.fmean(found[0]["trials"]), float("inf"), []
    for count, idea in enumerate(found[1:], start=1):
        if idea["status"] == "keep":
            best = min(best, statistics.fmean(idea["trials"]))
        if count in BUDGETS or count == len(found) - 1:
            cells.append(f"after {count} ideas {base - best:.4f}")
    return f"recorded ideas, cpu profile, one run: baseline {base:.4f}, gain {', '.join(cells)}"


def published() -> list[str]:
    """Return the published table, as its authors have it; another task, another budget."""
    lines = [
        "| arXiv 2603.24647, 8 of 15 methods, val_bpb after 24 h, 3 seeds | mean | sd | failed |",
        "| --- | --- | --- | --- |",
    ]
    return [*lines, *(f"| {name} | {mean:.4f} | {sd:.4f} | {failed} % |" for name, mean, sd, failed in PUBLISHED)]


# -- all runs

WORKERS: dict[str, Worker] = {}  # of this process


def start_worker(task: str, data: str) -> None:
    """Start this process's container."""
    WORKERS[task] = Worker(task, Path(data))


def search_here(task: str, arm: str, seed: int) -> Run:
    """Run one session with this process's container."""
    return search(task, arm, seed, WORKERS[task])


def make_data(task: str) -> Path:
    """Make the data of a task in a container, once."""
    data = BUILD / "data" / task
    if data.exists() or task != "code-size":
        data.mkdir(parents=True, exist_ok=True)
        return data
    staging = data.with_suffix(".new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    command = ["docker", "run", "--rm", "--network=none", f"--user={os.getuid()}:{os.getgid()}"]
    command += ["-e", "PYTHONPATH=/locked:/runtime", "-v", f"{staging}:/out"]
    for source, target in (
        (ROOT / "examples" / task / "locked", "/locked"),
        (ROOT / "orchestrator/runtime", "/runtime"),
    ):
        command += ["-v", f"{source}:{target}:ro"]
    command += [f"{IMAGE}-library", "python3", "-B", "/locked/make_data.py", "--out", "/out"]
    subprocess.run(command, check=True)
    staging.rename(data)
    return data


def main() -> None:
    """Run what is missing until the time is over, then report all runs there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, help="this task alone")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0, help="of a task: no run begins later; 0: only report")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ideas", type=Path, help="folder of recorded ideas with their trials, cpu profile")
    options = parser.parse_args()
    tasks, runs = [options.task] if options.task else TASKS, list[Run]()
    for task in tasks:
        path = BUILD / f"{task}.jsonl"
        done = {(run.arm, run.seed) for run in read_runs(path)}
        wanted = [(arm, seed) for seed in range(1, options.seeds + 1) for arm in options.arms]
        missing = [one for one in wanted if one not in done]
        if missing and options.minutes > 0:
            run_missing(task, missing, path, options)
        found = read_runs(path)
        print(f"{task}, {STANDS_IN[task]}:", *summary(found), "", sep="\n")
        runs += found
    if options.ideas:
        print(recorded_ideas(options.ideas), "", sep="\n")
    print(*published(), "", sep="\n")
    BUILD.mkdir(parents=True, exist_ok=True)
    result = {"line": last_line(runs), "runs": [asdict(run) for run in runs]}
    BUILD.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(last_line(runs))


def run_missing(task: str, missing: Sequence[tuple[str, int]], path: Path, options: argparse.Namespace) -> None:
    """Run sessions side by side; write each down when it ends, and begin none after the minutes are over."""
    data, until = make_data(task), time.monotonic() + 60 * options.minutes
    waiting = list(missing)
    with ProcessPoolExecutor(options.processes, initializer=start_worker, initargs=(task, str(data))) as pool:
        active = {pool.submit(search_here, task, *waiting.pop(0)) for _ in range(min(options.processes, len(waiting)))}
        while active:
            ended = next(as_completed(active))
            active.discard(ended)
            run = ended.result()
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            gains = ", ".join(f"{run.gain(budget):.4f}" for budget in BUDGETS)
            print(f"{run.arm} {run.seed}: {run.trials} trainings, {run.kept} kept, gains {gains}", file=sys.stderr)
            if waiting and time.monotonic() < until:
                active.add(pool.submit(search_here, task, *waiting.pop(0)))


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, PatchRejected) as error:
        sys.exit(str(error))
