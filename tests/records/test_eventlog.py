"""session.log: a chain of lines, whoever appends to it."""

import json
import threading
from pathlib import Path

import pytest
import structlog

from orchestrator.errors import RecordFailed
from orchestrator.record.session_log import Chain, findings, logging_to


def write(path: Path, who: int, lines: int = 50) -> None:
    """Events of one writer."""
    chain = Chain(path)
    for number in range(lines):
        chain.append({"event": "test", "who": who, "number": number})
    chain.close()


def test_threads_and_processes_append_to_one_chain(tmp_path: Path) -> None:
    """A second session that is refused, a watcher's thread: their lines follow each other."""
    path = tmp_path / "session.log"
    shared = Chain(path)
    threads = [threading.Thread(target=write, args=(path, who)) for who in range(3)]
    threads += [
        threading.Thread(target=lambda: [shared.append({"event": "shared", "n": n}) for n in range(50)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.close()

    assert 300 == len(path.read_text().splitlines())
    assert [] == list(findings(path, set()))
    assert 0o600 == path.stat().st_mode & 0o777


def test_half_a_line_is_cut_off_and_the_chain_goes_on(tmp_path: Path) -> None:
    """What a full disk left; what follows is whole."""
    path = tmp_path / "session.log"
    write(path, 1, 3)
    path.write_bytes(path.read_bytes()[:-20])
    assert ["session.log: ends in the middle of a line"] == list(findings(path, set()))
    write(path, 2, 1)

    assert [] == list(findings(path, set()))
    assert [1, 1, 2] == [json.loads(line)["who"] for line in path.read_text().splitlines()]


def test_a_line_taken_out_or_put_in_is_named(tmp_path: Path) -> None:
    """By its number."""
    path = tmp_path / "session.log"
    write(path, 1, 5)
    lines = path.read_text().splitlines(keepends=True)
    for changed, number in ((lines[:2] + lines[3:], 3), ([*lines[:4], '{"event": "mine"}\n', *lines[4:]], 5)):
        path.write_text("".join(changed))
        assert f"session.log: line {number} is not what" in "\n".join(findings(path, set()))


def test_heads_go_to_the_file_and_not_to_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees the event; the chain's head is for verify."""
    with logging_to(tmp_path / "run", screen=True):
        structlog.get_logger().info("experiment.finished", status="keep", head="a" * 64)
    said = capsys.readouterr().err

    assert "status=keep" in said
    assert "aaaa" not in said
    assert "names a record that is gone" in next(findings(tmp_path / "run" / "session.log", {"b" * 64}))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before anything starts."""
    (tmp_path / "file").touch()
    with pytest.raises(RecordFailed, match="cannot be written"), logging_to(tmp_path / "file" / "run", screen=False):
        pass
