"""Kept patches as git commits on `autoresearch/<tag>`, and train.py put in place for the human.

Made with plumbing: the user's index, HEAD, branch and other files are never touched. train.py is replaced atomically,
and only if it still is what the loop last put there.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator import files
from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.types import Experiment

TRAILER = "Autoresearch-Experiment"
GIT_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Commits kept versions of `path` (inside the task directory) to the run's own branch."""

    path: Path
    tag: str

    @property
    def ref(self) -> str:
        """The run's branch."""
        return f"refs/heads/autoresearch/{self.tag}"

    def check(self) -> None:
        """Refuse a run whose branch the user has checked out: it would move under their feet."""
        if self._git("symbolic-ref", "-q", "HEAD", check=False) == self.ref:
            message = f"{self.ref.removeprefix('refs/heads/')} is checked out; switch to another branch or use RUN=tag"
            raise ConfigError(message)

    def committed(self) -> str | None:
        """The file as the user's own HEAD has it, which no loop ever moves; None if it is not there."""
        done = subprocess.run(  # noqa: S603  # an argv list of ours
            ["git", "-C", str(self.path.parent), "show", f"HEAD:./{self.path.name}"],  # noqa: S607
            capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else None

    def commit(self, experiment: Experiment, source: str, head: str) -> str:
        """Commit `source` with the hash of the journal's head; returns the commit, "" outside a git repository.

        Doing it again after a crash finds the commit that is already there.
        """
        prefix = self._git("rev-parse", "--show-prefix", check=False)
        if prefix is None:
            return ""
        tip = self._git("rev-parse", "-q", "--verify", self.ref, check=False)
        if tip and self._trailer(tip) == str(experiment.id):
            return tip
        parent = tip or self._git("rev-parse", "-q", "--verify", "HEAD^{commit}", check=False)
        tree = self._tree(parent, f"{prefix}{self.path.name}", source)
        parents = ("-p", parent) if parent else ()
        commit = self._git("commit-tree", tree, *parents, stdin=_message(experiment, head)) or ""
        self._git("update-ref", self.ref, commit, tip or "0" * 40)
        return commit

    def put(self, source: str, *, ours: tuple[str, ...]) -> bool:
        """Replace train.py by `source` if it still holds one of `ours`; say whether it was replaced."""
        try:
            if self.path.read_text(encoding="utf-8") not in ours:
                return False
            files.put(self.path, source.encode(), self.path.stat().st_mode & 0o777)
        except OSError as error:
            message = f"{self.path}: cannot be replaced: {error.strerror}; the kept file is in the record"
            raise RecordFailed(message) from error
        return True

    def _tree(self, parent: str | None, name: str, source: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            if parent:
                self._git("read-tree", parent, extra=index)
            blob = self._git("hash-object", "-w", "--stdin", stdin=source) or ""
            self._git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", extra=index)
            return self._git("write-tree", extra=index) or ""

    def _trailer(self, commit: str) -> str | None:
        return self._git("log", "-1", f"--format=%(trailers:key={TRAILER},valueonly,separator=)", commit)

    def _git(
        self, *arguments: str, stdin: str | None = None, extra: dict[str, str] | None = None, check: bool = True
    ) -> str | None:
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()}
        environment = {**who, **os.environ, **(extra or {}), "LC_ALL": "C"}
        done = subprocess.run(  # noqa: S603  # an argv list of ours
            ["git", "-C", str(self.path.parent), *arguments],  # noqa: S607  # the user's own git
            input=stdin, capture_output=True, text=True, env=environment, timeout=GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return done.stdout.strip()
        if check:
            message = f"git {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}"
            raise RecordFailed(message)
        return None


_WHO = {"NAME": "autoresearch", "EMAIL": "autoresearch@localhost"}


def _message(experiment: Experiment, head: str) -> str:
    subject = " ".join(experiment.hypothesis.split())[:72] or f"experiment {experiment.id}"
    return (
        f"{subject}\n\nval_bpb {experiment.val_bpb:.6f}{experiment.mark}: {experiment.rule}\n\n"
        f"{TRAILER}: {experiment.id}\nAutoresearch-Journal: {head}\n"
    )
