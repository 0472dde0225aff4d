"""This project: the command line's loop on the task of the benchmark, with the candidates as its drafts."""

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from common import Report, candidates, work

from orchestrator.events import ExperimentBegun, ExperimentFinished
from orchestrator.record.claims import describe_claim, describe_doubts
from orchestrator.record.journal import Journal
from orchestrator.types import Status

TASK = Path(__file__).parents[1] / "peers_task"
TAG = "peers"


def make_task(root: Path, found: list[tuple[str, str]]) -> None:
    """Copy the task; the baseline is its mutable file, the others are its drafts."""
    shutil.copytree(TASK, root, ignore=shutil.ignore_patterns("__pycache__", "cheat.py"))
    (root / "drafts").mkdir()
    (root / "mutable" / "train.py").write_text(found[0][1], encoding="utf-8")
    for name, source in found[1:]:
        (root / "drafts" / f"{name}.py").write_text(source, encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)


def read(run: Path, names: list[str], report: Report) -> None:
    """Read from the record what came of each candidate; the attempts that were not judged are counted in a note."""
    with Journal.read(run) as journal:
        begun = {r.event.experiment_id: datetime.fromisoformat(r.at) for r in journal.events(ExperimentBegun)}
        ended = {r.event.experiment.id: datetime.fromisoformat(r.at) for r in journal.events(ExperimentFinished)}
        tried = [e for e in journal.experiments() if e.proposer in ("baseline", "drafts")]
        judged = [e for e in tried if e.is_judged]
        again = len(tried) - len(judged)
        report.notes += filter(None, [describe_claim(journal), describe_doubts(journal)])
    if again:
        report.notes.append(f"{again} attempts were not judged, others used the machine")
    by_name = {e.model.removesuffix(".py") if e.parent_id is not None else names[0]: e for e in judged}
    for name in names:
        e = by_name[name]
        until = begun.get(e.id + 1, ended[e.id])
        print(e.id, name, e.status, e.scores, e.reason)
        seconds = (until - begun[e.id]).total_seconds()
        report.end(name, e.value, kept=e.status is Status.KEEP, seconds=seconds)


def main() -> None:
    """Run the loop to its end."""
    found, report = candidates(), Report()
    root = Path(work(), "task")
    make_task(root, found)
    options = ["--task", str(root), "--run", TAG, "--profile", "cpu", "--proposer", "drafts", "--experiments", "0"]
    subprocess.run([sys.executable, "-m", "orchestrator", "loop", *options], check=True)
    read(root / "runs" / TAG, [name for name, _ in found], report)
    report.finish()


if __name__ == "__main__":
    main()
