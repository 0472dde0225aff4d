"""Kept patches as git commits on a branch of the run, and train.py put in place for the human.

That is `autoresearch/<tag>`, or, where this holds what another record kept (another task, another --runs, a removed
folder), `autoresearch/<tag>-` and the first eight digits of the hash of the run's own first record.

Made with plumbing: the user's index, HEAD, branch and other files are never touched. train.py is replaced atomically,
and only if it still is what the loop last put there.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator import files
from orchestrator.errors import ConfigError, RecordFailed
from orchestrator.types import Experiment

EXPERIMENT, RUN, JOURNAL = (f"Autoresearch-{name}" for name in ("Experiment", "Run", "Journal"))  # trailers
GIT_TIMEOUT_S = 60
REASON_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultBranch:
    """Commits kept versions of `path` (inside the task directory) to the run's own branch."""

    path: Path
    tag: str

    def check(self, first: str = "") -> str:
        """Try a commit on the run's branch, and leave no trace of it; return why there will be none, "" if there will.

        `first` is the hash of the run's first record, if it has one. Outside a repository nothing is committed. Raises
        ConfigError for a repository in which a commit would fail, or whose branch the user has checked out: it would
        move under their feet.
        """
        repository = next((folder for folder in self.path.absolute().parents if (folder / ".git").exists()), None)
        if shutil.which("git") is None:
            if repository is not None:
                raise ConfigError(
                    f"git is not on PATH, and {repository} is a repository, in which kept changes become commits:"
                    " install git"
                )
            return "kept changes become no git commits: git is not installed; the record has them all"
        try:
            prefix = self._git("rev-parse", "--show-prefix")
        except RecordFailed as error:
            if repository is None and "GIT_DIR" not in os.environ:
                return (
                    f"kept changes become no git commits: {self.path.parent} is in no git repository; the record has"
                    " them all"
                )
            raise _unusable(repository or Path(os.environ["GIT_DIR"]), str(error)) from error
        self._refuse_checked_out()
        self._rehearse(prefix or "", first, repository or self.path.parent)
        return ""

    def _refuse_checked_out(self) -> None:
        here = self._git("symbolic-ref", "-q", "HEAD", check=False) or ""
        if re.fullmatch(rf"{re.escape(branch_refs(self.tag, '')[0])}(-[0-9a-f]{{8}})?", here):
            raise ConfigError(
                f"{here.removeprefix('refs/heads/')} is checked out; switch to another branch or use --run NAME"
            )

    def _rehearse(self, prefix: str, first: str, repository: Path) -> None:
        """Make the objects of a commit and lock the branch for it, then give it up. Raises ConfigError."""
        usual, other = branch_refs(self.tag, first)
        ref = usual if self._last(usual)[2:] in ([], [first]) else other
        tip = self._git("rev-parse", "-q", "--verify", ref, check=False)
        try:
            if self._git("rev-parse", "-q", "--verify", "HEAD", check=False) or self._is_broken_branch():
                self._git("rev-parse", "--verify", "HEAD^{commit}")
            parent = tip or self._git("rev-parse", "-q", "--verify", "HEAD^{commit}", check=False)
            source = self.path.read_text(encoding="utf-8", errors="replace")
            tree = self._tree(parent, f"{prefix}{self.path.name}", source)
            always = {f"GIT_{role}_DATE": "2026-01-01T00:00:00Z" for role in ("AUTHOR", "COMMITTER")}  # one object
            commit = self._git("commit-tree", tree, stdin="autoresearch: may this be committed?", extra=always)
            steps = f"start\nupdate {ref} {commit} {tip or '0' * 40}\nprepare\nabort\n"
            self._git("update-ref", "--stdin", stdin=steps)
        except RecordFailed as error:
            raise _unusable(repository, str(error), ref) from error
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _is_broken_branch(self) -> bool:
        """Return whether the user's branch without a commit has a file, so that it is broken and not just new."""
        ref = self._git("symbolic-ref", "-q", "HEAD", check=False)
        file = self._git("rev-parse", "--git-path", ref or "", check=False) or ""
        return ref is None or (self.path.parent / file).is_file()

    def read_head_version(self) -> str | None:
        """Return the file as of the user's HEAD, which no loop ever moves; None if it is not committed."""
        path = self.path.resolve()
        done = subprocess.run(  # noqa: S603  # an argv list of ours
            ["git", "-C", str(path.parent), "show", f"HEAD:./{path.name}"],  # noqa: S607
            capture_output=True, env=_environment(), timeout=GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def commit(self, experiment: Experiment, source: str, first: str, head: str, metric: str = "value") -> str:
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
        commit = self._git("commit-tree", tree, *parents, stdin=_message(experiment, first, head, metric)) or ""
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
        environment = {**who, **_environment(), **(extra or {}), "LC_ALL": "C"}
        try:
            done = subprocess.run(  # noqa: S603  # an argv list of ours
                ["git", "-C", str(self.path.parent), *arguments],  # noqa: S607  # the user's own git
                input=stdin, capture_output=True, text=True, errors="replace", env=environment,
                timeout=GIT_TIMEOUT_S, check=False,
            )  # fmt: skip
            said, failed = done.stderr, done.returncode != 0
        except (OSError, subprocess.TimeoutExpired) as error:
            said, failed = str(error), True
        if not failed:
            return done.stdout.strip()
        if check:
            raise RecordFailed(f"git {arguments[0]}: {_in_one_line(said)}")
        return None


def _environment() -> dict[str, str]:
    """Return the user's environment; a GIT_DIR of theirs means what it means to git in the current folder."""
    found = dict(os.environ)
    if name := found.get("GIT_DIR"):
        found["GIT_DIR"] = str(Path(name).absolute())
        found["GIT_WORK_TREE"] = str(Path(found.get("GIT_WORK_TREE") or ".").absolute())
    return found


def _in_one_line(said: str) -> str:
    """Return the first complaint of git, with what a hook printed before it."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("hint:", "warning:"))]
    fatal = next((number for number, line in enumerate(lines) if line.startswith(("fatal:", "error:"))), 0)
    return (
        " ".join(lines[: fatal + 1]).replace("fatal: ", "").replace("error: ", "")[:REASON_CHARS] or "it says nothing"
    )


def _unusable(repository: Path, said: str, ref: str = "") -> ConfigError:
    """Return the error for a repository in which a commit would fail, with the mend that git's words suggest."""
    branch, folder = ref.removeprefix("refs/heads/"), shlex.quote(str(repository))
    mends = {
        "dubious ownership": f"git config --global --add safe.directory {folder}",
        "refs/heads/autoresearch' exists": "rename that branch: git branch -m autoresearch another-name",
        "File exists": f"if no git is running, remove {repository / '.git' / ref}.lock",
        "hook": f"let the hook {repository / '.git' / 'hooks' / 'reference-transaction'} accept {branch}",
        "Read-only file system": f"make {repository / '.git'} writable",
        "ermission": f"make {repository / '.git'} writable",
        "No space left": "free some space",
    }
    mend = next((mend for words, mend in mends.items() if words in said), f"see `git -C {folder} fsck`")
    about = f" to {branch}" if branch else ""
    return ConfigError(f"{repository}: kept changes cannot be committed{about}: {said}; {mend}")


_WHO = {"NAME": "autoresearch", "EMAIL": "autoresearch@localhost"}


def branch_refs(tag: str, first: str) -> tuple[str, str]:
    """Return the refs for a run's kept patches: the first one, or the second if the first holds another record's."""
    usual = f"refs/heads/autoresearch/{tag}"
    return usual, f"{usual}-{first[:8]}"


def _message(experiment: Experiment, first: str, head: str, metric: str) -> str:
    subject = " ".join(experiment.hypothesis.split())[:72] or f"experiment {experiment.id}"
    return (
        f"{subject}\n\n{metric} {experiment.value:.6f}{experiment.trust_suffix}: {experiment.reason}\n\n"
        f"{EXPERIMENT}: {experiment.id}\n{RUN}: {first}\n{JOURNAL}: {head}\n"
    )
