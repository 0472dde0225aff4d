"""The exporter reads one plain file and follows nothing; the host writes one, bounded, and keeps what was scored."""

import hashlib
import io
import os
from contextlib import redirect_stderr
from pathlib import Path

import export_checkpoint
import predict
import prepare
import pytest

from orchestrator.errors import JournalError, RecordFailed
from orchestrator.record import checkpoint
from orchestrator.types import Status
from tests.support.journals import kept

DATA = bytes(range(256)) * 9000


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An /out of the test's own."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(prepare, "CHECKPOINT", folder / "checkpoint.pt")
    monkeypatch.setattr(predict, "OUT", folder)
    return folder


def carried(tmp_path: Path, limit: int = 1 << 30) -> tuple[bytes, str]:
    """What the exporter writes, and what it says."""
    said = io.StringIO()
    with (tmp_path / "stdout").open("wb") as file, redirect_stderr(said):
        export_checkpoint.carry(file.fileno(), limit)
    return (tmp_path / "stdout").read_bytes(), said.getvalue()


def test_the_exporter_writes_the_bytes_and_says_their_hash(out: Path, tmp_path: Path) -> None:
    """The file's, and the one that the scorer knows the checkpoint by."""
    (out / "checkpoint.pt").write_bytes(DATA)
    data, said = carried(tmp_path)

    assert DATA == data
    assert f"file_sha256: {hashlib.sha256(DATA).hexdigest()}\n" in said
    assert f"checkpoint_sha256: {predict.checkpoint_digest(out).hex()}\n" in said


def test_the_exporter_follows_nothing(out: Path, tmp_path: Path) -> None:
    """A link to a file of somebody's, a FIFO that nobody writes, a folder, nothing at all, too much."""
    path = out / "checkpoint.pt"
    (tmp_path / "secret").write_text("secret")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        carried(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SystemExit, match="no plain file"):
        carried(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(SystemExit, match="no plain file"):
        carried(tmp_path)
    path.rmdir()
    with pytest.raises(FileNotFoundError):
        carried(tmp_path)
    path.write_bytes(DATA)
    with pytest.raises(SystemExit, match=f"has {len(DATA)} bytes, more than the 1000"):
        carried(tmp_path, 1000)

    assert b"" == (tmp_path / "stdout").read_bytes()


def test_no_more_is_written_than_may_be(tmp_path: Path) -> None:
    """Whatever arrives; and never through a link or over a file that is there."""
    path = tmp_path / "checkpoint.pt"
    with checkpoint.open_capped(path, 1000) as parcel:
        for _ in range(5):
            parcel.add(b"x" * 300)

    assert (900, "more than 1000 bytes", 1500) == (path.stat().st_size, parcel.broken, parcel.size)
    assert 0o600 == path.stat().st_mode & 0o777
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError), checkpoint.open_capped(taken, 1000):
            pass


def test_only_the_checkpoint_that_was_scored_is_left(tmp_path: Path) -> None:
    """Of several trials that of the score; of an experiment that was not kept none."""
    for folder, content in ((tmp_path, "a"), (tmp_path / "trial-2", "b")):
        folder.mkdir(exist_ok=True)
        (folder / "checkpoint.pt").write_text(content)
    checkpoint.keep_checkpoint(tmp_path, tmp_path / "trial-2" / "checkpoint.pt")
    assert [tmp_path / "checkpoint.pt"] == list(tmp_path.rglob("checkpoint.pt"))
    assert "b" == (tmp_path / "checkpoint.pt").read_text()
    checkpoint.keep_checkpoint(tmp_path, tmp_path / "checkpoint.pt")
    assert [tmp_path / "checkpoint.pt"] == list(tmp_path.rglob("checkpoint.pt"))

    checkpoint.keep_checkpoint(tmp_path, None)
    assert [] == list(tmp_path.rglob("checkpoint.pt"))


def test_a_checkpoint_is_exported_only_as_it_was_recorded(tmp_path: Path) -> None:
    """Byte by byte into a new file; a changed one, a link and a missing one are refused."""
    experiment = kept(2.0, folder=tmp_path)
    digest = hashlib.sha256(DATA).hexdigest()
    (tmp_path / "checkpoint.pt").write_bytes(DATA)
    assert len(DATA) == checkpoint.copy_checkpoint(experiment, digest, tmp_path / "a")
    assert DATA == (tmp_path / "a").read_bytes()

    with pytest.raises(RecordFailed, match="exists"):
        checkpoint.copy_checkpoint(experiment, digest, tmp_path / "a")
    with pytest.raises(JournalError, match="does not match the record"):
        checkpoint.copy_checkpoint(experiment, "0" * 64, tmp_path / "b")
    with pytest.raises(JournalError, match="no checkpoint on record"):
        checkpoint.copy_checkpoint(kept(2.0, status=Status.DISCARD, folder=tmp_path / "0001"), None, tmp_path / "b")
    (tmp_path / "checkpoint.pt").rename(tmp_path / "c")
    (tmp_path / "checkpoint.pt").symlink_to(tmp_path / "c")
    with pytest.raises(RecordFailed, match="symbolic links"):
        checkpoint.copy_checkpoint(experiment, digest, tmp_path / "b")
    assert not (tmp_path / "b").exists()
