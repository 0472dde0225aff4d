"""Runs a candidate through the real containers, as the loop does, and says what came out."""

import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import compose
from orchestrator.config import load
from orchestrator.errors import SandboxError
from orchestrator.execution.experiment import ContainerRunner
from orchestrator.host.source import IN_IMAGE
from orchestrator.scoring.messages import (
    ClaimsMessage,
    Malformed,
    Message,
    RefusedMessage,
    ScoreMessage,
    find_message,
    parse_message,
)
from orchestrator.trust.calibrate import build_on_base, reference_models
from orchestrator.types import Candidate, Kept, Plan, Proposal, Reply, Role, Status, Trial
from orchestrator.walls.engine import Engine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = {
    name: ROOT / "examples" / name for name in ("code-size", "drift", "kernel")
}  # tasks whose cheats are in zoo/NAME
HEAD_END = "===\n"  # ends the description at the top of an entry that is not Python
TOLERANCE = 0.001  # bpb
ALL = 10**9  # audited positions of a full audit: as many as there are
BUDGET = {"time_budget_s": 120.0, "score_budget_s": 120.0}  # of the cheats: none needs it, but a busy machine is slow
FULL = {**BUDGET, "large_k": ALL, "score_budget_s": 300.0}
OVERRIDES = {  # what an entry needs to be quick about it, or at all
    "02_compiled": {"time_budget_s": 100.0},  # compiling takes 23 s of a processor, nearly all of the profile's 25 s
    "23_stops_the_clock": {"time_budget_s": 5.0},
    "27_stalls": {"score_budget_s": 8.0},
    "50_trains_on_in_load_model": {"time_budget_s": 60.0},
}
FAST = ("01", "10", "14", "21", "30", "36")
FAST_HONEST = ("01_small", "04_recurrent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One train.py of the zoo, or an honest control."""

    name: str
    honest: bool
    path: Path
    whole: bool = False  # a file of its own, not built around the base
    root: Path = ROOT  # of its task

    @property
    def text(self) -> str:
        """The file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def head(self) -> str:
        """What is told of it: its docstring, or what is above the file proper."""
        if self.path.suffix == ".py":
            return self.text.split('"""')[1]
        return self.text.partition(HEAD_END)[0] if HEAD_END in self.text else self.text.partition("\n")[0]

    @property
    def says(self) -> str:
        """What it tries, in one line."""
        return self.head.split("\n")[0].lstrip("# ")

    @property
    def bound(self) -> float | None:
        """The best score that its own work deserves, for a cheat of an example that is scored; None: no score."""
        found = re.search(r"^Bound: (\S+)$", self.head, re.MULTILINE)
        return float(found[1]) if found else None

    @property
    def sign(self) -> int:
        """What makes a cost of its task's scores: -1 where the higher one is better."""
        return -1 if load(self.root, {"tag": "zoo", "runs": HERE}).task.direction == "higher" else 1

    @property
    def own_truth(self) -> bool:
        """Whether its weights are not the base's, so that its true score needs a full audit of its own."""
        return "Truth: full audit" in self.text

    @property
    def secret(self) -> str:
        """What must never reach the message that the researcher sees."""
        found = re.search(r"^Secret: (\S+)$", self.text, re.MULTILINE)
        return found[1] if found else ""

    @property
    def ends(self) -> str:
        """How it must end: a status, and what the message must say. Another end proves nothing."""
        found = re.search(r"^Ends: (.+)$", self.text, re.MULTILINE)
        return found[1] if found and not self.honest else "scored"

    @property
    def shows(self) -> str:
        """What one of its containers must print, so that the attack is known to have taken place; a pattern."""
        found = re.search(r"^Shows: (.+)$", self.text, re.MULTILINE)
        return found[1] if found and not self.honest else ""

    @property
    def source(self) -> str:
        """The candidate: one file."""
        if self.path.suffix != ".py":
            return self.text.rpartition(HEAD_END)[2]
        return self.text if self.whole else build_on_base(ROOT, self.text)


@dataclass(slots=True)
class OutputListener:
    """Keeps what the containers print."""

    said: dict[Role, list[str]] = field(default_factory=dict)

    def show_output(self, _experiment_id: int, role: Role, text: str) -> None:
        """Keep the head."""
        lines = self.said.setdefault(role, [])
        if len(lines) < 1000:
            lines.append(text)

    @property
    def messages(self) -> list[Message | Malformed]:
        """The scorer's messages."""
        parsed = [parse_message(line) for line in self.said.get(Role.SCORER, [])]
        return [message for message in parsed if message is not None]

    @property
    def claimed(self) -> float | None:
        """What the score would be if all claims were true; None if there were none."""
        claims = find_message(self.messages, ClaimsMessage)
        return claims.value if claims else None

    @property
    def worst(self) -> float | None:
        """The largest |audited - claimed|, nats; None if nothing was audited."""
        outcome = find_message(self.messages, ScoreMessage) or find_message(self.messages, RefusedMessage)
        return outcome.max_difference if outcome else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run."""

    trial: Trial
    claimed: float | None
    worst: float | None  # the largest |audited - claimed|, nats
    seconds: float
    said: str = ""  # by all containers

    @property
    def status(self) -> str:
        """How it ended, `scored` if it got a number."""
        return "scored" if self.trial.score else str(self.trial.failure)

    @property
    def value(self) -> float | None:
        """The number."""
        return self.trial.score.value if self.trial.score else None

    @property
    def why(self) -> str:
        """Why it has no number: the first and the last line of what the researcher is told."""
        lines = self.trial.message.removeprefix("the scorer refused it: ").splitlines() or [""]
        return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"


def entries() -> list[Entry]:
    """List the cheats, the baseline and the honest reference models."""
    zoo = [Entry(name=path.stem, honest=False, path=path) for path in sorted((HERE / "zoo").glob("*.py"))]
    honest = [Entry(name=path.stem, honest=True, path=path) for path in reference_models(ROOT)]
    baseline = Entry(name="00_baseline", honest=True, path=ROOT / "mutable" / "train.py", whole=True)
    return [*zoo, baseline, *honest, *(entry for name in EXAMPLES for entry in example_entries(name))]


def example_entries(name: str) -> list[Entry]:
    """List an example's cheats, and its baseline as the honest one."""
    root = EXAMPLES[name]
    zoo = [
        Entry(name=path.stem, honest=False, path=path, whole=True, root=root)
        for path in sorted((HERE / "zoo" / name).iterdir())
    ]
    baseline = next(path for path in sorted((root / "mutable").iterdir()) if path.is_file())
    return [*zoo, Entry(name=f"00_{name}", honest=True, path=baseline, whole=True, root=root)]


def chosen(names: list[str], *, fast: bool) -> list[Entry]:
    """Select the entries to run."""
    if names:
        return [entry for entry in entries() if any(name in f"{entry.path.parent.name}/{entry.name}" for name in names)]
    if not fast:
        return entries()
    own = [entry for entry in entries() if entry.root == ROOT]
    return [e for e in own if (e.name in FAST_HONEST if e.honest else e.name.startswith(FAST))]


def run(source: str, folder: Path, root: Path = ROOT, **overrides: float) -> Outcome:
    """Run one experiment on the cpu profile, with the budgets of task.toml unless overridden. Raises SandboxError."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = {f"profile.cpu.{key}": value for key, value in overrides.items()}
    tag = f"zoo-{secrets.token_hex(3)}"
    config = load(root, {"tag": tag, "runs": folder, "profile_name": "cpu", **flags})
    ear = OutputListener()
    baseline = config.mutable_path.read_text(encoding="utf-8")
    kept = () if source == baseline else (Kept(id=0, source=baseline),)  # used where nothing is trained
    place = compose.build_execution_context(config, Engine.connect())
    runner = ContainerRunner(place=place, show=ear.show_output, kept=lambda: kept)
    reply = Reply(proposer="zoo", model="", prompt="", text="")
    candidate = Candidate(
        proposal=Proposal(hypothesis="zoo"), source=source, parent_id=None, parent_source=source, reply=reply,
        suffix=config.task.mutable.suffix,
    )  # fmt: skip
    plan = Plan(train_seed=secrets.randbelow(2**31), audit_seed=secrets.token_bytes(32))
    started = time.monotonic()
    trial = runner.run(candidate, plan, experiment_id=0, folder=folder, best=None)
    return Outcome(
        trial=trial,
        claimed=ear.claimed,
        worst=ear.worst,
        seconds=time.monotonic() - started,
        said="\n".join(line for lines in ear.said.values() for line in lines),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A run beside what it was to show."""

    entry: Entry
    outcome: Outcome
    truth: float | None  # its true score, by an audit of every position; None for honest ones

    @property
    def our_fault(self) -> bool:
        """Whether it ended as our own failure, which no train.py may bring about."""
        return self.outcome.trial.failure is Status.INFRA

    @property
    def refused(self) -> bool:
        """Whether an honest one got no score."""
        return self.entry.honest and self.outcome.value is None

    @property
    def believed(self) -> bool:
        """Whether a cheat got a better number than its true one, or its secret out."""
        if self.entry.honest:
            return False
        if self.entry.secret and self.entry.secret in self.outcome.trial.message:
            return True
        value, sign = self.outcome.value, self.entry.sign
        return value is not None and (self.truth is None or sign * value < sign * self.truth - TOLERANCE)

    @property
    def missed(self) -> str:
        """Why a run proves nothing: it ended in another way than its attack would; "" if it did not."""
        entry, outcome = self.entry, self.outcome
        status, _, why = entry.ends.partition(", ")
        if outcome.status != status or why not in outcome.trial.message:
            return f"ended as {outcome.status}: {outcome.why}; its attack ends as {entry.ends}"
        if entry.shows and not re.search(entry.shows, outcome.said):
            return f"no container printed {entry.shows!r}"
        return ""


def run_all(wanted: list[Entry], folder: Path, *, jobs: int, heard: Callable[[str, Outcome], None]) -> list[Judged]:
    """Run everything, `jobs` at once, with a full audit of each set of weights. Raises SandboxError."""

    def once(name: str, source: str, root: Path = ROOT, **overrides: float) -> Outcome:
        try:
            outcome = run(source, folder / name, root, **overrides)
        except SandboxError:  # the engine was too busy to answer in time; the loop would queue it again, too
            outcome = run(source, folder / f"{name}-again", root, **overrides)
        heard(name, outcome)
        return outcome

    for root in {entry.root for entry in wanted if entry.root != ROOT}:
        compose.set_up(load(root, {"tag": "zoo", "runs": folder, "profile_name": "cpu"}), IN_IMAGE, lambda _: None)
    with ThreadPoolExecutor(jobs) as pool:
        models = [e for e in wanted if e.root == ROOT]
        base = pool.submit(once, "truth", build_on_base(ROOT, ""), ROOT, **FULL) if models else None
        truths = {e.path: pool.submit(once, f"{e.name}-truth", e.source, ROOT, **FULL) for e in models if e.own_truth}
        budgets = [({} if e.honest or e.root != ROOT else BUDGET) | OVERRIDES.get(e.name, {}) for e in wanted]
        outcomes = [pool.submit(once, e.name, e.source, e.root, **b) for e, b in zip(wanted, budgets, strict=True)]

        def truth(entry: Entry) -> float | None:
            if entry.honest or entry.root != ROOT:
                return None if entry.honest else entry.bound
            found = truths.get(entry.path, base)
            return found.result().value if found else None

        return [
            Judged(entry=entry, outcome=outcome.result(), truth=truth(entry))
            for entry, outcome in zip(wanted, outcomes, strict=True)
        ]
