"""A small run on record, made by the real loop with a scripted proposer and a runner that only writes its files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.loop import run_session
from orchestrator.record.session_log import log_to
from orchestrator.types import Candidate, Plan, Trial
from tests.support import fakes
from tests.support.sessions import parabola, session, task

RATES = ["0.03", "0.9", "0.04"]


@dataclass(slots=True)
class WritingRunner(fakes.ArithmeticRunner):
    """Leaves what a container leaves."""

    def run(self, candidate: Candidate, plan: Plan, *, experiment_id: int, folder: Path, best: float | None) -> Trial:
        """Apply the function, write the files."""
        (folder / "trainer.log").write_text(f"[    0.001 out] trained {fakes.rate_of(candidate.source)}\n")
        (folder / "inputs.json").write_text('{"image": "sha256:fake"}\n')
        return fakes.ArithmeticRunner.run(self, candidate, plan, experiment_id=experiment_id, folder=folder, best=best)


def audited_twice() -> Callable[[str], Trial]:
    """Return scores, of which the second source's first has too small an audit: it gets a folder for another trial."""
    seen: list[str] = []

    def score(source: str) -> Trial:
        seen.append(source)
        trial = parabola(source)
        return fakes.scored(trial.scores[0], k=10) if len(seen) == 2 else trial

    return score


def recorded(root: Path, rates: list[str] | None = None, source: str = fakes.TRAIN_PY) -> Path:
    """The folder of a run that has ended; its task directory, a git repository, is `root`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_NOISE__RULE", "lowest")
        config = task(root, len(rates or RATES))
    config.mutable_path.write_text(source)
    loop, _, _ = session(config, parabola, rates or RATES)
    loop = replace(loop, runners=(WritingRunner(audited_twice()),))
    with log_to(config.run_path, screen=False), loop.journal:
        run_session(loop)
    return config.run_path
