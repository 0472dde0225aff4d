"""What would keep a kept change from becoming a commit is found before the baseline, and nothing is left behind."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from orchestrator.config import Config
from orchestrator.errors import ConfigError
from orchestrator.events import NoteRecorded
from orchestrator.loop import run_session
from orchestrator.record.git_branch import ResultBranch
from orchestrator.types import Trial
from tests.support.sessions import git, parabola, session, task

HOOK = """#!/bin/sh
grep -q autoresearch/ && echo "no robots here" >&2 && exit 1
exit 0
"""


def committed(tmp_path: Path) -> Config:
    """A task in a repository with one commit of the user's."""
    config = task(tmp_path, 1)
    git(config, "add", "mutable")
    git(config, "-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qm", "mine")
    return config


def branch(config: Config) -> ResultBranch:
    """That of the run."""
    return ResultBranch(path=config.mutable_path, tag=config.tag)


def refused(config: Config) -> str:
    """Return why a session may not begin."""
    with pytest.raises(ConfigError) as found:
        branch(config).check()
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("kind", ["committed", "unborn", "worktree", "signing"])
def test_a_commit_that_would_work_leaves_no_trace(tmp_path: Path, kind: str) -> None:
    """No branch, no reflog, no index, no lock; and where it is tried again, no further object."""
    config = task(tmp_path, 1) if kind == "unborn" else committed(tmp_path)
    if kind == "worktree":
        git(config, "worktree", "add", "-q", "-b", "aside", str(tmp_path / "tree"))
        config = task(tmp_path / "tree", 1)
    if kind == "signing":
        git(config, "config", "commit.gpgsign", "true")
    before = git(config, "for-each-ref"), git(config, "status", "--porcelain"), sorted(tmp_path.rglob("*.lock"))
    said = [branch(config).check()]
    objects = git(config, "count-objects")
    said.append(branch(config).check())

    assert ["", ""] == said
    assert before == (
        git(config, "for-each-ref"),
        git(config, "status", "--porcelain"),
        sorted(tmp_path.rglob("*.lock")),
    )
    assert objects == git(config, "count-objects")


def test_a_branch_that_is_in_the_way_is_named(tmp_path: Path) -> None:
    """One that is named as the folder of ours."""
    config = committed(tmp_path)
    git(config, "branch", "autoresearch")

    assert refused(config).startswith(
        f"{tmp_path}: kept changes cannot be committed to autoresearch/t: git update-ref: "
    )
    assert refused(config).endswith("rename that branch: git branch -m autoresearch another-name")


def test_a_stale_lock_is_named(tmp_path: Path) -> None:
    """With the file to remove."""
    config = committed(tmp_path)
    lock = tmp_path / ".git" / "refs" / "heads" / "autoresearch" / "t.lock"
    lock.parent.mkdir()
    lock.touch()

    assert refused(config).endswith(f"if no git is running, remove {lock}")


def test_a_hook_that_refuses_is_named(tmp_path: Path) -> None:
    """With what it says."""
    config = committed(tmp_path)
    hook = tmp_path / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK)
    hook.chmod(0o755)

    assert "no robots here" in refused(config)
    assert refused(config).endswith(f"let the hook {hook} accept autoresearch/t")


@pytest.mark.parametrize("broken", ["HEAD", "branch", "object"])
def test_a_broken_head_is_said(tmp_path: Path, broken: str) -> None:
    """Not taken for a folder without a repository, nor for one without commits."""
    config = committed(tmp_path)
    (tmp_path / ".git" / ("HEAD" if broken == "HEAD" else "refs/heads/main")).write_text(
        "garbage\n" if broken != "object" else "1" * 40 + "\n"
    )

    assert refused(config).startswith(f"{tmp_path}: kept changes cannot be committed")


def test_a_repository_of_another_user_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that lets git use it."""
    config = committed(tmp_path)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to try that

    assert refused(config).endswith(f"; git config --global --add safe.directory {shlex.quote(str(tmp_path))}")


def test_a_read_only_repository_is_said(tmp_path: Path) -> None:
    """Root may write where nobody may, so a file stands where objects belong."""
    config = committed(tmp_path)
    git(config, "gc", "-q")
    objects = tmp_path / ".git" / "refs" / "heads" / "autoresearch"
    objects.write_text("")

    assert refused(config).startswith(f"{tmp_path}: kept changes cannot be committed to autoresearch/t: git update-ref")


def test_no_git_at_all_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a repository it is refused, elsewhere it is a note: there would be no commits anyway."""
    config, outside = committed(tmp_path / "repository"), tmp_path / "folder" / "mutable" / "train.py"
    outside.parent.mkdir(parents=True)
    outside.write_text("")
    none = ResultBranch(path=outside, tag="t").check()
    monkeypatch.setenv("PATH", str(tmp_path))
    without = ResultBranch(path=outside, tag="t").check()

    assert refused(config).startswith("git is not on PATH, and ")
    assert none.startswith(f"kept changes become no git commits: {outside.parent} is in no git repository")
    assert without.startswith("kept changes become no git commits: git is not installed")


@pytest.mark.parametrize("name", [".git", "absolute"])
def test_a_git_dir_of_the_user_s_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As where a hook starts the loop: the same repository and the same path within it, whatever the index is."""
    config = committed(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", name if name == ".git" else str(tmp_path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index-of-a-hook"))
    said = branch(config).check()
    loop, _, _ = session(config, parabola, ["0.05"])
    with loop.journal:
        run_session(loop)
    for variable in ("GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable)

    assert "" == said
    assert "LEARNING_RATE = 0.05" in git(config, "show", "autoresearch/t:mutable/train.py")
    assert not (tmp_path / "index-of-a-hook").exists()


def test_git_that_goes_away_during_the_night_does_not_end_it(tmp_path: Path) -> None:
    """A lock that appears later: git's own words are noted, the loop goes on, and the next session commits the best."""
    config = committed(tmp_path)
    lock = tmp_path / ".git" / "refs" / "heads" / "autoresearch" / "t.lock"
    lock.parent.mkdir()

    def lock_branch(source: str) -> Trial:
        lock.touch()
        return parabola(source)

    loop, _, _ = session(config, lock_branch, ["0.05"])
    with loop.journal:
        run_session(loop)
        notes = [one.event.text for one in loop.journal.events(NoteRecorded)]
    without = git(config, "branch", "--list", "autoresearch/t")
    lock.unlink()
    loop, _, _ = session(config, parabola, ["0.06"])
    with loop.journal:
        run_session(loop)

    assert re.fullmatch(r"experiment 0 is no git commit: git update-ref: .*t\.lock': File exists[^[]*", notes[0])
    assert "" == without
    assert "LEARNING_RATE = 0.05" in git(config, "show", "autoresearch/t:mutable/train.py")


def test_nothing_of_a_check_is_in_the_way_of_the_commit(tmp_path: Path) -> None:
    """A run whose branch has commits already, of another record too."""
    config = committed(tmp_path)
    for _ in range(2):
        loop, _, _ = session(config, parabola, ["0.05"])
        with loop.journal:
            run_session(loop)
            assert "" == loop.branch.check(loop.journal.span()[0])
        subprocess.run(["rm", "-r", str(config.run_path)], check=True)

    assert 2 == len(git(config, "branch", "--list", "autoresearch/t*").splitlines())
