"""The user's own text: what changed since it was prepared, and how its links are followed into a container."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.errors import ConfigError
from orchestrator.host import data, source
from orchestrator.loop import run_session
from orchestrator.preflight import require_no_run_on_data
from orchestrator.walls import staging
from orchestrator.walls.spec import Mount
from tests.support import fakes
from tests.support.sessions import open_session, parabola, task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of texts, one of them below."""
    (made := tmp_path / "my texts" / "below").mkdir(parents=True)
    (made.parent / "a.txt").write_text("one")
    (made / "b.jsonl.gz").write_bytes(b"two")
    (made.parent / "README.md").write_text("not read")
    return made.parent


@pytest.fixture
def prepared(tmp_path: Path, folder: Path) -> Path:
    """What was prepared of it."""
    (made := tmp_path / "data" / "cpu-texts").mkdir(parents=True)
    source.scan_source(str(folder)).save(made)
    return made


def rewrite(path: Path) -> None:
    """Change a file's content, not its size, and set back its times."""
    stat = path.stat()
    path.write_text("eno")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, ""),
        (lambda folder: os.utime(folder / "a.txt"), ""),
        (lambda folder: (folder / "README.md").write_text("other"), ""),
        (lambda folder: (folder / ".hidden.txt").write_text("other"), ""),
        (lambda folder: rewrite(folder / "a.txt"), "1 file changed: a.txt"),
        (lambda folder: (folder / "c.parquet").write_text("x"), "1 file added: c.parquet"),
        (lambda folder: (folder / "below" / "b.jsonl.gz").unlink(), "1 file removed: below/b.jsonl.gz"),
        (lambda folder: (folder / "a.txt").rename(folder / "z.txt"), "1 file added: z.txt, 1 file removed: a.txt"),
    ],
    ids=["nothing", "touched", "not read", "hidden", "changed", "added", "removed", "renamed"],
)
def test_a_changed_folder_is_noticed_by_content(
    folder: Path, prepared: Path, change: Callable[[Path], None], expected: str
) -> None:
    """Whatever its times say; the files are named."""
    change(folder)

    assert expected == source.find_change(str(folder), prepared)


def test_a_file_that_was_touched_is_hashed_once(folder: Path, prepared: Path) -> None:
    """The manifest then knows its new times."""
    before = source.load_source(prepared)
    os.utime(folder / "a.txt")
    source.find_change(str(folder), prepared)
    after = source.load_source(prepared)

    assert before is not None
    assert after is not None
    assert before.files["a.txt"].fingerprint != after.files["a.txt"].fingerprint
    assert before.files["a.txt"].sha256 == after.files["a.txt"].sha256


def test_data_without_a_manifest_is_prepared_again(folder: Path, prepared: Path) -> None:
    """Nobody knows what it was made from; a folder that is gone changes nothing."""
    (prepared / source.MANIFEST).write_text("{")

    assert "no source.json says" in source.find_change(str(folder), prepared)
    assert "" == source.find_change(str(folder.parent / "gone"), prepared)


def test_a_folder_without_links_is_mounted_as_it_is(folder: Path, tmp_path: Path) -> None:
    """Nothing is copied or linked."""
    assert [Mount(source=str(folder), target="/corpus")] == source.mount_source(str(folder), tmp_path / "links")


def test_links_lead_to_what_is_mounted_beside_them(folder: Path, tmp_path: Path) -> None:
    """Of files and of folders, out of the folder and within it, as a download cache has them."""
    (blobs := tmp_path / "blobs").mkdir()
    (blobs / "0123").write_text("a text")
    (folder / "far.txt").symlink_to(blobs / "0123")
    (folder / "near.txt").symlink_to("a.txt")
    (folder / "more").symlink_to(blobs)
    (blobs / "circle").symlink_to(folder)
    mounts = source.mount_source(str(folder), links := tmp_path / "links")
    found = {str(path.relative_to(links)): str(path.readlink()) for path in links.rglob("*") if path.is_symlink()}

    expected = {str(links): "/corpus", str(folder): "/source", str(blobs): "/linked-1"}
    assert expected == {mount.source: mount.target for mount in mounts}
    assert "/linked-1/0123" == found["far.txt"]
    assert "/source/a.txt" == found["near.txt"]
    assert "/linked-1/0123" == found["more/0123"]
    assert "/source/below/b.jsonl.gz" == found["below/b.jsonl.gz"]


def test_one_file_is_mounted_alone(folder: Path, tmp_path: Path) -> None:
    """What is beside it stays out of the container."""
    mounts = source.mount_source(str(folder / "a.txt"), links := tmp_path / "links")

    assert {str(links): "/corpus", str(folder / "a.txt"): "/linked-0"} == {m.source: m.target for m in mounts}
    assert "/linked-0" == str((links / "a.txt").readlink())


def test_links_into_too_many_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    """With what to do."""
    for number in range(20):
        (tmp_path / f"other-{number}").mkdir()
        (tmp_path / f"other-{number}" / "a.txt").write_text("x")
        (folder / f"{number}.txt").symlink_to(tmp_path / f"other-{number}" / "a.txt")
    with pytest.raises(ConfigError, match=r"--data .*my texts: its links lead to more than 16 other folders; copy"):
        source.mount_source(str(folder), tmp_path / "links")


def test_data_that_a_run_was_scored_on_is_not_replaced(tmp_path: Path) -> None:
    """The run to resume is named, with the way out; another run may begin on the changed text."""
    config = task(tmp_path, 1)
    config.data_path.joinpath("train").mkdir(parents=True)
    (config.data_path / "train" / "manifest.json").write_text("{}")
    sha256 = staging.digest(staging.manifests(config.data_path))
    runner = fakes.ArithmeticRunner(parabola, more={"data_sha256": sha256})
    loop = open_session(config, fakes.ScriptedProposer(["0.05"]), runner)
    with loop.journal:
        run_session(loop)
    other = load(tmp_path, {"tag": "other", "runs": config.runs})

    require_no_run_on_data(other, "texts", "1 file changed: a.txt")
    with pytest.raises(
        ConfigError, match=r"--data texts: it has changed .*1 file changed: a.txt.*run t was.*--run NAME"
    ):
        require_no_run_on_data(config, "texts", "1 file changed: a.txt")


def test_errors_name_the_user_s_own_path() -> None:
    """In place of the container's, wherever it begins a path."""
    line = "error: /corpus/a.jsonl line 3 is no JSON object, as in /corpus; not /data/corpus or /corpus-x"

    expected = "error: my texts/a.jsonl line 3 is no JSON object, as in my texts; not /data/corpus or /corpus-x"
    assert expected == data.in_your_words(line, "my texts/")
