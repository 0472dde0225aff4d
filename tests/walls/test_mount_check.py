"""An engine that shows containers other files than this machine's is found before the first experiment."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.errors import SandboxError
from orchestrator.types import ExecutionResult, Stages
from orchestrator.walls import mount_check
from orchestrator.walls.execution_context import ExecutionContext
from tests.support.fakes import execution

ROOT = Path(__file__).parents[2]


def place(tmp_path: Path) -> ExecutionContext:
    """Where experiments would run: prepared data, and no run yet."""
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "manifest.json").write_text("{}")
    task = SimpleNamespace(stages=Stages.TRAIN)
    config = SimpleNamespace(task=task, root=ROOT, runs=tmp_path / "a b" / "runs", tag="t", data_path=tmp_path / "data")
    return cast("ExecutionContext", SimpleNamespace(config=config))


def looks(change: Callable[[str], bytes]) -> Callable[..., ExecutionResult]:
    """A container that sees what `change` makes of each file's path."""

    def run(_place: object, _label: str, program: tuple[str, ...], *, mounts: Any, **_: object) -> ExecutionResult:
        folders = {mount.target: mount.source for mount in mounts}
        lines = ["something else of the engine's"]
        for path in program[2:]:
            target, _, name = path.rpartition("/")
            lines.append(f"seen {hashlib.sha256(change(f'{folders[target]}/{name}')).hexdigest()}")
        return execution(log_tail="\n".join(lines))

    return run


def test_the_same_files_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left of the probe."""
    monkeypatch.setattr(mount_check, "run_once", looks(lambda path: Path(path).read_bytes()))
    mount_check.check_mounts(place(tmp_path))

    assert [] == list((tmp_path / "a b" / "runs").iterdir())


@pytest.mark.parametrize("other", ["preflight.txt", "manifest.json"])
def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Beside the records or in the data: both folders are named, with what may be done."""
    monkeypatch.setattr(
        mount_check, "run_once", looks(lambda path: b"" if path.endswith(other) else Path(path).read_bytes())
    )
    with pytest.raises(SandboxError, match=r"^containers do not see .*/a b/runs and .*/data/train as they are here"):
        mount_check.check_mounts(place(tmp_path))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("no such file: /locked/guard.py", "containers do not see .* (no such file: /locked/guard.py); an engine"),
        (None, "the engine does not see this machine's files: .*bind source path does not exist.*; an engine from a"),
    ],
)
def test_an_engine_that_sees_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, expected: str
) -> None:
    """An empty folder in its place, or a refusal of the engine's."""

    def run(*_: object, **__: object) -> ExecutionResult:
        if said is None:
            raise SandboxError("the container engine refused to create x: bind source path does not exist: /a")
        return execution(exit_code=2, log_tail=said)

    monkeypatch.setattr(mount_check, "run_once", run)
    with pytest.raises(SandboxError, match=f"^{expected.replace('(', '[(]').replace(')', '[)]')}"):
        mount_check.check_mounts(place(tmp_path))


def test_another_failure_of_the_engine_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing about snaps is said then."""

    def run(*_: object, **__: object) -> ExecutionResult:
        raise SandboxError("the container engine refused to create x: no space left")

    monkeypatch.setattr(mount_check, "run_once", run)
    with pytest.raises(SandboxError, match=r"^the container engine refused to create x: no space left$"):
        mount_check.check_mounts(place(tmp_path))
