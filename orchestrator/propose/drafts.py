"""Whole files from the task's `drafts/` folder, by name: needs no key, and shows what a task keeps and what it refuses.

A draft that was proposed is not proposed again, so a folder may be filled while a loop runs: what sorts behind the last
one is next.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.errors import BudgetExhausted, ConfigError, PatchRejected
from orchestrator.patch import MAX_SOURCE_BYTES
from orchestrator.text import counted
from orchestrator.types import Context, Proposal, Reply

NAME = "drafts"
FOLDER = "drafts"
LOOK_BACK = 100  # newest experiments of this run, to see which draft was the last
LINE_CHARS = 200


@dataclass(slots=True, kw_only=True)
class DraftsProposer:
    """Proposes the files of a folder, one after the other."""

    folder: Path
    suffix: str
    name: str = NAME

    @classmethod
    def open(cls, root: Path, suffix: str) -> Self:
        """Return the proposer of a task's drafts, files with the mutable file's suffix. Raises ConfigError for none."""
        proposer = cls(folder=root / FOLDER, suffix=suffix)
        if not proposer.paths():
            raise ConfigError(f"{proposer.folder}: no {suffix} file there; --proposer drafts takes whole files from it")
        return proposer

    def paths(self) -> Sequence[Path]:
        """Return the drafts by name; empty without a folder."""
        return sorted(path for path in self.folder.glob(f"*{self.suffix}") if not path.name.startswith("."))

    def ask(self, context: Context) -> Reply:
        """Return the next draft. Raises BudgetExhausted after the last one."""
        done = [e.model for e in context.history[-LOOK_BACK:] if e.proposer == NAME]
        done += [reply.model for reply, _ in context.rejected]
        last = max(done, default="")
        for path in self.paths():
            if path.name > last and not any(words.startswith(f"{path.stem}: ") for words in context.in_flight):
                return self._reply(path)
        raise BudgetExhausted(f"all {counted(len(self.paths()), 'draft')} of {self.folder} were proposed")

    def read(self, reply: Reply) -> Proposal:
        """Parse what `ask` wrote. Raises PatchRejected, also for a draft that could not be read."""
        try:
            data = json.loads(reply.text)
            if data["problem"]:
                raise PatchRejected(str(data["problem"]))
            return Proposal(
                hypothesis=str(data["hypothesis"]), source=str(data["source"]), retry_rationale="it is a draft"
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PatchRejected(f"this is no reply of the drafts: {error!r}") from error

    def _reply(self, path: Path) -> Reply:
        source, problem = _read(path)
        data = {"hypothesis": f"{path.stem}: {_first_line(source)}", "source": source, "problem": problem}
        text = json.dumps(data, ensure_ascii=False)
        return Reply(proposer=self.name, model=path.name, prompt=f"the draft {FOLDER}/{path.name}", text=text)


def _read(path: Path) -> tuple[str, str]:
    """Return a draft and "", or "" and why it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SOURCE_BYTES + 1)
        if len(data) > MAX_SOURCE_BYTES:
            size = path.stat().st_size
            return "", f"{path}: {size} bytes, at most {MAX_SOURCE_BYTES} are taken; make it smaller"
        return data.decode("utf-8"), ""
    except (OSError, UnicodeDecodeError) as error:
        return "", f"{path}: cannot be read: {error}"


def _first_line(source: str) -> str:
    """Return what a draft says of itself: its first line that has words, without marks of comments and headings."""
    lines = (line.strip(" #\"'/*") for line in source.splitlines())
    return next((line for line in lines if line), "empty")[:LINE_CHARS]
