"""A container's output is bounded, counted and harmless, whatever it is."""

import hashlib
import re
import tracemalloc
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.walls.bounded_log import HEAD_BYTES, LINE_BYTES, SHOWN_BYTES, STAMP_BYTES, TAIL_BYTES, BoundedLog

LINE = re.compile(r"\[ *\d+\.\d{3} (out|err)\] [^\n]*\n")


def log_of(path: Path, chunks: list[tuple[str, bytes]]) -> tuple[BoundedLog, list[str], str]:
    """Feed it; the log, the lines shown, and the file's text."""
    shown: list[str] = []
    log = BoundedLog(path / "a.log", shown.append)
    for stream, data in chunks:
        log.feed(stream, data)
    log.close()
    return log, shown, (path / "a.log").read_text(encoding="utf-8")


def test_lines_are_kept_in_order_with_their_stream(tmp_path: Path) -> None:
    """However the chunks fall; what has no line end is a line too."""
    chunks = [("out", b"one\ntw"), ("err", b"warning\n"), ("out", b"o\n"), ("out", b"three")]
    log, shown, text = log_of(tmp_path, chunks)

    assert ["one", "warning", "two", "three"] == shown
    assert ["out", "err", "out", "out"] == LINE.findall(text)
    assert {"out": 13, "err": 8} == log.counts
    assert 0 == log.dropped
    assert "one\nwarning\ntwo\nthree" == log.tail
    assert 0o600 == (tmp_path / "a.log").stat().st_mode & 0o777


def test_a_flood_keeps_its_head_and_its_tail(tmp_path: Path) -> None:
    """64 MiB in lines: the first and the last are there, what is dropped is counted, the file is bounded."""
    flood = [("out", f"{number:07d} {'x' * 1000}\n".encode()) for number in range(65_000)]
    total = sum(len(data) for _, data in flood)
    log, _, text = log_of(tmp_path, [("out", b"first\n"), *flood, ("err", b"last\n")])

    assert "first" in text[:100]
    assert "last" in text[-100:]
    assert total + 6 == log.counts["out"]
    assert f"{log.dropped} bytes dropped" in text
    assert total - HEAD_BYTES - 2 * TAIL_BYTES < log.dropped < total
    assert len(text) < 3 * (HEAD_BYTES + TAIL_BYTES)
    assert log.tail.endswith("last")


def test_one_line_of_a_gigabyte_is_cut_and_costs_no_memory(tmp_path: Path) -> None:
    """It comes in pieces and never ends; neither the file nor the process grows with it."""
    log = BoundedLog(tmp_path / "a.log", None)
    piece = b"x" * (1 << 20)
    tracemalloc.start()
    for _ in range(1024):
        log.feed("out", piece)
    log.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert 1 << 30 == log.counts["out"]
    assert peak < 32 << 20
    assert (tmp_path / "a.log").stat().st_size < 4 * (HEAD_BYTES + TAIL_BYTES)
    assert max(map(len, (tmp_path / "a.log").read_text().splitlines())) <= LINE_BYTES + 20
    assert len(log.tail) <= SHOWN_BYTES + LINE_BYTES


def test_bytes_one_by_one_cost_no_memory(tmp_path: Path) -> None:
    """However they alternate between the streams."""
    log = BoundedLog(tmp_path / "a.log", None)
    log.feed("out", b"x" * HEAD_BYTES)
    tracemalloc.start()
    for _ in range(TAIL_BYTES):
        log.feed("out", b"x")
        log.feed("err", b"y")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    log.close()

    assert peak < 16 << 20
    assert HEAD_BYTES + 2 * TAIL_BYTES == sum(log.counts.values())


def test_empty_lines_are_lines(tmp_path: Path) -> None:
    """16 MiB of nothing but line ends fill neither results, nor the file, nor a screen."""
    log, shown, text = log_of(tmp_path, [("out", b"\n" * (1 << 15))] * 512)

    assert len(log.tail) <= SHOWN_BYTES
    assert len(text) < 2 * (HEAD_BYTES + TAIL_BYTES)
    assert len(shown) < 2 * (HEAD_BYTES + TAIL_BYTES) // STAMP_BYTES
    assert log.dropped > 15 << 20


def test_what_is_not_text_is_shown_harmlessly(tmp_path: Path) -> None:
    """NULs, broken UTF-8, escape sequences, carriage returns and bidi controls neither break nor move anything."""
    nasty = b"a\x00b\xff\xfe\xc3\x28 \x1b]0;title\x07\x1b[2J\rfake\xe2\x80\xae right\x9b31m\n"
    log, shown, text = log_of(tmp_path, [("out", nasty), ("err", b"\xe2\x82"), ("err", b"\xac\n")])

    assert len(nasty) + 4 == sum(log.counts.values())
    assert 2 == len(LINE.findall(text))
    assert "€" == shown[-1]
    for character in "\x00\x1b\r\u202e\x9b\x07":
        assert character not in text + log.tail + "".join(shown)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(chunks=st.lists(st.tuples(st.sampled_from(["out", "err"]), st.binary(max_size=3 * LINE_BYTES)), max_size=20))
def test_any_bytes_in_any_pieces(tmp_path: Path, chunks: list[tuple[str, bytes]]) -> None:
    """Every byte is counted and hashed; every line of the file has its stamp."""
    log, _, text = log_of(tmp_path, chunks)
    expected = hashlib.sha256(b"".join(s.encode() + len(d).to_bytes(4, "big") + d for s, d in chunks)).hexdigest()

    assert expected == log.sha256
    assert sum(len(data) for _, data in chunks) == sum(log.counts.values())
    assert text.count("\n") == len(LINE.findall(text))
