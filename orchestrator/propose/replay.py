"""Repeats the experiments of a recorded run in order: for audits, or to compare machines on the same files.

Each proposal is the whole file that ran, not its edits, because another file may be the best this time.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.errors import BudgetExhausted, ConfigError, JournalError, PatchRejected
from orchestrator.events import SessionStarted
from orchestrator.record.experiment_dir import source_path
from orchestrator.record.journal import Journal
from orchestrator.text import counted
from orchestrator.types import Context, Experiment, Proposal, Reply, Status

NAME = "replay"
LOOK_BACK = 100  # newest experiments of this run, to see how far it came


@dataclass(slots=True, kw_only=True)
class ReplayProposer:
    """Proposes the experiments of another run."""

    run: Path
    recorded: tuple[Experiment, ...]
    name: str = NAME

    @classmethod
    def open(cls, run: Path, task: str) -> Self:
        """Read the record. Raises ConfigError if it is missing or belongs to another task."""
        try:
            with Journal.read(run) as journal:
                tasks = {recorded.event.task for recorded in journal.events(SessionStarted)}
                recorded = tuple(e for e in journal.experiments() if _ran(e))
        except JournalError as error:
            raise ConfigError(f"--replay {run}: {error}") from error
        if tasks != {task}:
            found = ", ".join(sorted(repr(name) for name in tasks)) or "no session"
            raise ConfigError(f"--replay {run}: the run is of task {found}, not {task!r}; name a run of this task")
        if not recorded:
            raise ConfigError(f"--replay {run}: the run has no experiments beyond the baseline; name another run")
        return cls(run=run, recorded=recorded)

    def ask(self, context: Context) -> Reply:
        """Return the next recorded experiment. Raises BudgetExhausted after the last one."""
        done = [e.model for e in context.history[-LOOK_BACK:] if e.proposer == NAME]
        done += [reply.model for reply, _ in context.rejected]
        last = max((int(model.rpartition("/")[2]) for model in done), default=0)
        for e in self.recorded:
            if e.id > last and e.hypothesis not in context.in_flight:
                return self._reply(e)
        raise BudgetExhausted(f"{self.run} was replayed to its end, {counted(len(self.recorded), 'experiment')}")

    def read(self, reply: Reply) -> Proposal:
        """Parse what `ask` wrote. Raises PatchRejected."""
        try:
            data = json.loads(reply.text)
            return Proposal(
                hypothesis=str(data["hypothesis"]),
                expected_effect=str(data["expected_effect"]),
                source=str(data["source"]),
                retry_rationale="this is a replay",
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PatchRejected(f"not a reply of a replay: {error!r}") from error

    def _reply(self, e: Experiment) -> Reply:
        path = source_path(e.folder)
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}; the record is incomplete") from error
        text = json.dumps({"hypothesis": e.hypothesis, "expected_effect": e.expected_effect, "source": source})
        prompt = f"replay of experiment {e.id} of {self.run.name}, which ended as {e.status} with {e.value}"
        return Reply(proposer=self.name, model=f"{self.run.name}/{e.id}", prompt=prompt, text=text)


def _ran(e: Experiment) -> bool:
    """Return True for a proposal that was judged: neither the baseline nor an invalid patch."""
    return e.parent_id is not None and e.is_judged and e.status is not Status.INVALID
