"""Frames between a scorer and a predictor that may do anything with its folder."""

import os
import socket
import threading
import time
from pathlib import Path

import frames
import numpy as np
import protocol
import pytest

NAME = "00000001.answer"


def test_a_frame_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Written whole, read whole, and nothing but the frame is left in the folder."""
    frames.write(tmp_path, NAME, b"12345678")

    assert b"12345678" == frames.read(tmp_path, NAME, 8)
    assert [tmp_path / NAME] == list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"1234567", b"123456789", b"x" * 100_000])
def test_any_other_size_is_refused(tmp_path: Path, data: bytes) -> None:
    """The reader knows the size beforehand; a shorter or longer frame is no frame."""
    frames.write(tmp_path, NAME, data)

    with pytest.raises(frames.FrameError, match=f"has {len(data)} bytes, expected 8"):
        frames.read(tmp_path, NAME, 8)


def test_a_huge_sparse_file_is_refused_unread(tmp_path: Path) -> None:
    """A terabyte of nothing costs the reader nothing."""
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(frames.FrameError, match="1099511627776 bytes"):
        frames.read(tmp_path, NAME, 8)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symlink to a file of the right size is refused, and so is one that leads nowhere or to itself."""
    (tmp_path / "real").write_bytes(b"12345678")
    for number, target in enumerate(("real", "nowhere", "2", "/etc/passwd")):
        (tmp_path / str(number)).symlink_to(target)

        with pytest.raises(frames.FrameError, match="cannot be opened"):
            frames.read(tmp_path, str(number), 8)


@pytest.mark.timeout(5)
def test_special_files_are_refused_without_blocking(tmp_path: Path) -> None:
    """FIFO, directory and socket: refused at once, though nobody writes to them."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("fifo", "folder", "socket"):
            with pytest.raises(frames.FrameError):
                frames.read(tmp_path, name, 8)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """A thousand refusals do not use up the reader's descriptors."""
    (tmp_path / "folder").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(100):
        with pytest.raises(frames.FrameError):
            frames.read(tmp_path, "folder", 8)

    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_what_was_read_is_a_copy(tmp_path: Path) -> None:
    """The writer can change the file afterwards, not what was read."""
    frames.write(tmp_path, NAME, b"\0" * 8)
    data = frames.read(tmp_path, NAME, 8)
    with (tmp_path / NAME).open("r+b") as file:
        file.write(b"\xff" * 8)

    assert 0.0 == frames.to_array(data, (2,), "<f4").sum()


def test_waiting_ends_with_the_frame(tmp_path: Path) -> None:
    """A frame that comes later is waited for."""
    timer = threading.Timer(0.1, frames.write, (tmp_path, NAME, b"x"))
    timer.start()
    frames.wait(tmp_path, NAME, until=time.monotonic() + 5)
    timer.join()

    assert b"x" == frames.read(tmp_path, NAME, 1)


def test_waiting_is_bounded(tmp_path: Path) -> None:
    """A frame that never comes is no answer, and says so."""
    with pytest.raises(frames.NoAnswer, match=NAME):
        frames.wait(tmp_path, NAME, until=time.monotonic() + 0.05)


def test_a_dangling_link_counts_as_having_come(tmp_path: Path) -> None:
    """It must be refused at once, not waited for until the time is over."""
    (tmp_path / NAME).symlink_to("nowhere")
    frames.wait(tmp_path, NAME, until=time.monotonic() - 1)

    with pytest.raises(frames.FrameError, match="cannot be opened"):
        frames.read(tmp_path, NAME, 8)


def test_a_question_survives_its_encoding() -> None:
    """Both kinds: tokens and positions come back as they were."""
    tokens = np.arange(12).reshape(3, 4)
    for kind, positions in ((protocol.CLAIMS, np.zeros(0, np.int32)), (protocol.PREFIX, np.array([3, 1, 2]))):
        ask = protocol.decode(protocol.Ask(kind=kind, tokens=tokens, positions=positions).encode())

        assert kind == ask.kind
        assert tokens.tolist() == ask.tokens.tolist()
        assert positions.tolist() == ask.positions.tolist()


def test_a_question_of_another_version_is_not_understood() -> None:
    """Scorer and predictor come from one copy; anything else is our own bug and loud."""
    with pytest.raises(ValueError, match="expected"):
        protocol.decode(b"asb9" + bytes(12))
