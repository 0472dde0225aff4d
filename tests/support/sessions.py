"""A session of the real loop, with a scripted proposer and a runner that only computes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from orchestrator.config import Config, load
from orchestrator.proposals import Proposals
from orchestrator.protocols import Proposer, Runner
from orchestrator.record.git_branch import ResultBranch
from orchestrator.record.journal import Journal
from orchestrator.session import Session
from orchestrator.types import Trial
from tests.support import fakes

ROOT = Path(__file__).parents[2]


def task(tmp_path: Path, experiments: int = 3) -> Config:
    """A task directory with a tiny train.py, under git."""
    (tmp_path / "mutable").mkdir(parents=True, exist_ok=True)
    (tmp_path / "mutable" / "train.py").write_text(fakes.TRAIN_PY)
    (tmp_path / "task.toml").write_text((ROOT / "task.toml").read_text())
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    return load(tmp_path, {"tag": "t", "runs": tmp_path / "runs", "limits.experiments": experiments})


def session(
    config: Config, score: Callable[[str], Trial], rates: list[str]
) -> tuple[Session, fakes.ScriptedProposer, fakes.ArithmeticRunner]:
    """Everything a session needs, nothing of it mocked but what runs containers and asks an LLM."""
    proposer, runner = fakes.ScriptedProposer(rates), fakes.ArithmeticRunner(score)
    return open_session(config, proposer, runner), proposer, runner


def open_session(config: Config, proposer: Proposer, *runners: Runner, journal: Journal | None = None) -> Session:
    """Return a session of the real loop around a proposer and runners, on the run's own journal or an open one."""
    journal = journal or Journal.open(config.run_path)
    proposals = Proposals(
        journal=journal, proposer=proposer, max_attempts=config.claude.max_attempts, asks_ahead=config.asks_ahead,
        rules=tuple((rule.pattern, rule.reason) for rule in config.rules), needs_contract=not config.self_reported,
        noise=config.noise,
    )  # fmt: skip
    branch = ResultBranch(path=config.mutable_path, tag=config.tag)
    return Session(config=config, journal=journal, proposals=proposals, runners=runners, branch=branch)


def parabola(source: str) -> Trial:
    """Best at a learning rate of 0.05."""
    return fakes.scored(1.0 + abs(fakes.rate_of(source) - 0.05))


def statuses(config: Config) -> list[tuple[int, str]]:
    """What the journal says, in order."""
    with Journal.read(config.run_path) as journal:
        return [(e.id, e.status.value) for e in journal.experiments()]


def git(config: Config, *arguments: str) -> str:
    """Ask git about the task directory."""
    done = subprocess.run(["git", "-C", str(config.root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
