"""session.log: whole lines, whoever appends to it; what ends a session records its hash."""

import json
import threading
from pathlib import Path

import pytest
import structlog

from orchestrator.errors import RecordFailed
from orchestrator.logger import log
from orchestrator.record.session_log import digest, log_to


def test_threads_append_whole_lines(tmp_path: Path) -> None:
    """A watcher's thread and the loop's: no line is torn, and the file is its owner's alone."""
    long = "x" * 20_000

    def write(who: int) -> None:
        for number in range(50):
            structlog.get_logger().info("test", who=who, number=number, text=long)

    with log_to(tmp_path, screen=False):
        threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(line) for line in (tmp_path / "session.log").read_text().splitlines()]

    assert {(who, number) for who in range(4) for number in range(50)} == {(x["who"], x["number"]) for x in lines}
    assert 200 == len(lines)
    assert 0o600 == (tmp_path / "session.log").stat().st_mode & 0o777


def test_the_digest_covers_what_was_logged_so_far(tmp_path: Path) -> None:
    """What comes later does not change it, what changes before does."""
    with log_to(tmp_path, screen=False):
        structlog.get_logger().info("first")
        before = digest(tmp_path)
        structlog.get_logger().info("second")
    assert before is not None
    assert before == digest(tmp_path, before.size)
    path = tmp_path / "session.log"
    path.write_text(path.read_text().replace("first", "1st"))

    assert before != digest(tmp_path, before.size)


def test_a_person_sees_plain_lines_where_there_is_no_live_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has them as JSON either way."""
    for screen in (True, False):
        with log_to(tmp_path / "run", screen=screen):
            structlog.get_logger().info("experiment.finished", status="keep")
        assert screen == ("status=keep" in capsys.readouterr().err)

    lines = (tmp_path / "run" / "session.log").read_text().splitlines()
    assert ["keep", "keep"] == [json.loads(line)["status"] for line in lines]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before anything starts."""
    (tmp_path / "file").touch()
    with pytest.raises(RecordFailed, match="cannot be written"), log_to(tmp_path / "file" / "run", screen=False):
        pass


def test_a_warning_is_shown_once_above_the_live_view(tmp_path: Path) -> None:
    """One that the view shows as an event is not; all of them are in the log."""
    shown = list[str]()
    with log_to(tmp_path, screen=False, show_warning=shown.append):
        log = structlog.get_logger()
        for _ in range(2):
            log.warning("notify.failed", occasion="a new best", exit_code=3)
        log.warning("champion.replaced", experiment_id=3)
        log.info("containers.reaped", names=["a"])

    assert ["notify.failed, occasion a new best, exit_code 3"] == shown
    assert 4 == len((tmp_path / "session.log").read_text().splitlines())


def test_outside_a_session_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for answers, though nothing was configured before the first line."""
    structlog.reset_defaults()
    log.warning("index.rebuilt", reason="it was deleted")
    printed = capsys.readouterr()

    assert "" == printed.out
    assert "index.rebuilt" in printed.err
