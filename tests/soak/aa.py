"""What does the loop keep if nothing is there to be found, and does it find what is? Through the real containers.

    make aa NULLS=30            # python -m tests.soak.aa [--nulls 30] [--seed 1] [--only quiet|busy]

Patches that change nothing (an unused constant, an unused function, an unused local, a renamed one) and a few whose
gain is known go through the real loop, on a machine that is otherwise idle and then beside a second process that
works at half load in bursts. The gains: the run begins with constants of train.py that were made worse, and each
planted patch puts one right. What was kept duels with its parent: that is the claim. GAINS says what each is worth,
measured with a fixed number of steps, so that no other load on the machine played a part. Needs the engine, the image
and the data (`make image prepare-data`), and for the quiet half a machine on which nothing else works.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import compose
from orchestrator.config import Config, load
from orchestrator.duels import Duel
from orchestrator.errors import BudgetExhausted
from orchestrator.events import DuelEnded
from orchestrator.execution.slot import Slot
from orchestrator.loop import run_session
from orchestrator.policy import Rules
from orchestrator.record.journal import Journal
from orchestrator.trust.claim import run_duel
from orchestrator.types import Context, DuelOutcome, Proposal, Reply, Status

ROOT = Path(__file__).parents[2]
NAME, NULL, PLANTED = "aa", "null", "planted"
BUSY = """
import os, random, sys, time
parent, seed, processors = map(int, sys.argv[1:])
chance = random.Random(seed)
for _ in range(processors - 1):
    if os.fork() == 0:
        break
while os.path.exists(f"/proc/{parent}"):
    until = time.monotonic() + chance.uniform(5.0, 40.0)
    while time.monotonic() < until:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass
        time.sleep(0.05)
    time.sleep(chance.uniform(5.0, 40.0))
"""  # half of every processor in bursts, ends with its parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A constant of train.py: how it is shipped, a worse value, and by how much the score is worse with that."""

    constant: str
    worse: str
    shipped: str
    worth: float


GAINS = (  # bpb, each with the other still worse or right already; 290 steps, one seed, cpu profile, two cores
    Gain(constant="MATRIX_LR", worse="0.008", shipped="0.02", worth=0.11),
    Gain(constant="EMBEDDING_LR", worse="0.02", shipped="0.1", worth=0.09),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What came of a run."""

    nulls: int = 0
    kept: int = 0
    claimed: int = 0  # null patches that a duel shows to be a gain over their parents
    planted: int = 0
    found: int = 0
    shown: int = 0  # planted gains, likewise
    waited: tuple[float, ...] = ()  # the share of its time that each training waited

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            nulls=self.nulls + other.nulls, kept=self.kept + other.kept, claimed=self.claimed + other.claimed,
            planted=self.planted + other.planted, found=self.found + other.found, shown=self.shown + other.shown,
            waited=self.waited + other.waited,
        )  # fmt: skip

    def __str__(self) -> str:
        """In a line."""
        waited = f"{statistics.fmean(self.waited):.1%}".replace("%", " %") if self.waited else "unknown"
        nulls = f"{self.nulls} null patches, {self.kept} kept, {self.claimed} claimed"
        return f"{nulls}; {self.planted} planted, {self.found} kept; waited {waited}"


@dataclass(slots=True, kw_only=True)
class Patches:
    """A proposer of patches that change nothing, with planted ones in between."""

    plan: Sequence[Gain | None]  # None: a null patch
    name: str = NAME
    _asked: int = 0

    def ask(self, context: Context) -> Reply:
        """The next one, of the best file there is. Raises BudgetExhausted after the last one."""
        if self._asked >= len(self.plan):
            raise BudgetExhausted(f"all {len(self.plan)} patches were tried")
        gain, number = self.plan[self._asked], self._asked
        self._asked += 1
        hypothesis, source = (
            plant(context.champion_source, gain) if gain else null_patch(context.champion_source, number)
        )
        text = json.dumps({"hypothesis": hypothesis, "source": source})
        return Reply(proposer=NAME, model=PLANTED if gain else NULL, text=text, parent_id=context.champion.id)

    def read(self, reply: Reply) -> Proposal:
        """As it was written; that it is close to others is the point."""
        return Proposal(**json.loads(reply.text), retry_rationale="it changes nothing, or what is known")


def plan_patches(nulls: int, gains: Sequence[Gain], chance: random.Random) -> list[Gain | None]:
    """Return the order in which they come: the planted ones anywhere."""
    order: list[Gain | None] = [None] * nulls
    for gain in gains:
        order.insert(chance.randrange(len(order) + 1), gain)
    return order


def plant(source: str, gain: Gain) -> tuple[str, str]:
    """Return the hypothesis and the file with a constant put right."""
    return f"{gain.constant} = {gain.shipped}", set_constant(source, gain.constant, gain.shipped)


def set_constant(source: str, name: str, value: str) -> str:
    """Return a source with another value of a constant, where it is set first."""
    changed, count = re.subn(rf"(?m)^(\s*{name} = )[^#\n]*?(\s*(?:#.*)?)$", rf"\g<1>{value}\g<2>", source, count=1)
    assert count == 1, f"{name} is not set"
    return changed


def null_patch(source: str, number: int) -> tuple[str, str]:
    """Return the hypothesis and the file of a patch that changes nothing but its own fingerprint."""
    ways = (_unused_constant, _unused_function, _unused_local, _renamed_local)
    what, changed = ways[number % len(ways)](source, number)
    return f"{what}, patch {number}", changed


def _unused_constant(source: str, number: int) -> tuple[str, str]:
    return "an unused constant", _insert(source, _first_definition(source), f"UNUSED_{number} = {number}\n\n")


def _unused_function(source: str, number: int) -> tuple[str, str]:
    text = f"def unused_{number}():\n    return {number}\n\n\n"
    return "an unused function", _insert(source, _first_definition(source), text)


def _unused_local(source: str, number: int) -> tuple[str, str]:
    function = _functions(source)[-1]
    indent = " " * function.body[0].col_offset
    return "an unused local", _insert(source, function.body[-1].lineno, f"{indent}unused_{number} = {number}\n")


def _renamed_local(source: str, number: int) -> tuple[str, str]:
    """Rename a local of the last function that has one, wherever it stands in it."""
    for function in reversed(_functions(source)):
        given = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        stored = [n.id for n in names if n.id not in given]
        if not stored:
            continue
        lines = source.encode().splitlines(keepends=True)
        places = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == stored[0]]
        for place in sorted(places, key=lambda n: (n.lineno, n.col_offset), reverse=True):
            line = lines[place.lineno - 1]
            lines[place.lineno - 1] = (
                line[: place.col_offset] + f"{stored[0]}_{number}".encode() + line[place.end_col_offset :]
            )
        return f"{stored[0]} renamed", b"".join(lines).decode()
    return _unused_constant(source, number)


def _functions(source: str) -> list[ast.FunctionDef]:
    """Return the functions of a module that have no functions of their own, which could share a name."""
    inner = (ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.Global, ast.Nonlocal, ast.JoinedStr)  # whose places are off
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [f for f in found if not any(isinstance(n, inner) for n in ast.walk(f) if n is not f)]


def _first_definition(source: str) -> int:
    kinds = (ast.FunctionDef, ast.ClassDef)
    first = next(node for node in ast.parse(source).body if isinstance(node, kinds))
    return min([first.lineno, *(decorator.lineno for decorator in first.decorator_list)])


def _insert(source: str, before_line: int, text: str) -> str:
    lines = source.splitlines(keepends=True)
    return "".join([*lines[: before_line - 1], text, *lines[before_line - 1 :]])


def make_task(root: Path, gains: Sequence[Gain], example: Path = ROOT) -> Path:
    """Copy a task, its constants made worse; the prepared data is shared."""
    for name in ("locked", "mutable"):
        shutil.copytree(example / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("program.md", "task.toml"):
        shutil.copy(example / name, root)
    if (example / "data").is_dir():
        (root / "data").symlink_to(example / "data")
    train = root / "mutable" / "train.py"
    for gain in gains:
        train.write_text(set_constant(train.read_text(encoding="utf-8"), gain.constant, gain.worse), encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def run(config: Config, patches: Patches, pairs: int = 0) -> Counts:
    """Let the real loop try all of them, and duel what it kept with its parent. Raises AutoresearchError.

    Returns what came of it; without `pairs` there are no duels.
    """
    with compose.open_session(config, lambda journal: journal.subscribe(show)) as opened:
        session = replace(opened, proposals=replace(opened.proposals, proposer=patches))
        run_session(session)
    if pairs:
        with Journal.open(config.run_path) as journal:
            duel_kept(journal, compose.make_single_slot(config), session.rules, pairs)
    with Journal.read(config.run_path) as journal:
        return count(journal)


def duel_kept(journal: Journal, slot: Slot, rules: Rules, pairs: int) -> None:
    """Duel each patch that was kept with its parent, in so many pairs at most. Raises SandboxError."""
    kept = [e for e in journal.kept() if e.proposer == NAME and e.parent_id is not None]
    with slot:
        for experiment in kept:
            duel = Duel(champion_id=experiment.id, rival_id=experiment.parent_id or 0, most=pairs)
            run_duel(journal, slot, rules, duel, lambda _: None)


def count(journal: Journal) -> Counts:
    """Return what came of the patches of a run; one that was run again counts once, at its end."""
    experiments = journal.experiments()
    again = {e.retry_of for e in experiments}
    last = [e for e in experiments if e.id not in again and e.proposer == NAME]
    nulls, planted = ([e for e in last if e.model == kind] for kind in (NULL, PLANTED))
    ended = [recorded.event for recorded in journal.events(DuelEnded)]
    parents = {e.id: e.parent_id for e in last}
    shown = {
        d.champion_id for d in ended if d.outcome is DuelOutcome.SHOWN and parents.get(d.champion_id) == d.rival_id
    }
    shares = [load.wait_share for e in experiments for load in e.loads if load is not None]
    return Counts(
        nulls=len(nulls),
        kept=sum(e.status is Status.KEEP for e in nulls),
        claimed=sum(e.id in shown for e in nulls),
        planted=len(planted),
        found=sum(e.status is Status.KEEP for e in planted),
        shown=sum(e.id in shown for e in planted),
        waited=tuple(share for share in shares if share is not None),
    )


def show(recorded: Any) -> None:  # whatever happens in a run
    """Print a line for each experiment."""
    if (experiment := getattr(recorded.event, "experiment", None)) is not None:
        scores = ", ".join(f"{score:.4f}" for score in experiment.scores)
        print(f"{experiment.id:4} {experiment.status:9} {scores:30} {experiment.hypothesis}", flush=True)


@contextmanager
def second_process(seed: int) -> Iterator[int]:
    """Let a second process work at half load, in bursts, while the block runs; yields its group."""
    argv = [sys.executable, "-c", BUSY, str(os.getpid()), str(seed), str(len(os.sched_getaffinity(0)))]
    busy = subprocess.Popen(argv, start_new_session=True)
    try:
        yield busy.pid
    finally:
        os.killpg(busy.pid, signal.SIGKILL)
        busy.wait()


def main() -> int:
    """Run both halves; return 1 if a null patch was claimed, two were kept in a half, or a gain was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.aa", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nulls", type=int, default=30, help="patches that change nothing, in each half")
    parser.add_argument("--seed", type=int, default=1, help="of their order, and of the second process's bursts")
    parser.add_argument("--pairs", type=int, default=6, help="of the duel that each kept patch has with its parent")
    parser.add_argument("--only", choices=("quiet", "busy"), help="one half")
    options = parser.parse_args()
    total, bad = Counts(), False
    for half in ("quiet", "busy"):
        if options.only in (None, half):
            counts = run_half(half, options.nulls, options.seed, options.pairs)
            print(f"{half}: {counts}; {counts.shown} of {counts.planted} planted gains claimed", flush=True)
            missed = counts.found < counts.planted or counts.shown < counts.planted
            total, bad = total + counts, bad or counts.kept > 1 or counts.claimed > 0 or missed
    print(f"aa: {total}")
    return int(bad)


def run_half(half: str, nulls: int, seed: int, pairs: int) -> Counts:
    """Run all patches, quiet or beside a second process."""
    order = plan_patches(nulls, GAINS, random.Random(seed))  # noqa: S311  # no secret
    with tempfile.TemporaryDirectory(prefix="aa-") as name:
        task = make_task(Path(name), GAINS)
        flags = {
            "tag": f"aa-{half}",
            "runs": task / "runs",
            "profile_name": "cpu",
            "corpus": "python",
            "proposer": "sweep",
        }
        config = load(task, {**flags, "limits.experiments": 0})
        with second_process(seed) if half == "busy" else nullcontext():
            return run(config, Patches(plan=order), pairs)


if __name__ == "__main__":
    sys.exit(main())
