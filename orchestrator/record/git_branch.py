"""Kept patches as git commits on a branch of the run, and train.py put in place for the human.

That is `autoresearch/<tag>`, or, where this holds what another record kept (another task, another --runs, a removed
folder), `autoresearch/<tag>-` and the first eight digits of the hash of the run's own first record.

Made with plumbing: the user's index, HEAD, branch and other files are never touched. train.py is replaced atomically,
and only if it still is what the loop last put there.
"""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator import files
from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.types import Experiment

EXPERIMENT, RUN, JOURNAL = (f"Autoresearch-{name}" for name in ("Experiment", "Run", "Journal"))  # trailers
GIT_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultBranch:
    """Commits kept versions of `path` (inside the task directory) to the run's own branch."""

    path: Path
    tag: str

    def check(self) -> None:
        """Refuse a run whose branch is checked out, because the branch would move."""
        here = self._git("symbolic-ref", "-q", "HEAD", check=False) or ""
        if re.fullmatch(rf"{re.escape(branch_refs(self.tag, '')[0])}(-[0-9a-f]{{8}})?", here):
            raise ConfigError(
                f"{here.removeprefix('refs/heads/')} is checked out; switch to another branch or use --run NAME"
            )

    def read_head_version(self) -> str | None:
        """Return the file as of the user's HEAD, which no loop ever moves; None if it is not committed."""
        path = self.path.resolve()
        done = subprocess.run(  # noqa: S603  # an argv list of ours
            ["git", "-C", str(path.parent), "show", f"HEAD:./{path.name}"],  # noqa: S607
            capture_output=True, timeout=GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def commit(self, experiment: Experiment, source: str, first: str, head: str) -> str:
        """Commit `source` with the hashes of the journal's first record and of its head, on a branch of its own.

        Returns the commit, "" outside a git repository. Doing it again after a crash finds the one already there.
        """
        prefix = self._git("rev-parse", "--show-prefix", check=False)
        if prefix is None:
            return ""
        usual, other = branch_refs(self.tag, first)
        ref = usual if self._last(usual)[2:] in ([], [first]) else other  # older commits name no run
        if self._last(ref)[1:] == [str(experiment.id), first]:
            return self._last(ref)[0]
        tip = self._git("rev-parse", "-q", "--verify", ref, check=False)
        parent = tip or self._git("rev-parse", "-q", "--verify", "HEAD^{commit}", check=False)
        tree = self._tree(parent, f"{prefix}{self.path.name}", source)
        parents = ("-p", parent) if parent else ()
        commit = self._git("commit-tree", tree, *parents, stdin=_message(experiment, first, head)) or ""
        self._git("update-ref", ref, commit, tip or "0" * 40)
        return commit

    def put(self, source: str, *, ours: tuple[str, ...]) -> bool:
        """Replace train.py by `source` if it still contains one of `ours`; return whether it was replaced."""
        try:
            target = self.path.resolve()  # a link stays one: the file that it names is replaced
            if files.read_text(target) not in ours:
                return False
            files.put(target, source.encode(), target.stat().st_mode & 0o777)
        except OSError as error:
            raise RecordFailed(
                f"{self.path}: cannot be replaced: {error.strerror}; the kept file is in the record"
            ) from error
        return True

    def _tree(self, parent: str | None, name: str, source: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            if parent:
                self._git("read-tree", parent, extra=index)
            blob = self._git("hash-object", "-w", "--stdin", stdin=source) or ""
            self._git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", extra=index)
            return self._git("write-tree", extra=index) or ""

    def _last(self, ref: str) -> list[str]:
        """Return the newest kept commit of a branch, its experiment and the first record of its run; [] if none."""
        form = "%H " + " ".join(f"%(trailers:key={name},valueonly,separator=)" for name in (EXPERIMENT, RUN))
        found = self._git("log", "-1", f"--grep=^{EXPERIMENT}: ", f"--format={form}", ref, "--", check=False) or ""
        return found.split(" ") if found else []

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
            raise RecordFailed(f"git {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
        return None


_WHO = {"NAME": "autoresearch", "EMAIL": "autoresearch@localhost"}


def branch_refs(tag: str, first: str) -> tuple[str, str]:
    """Return the refs for a run's kept patches: the first one, or the second if the first holds another record's."""
    usual = f"refs/heads/autoresearch/{tag}"
    return usual, f"{usual}-{first[:8]}"


def _message(experiment: Experiment, first: str, head: str) -> str:
    subject = " ".join(experiment.hypothesis.split())[:72] or f"experiment {experiment.id}"
    return (
        f"{subject}\n\nval_bpb {experiment.value:.6f}{experiment.trust_suffix}: {experiment.reason}\n\n"
        f"{EXPERIMENT}: {experiment.id}\n{RUN}: {first}\n{JOURNAL}: {head}\n"
    )
