"""Texts in a folder of .txt, .jsonl and .parquet files, plain or compressed, as people have them. Streams.

Rules, the same for all kinds: a row or file without text (null, missing or blank) is left out and counted, as is every
file of another kind; what is not UTF-8, or is damaged, is an error that names the file. Standard library only, but for
Parquet and Zstandard.
"""

import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

PIECE_BYTES = 1 << 20  # a text of any length is read in pieces of at most this size
KINDS = (".txt", ".jsonl", ".parquet")
PACKED = (".gz", ".zst")  # of .txt and .jsonl
READ = "only .txt, .jsonl (also as .gz or .zst) and .parquet files are read"
FEW_TEXTS = 100  # fewer, and one of them may be most of the corpus: long ones are split, or a side would be empty
PARTS = 1000  # about so many documents are made of a corpus of few texts
SHORTEST_PART, LONGEST_PART = 2 << 10, 64 << 10  # bytes
NAMES = 8  # of other fields or columns, where there is no "text"
_BOM = b"\xef\xbb\xbf"
_BOUNDARY = re.compile(rb"\s*<\|endoftext\|>\s*|\n[ \t\r]*\n\s*")  # between documents, or paragraphs
_MARK = b"<|endoftext|>"

Text = Iterable[bytes]  # one text, in pieces that are UTF-8 each


def fail(message: str) -> NoReturn:
    """End with one line that names the file, its value and the fix."""
    raise SystemExit("error: " + message)


@dataclass(slots=True, kw_only=True)
class LeftOut:
    """What of a folder is no document, counted."""

    files: Counter[str] = field(default_factory=Counter)  # by the end of their names
    without_text: int = 0  # rows, and files

    def lines(self) -> Iterator[str]:
        """Yield what a person should know."""
        if count := self.files.total():
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.files.most_common(NAMES))
            yield f"left out: {count:,} file{'s' * (count != 1)} ({kinds}): {READ}"
        if count := self.without_text:
            yield f"left out: {count:,} {'row or file' if count == 1 else 'rows or files'} without text"


def list_files(folder: Path, left_out: LeftOut) -> list[tuple[Path, str]]:
    """Return the files that are read, by name, each with its kind; count the others."""
    found = []
    for path in sorted(_walk(folder)):
        kind = _kind(path.name)
        if path.name.startswith("."):
            left_out.files["hidden"] += 1
        elif not path.is_file():
            left_out.files["broken links or special files"] += 1
        elif kind is None:
            left_out.files[path.suffix.lower() or "without an ending"] += 1
        else:
            found.append((path, kind))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder but folders, through links; of a hidden folder its name only, of none twice."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        stat = Path(parent).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        yield from (Path(parent, name) for name in names)
        yield from (Path(parent, name) for name in folders if name.startswith("."))
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _kind(name: str) -> str | None:
    """Return the kind of a file, None if it is not read."""
    name = name.lower()
    unpacked = next((name.removesuffix(end) for end in PACKED if name.endswith(end)), None)
    kind = next((kind for kind in KINDS if (unpacked or name).endswith(kind)), None)
    return None if unpacked is not None and kind == ".parquet" else kind


def read_texts(folder: Path, left_out: LeftOut | None = None) -> Iterator[Text]:
    """Yield every text below a folder, by the names of the files; a text must be read before the next one."""
    left_out = left_out or LeftOut()
    readers: dict[str, Callable[[Path, LeftOut], Iterator[Text]]]
    readers = {".txt": _text_file, ".jsonl": _jsonl_file, ".parquet": _parquet_file}
    files = list_files(folder, left_out)
    if not files:
        seen = "".join(f"; {line}" for line in left_out.lines())
        fail(f"{folder} holds no .txt, .jsonl or .parquet file{seen or ': name a folder that does'}")
    for path, kind in files:
        yield from readers[kind](path, left_out)


# --- kinds of files -------------------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading what is in it, unpacked. Ends with one line if it cannot be read or unpacked."""
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as file:
                yield file  # type: ignore[misc]
        elif path.name.lower().endswith(".zst"):
            import pyarrow as pa  # type: ignore[import-not-found]

            with pa.input_stream(str(path), compression="zstd") as stream:
                yield _Lines(stream)  # type: ignore[misc]
        else:
            with path.open("rb") as file:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        fail(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): fix or remove it")


@dataclass(slots=True)
class _Lines:
    """Lines of a stream that only reads; the rest of a piece is kept for the next."""

    stream: Any

    def read(self, size: int) -> bytes:
        """Return up to so many bytes, b"" at the end."""
        return bytes(self.stream.read(size))

    def __iter__(self) -> Iterator[bytes]:
        rest: list[bytes] = []
        while block := self.read(PIECE_BYTES):
            *lines, last = block.split(b"\n")
            for line in lines:
                yield b"".join([*rest, line, b"\n"])
                rest = []
            rest.append(last)
        if any(rest):
            yield b"".join(rest)


def _text_file(path: Path, left_out: LeftOut) -> Iterator[Text]:
    """Yield a whole file as one text."""
    with _open(path) as file:
        head = file.read(len(_BOM))
        pieces = _pieces(file, b"" if head == _BOM else head, path)
        first = next(pieces)
        if not first.strip() and len(first) < PIECE_BYTES // 2:
            left_out.without_text += 1
            return

        def text() -> Iterator[bytes]:
            yield first
            yield from pieces

        yield text()


def _pieces(file: IO[bytes], rest: bytes, path: Path) -> Iterator[bytes]:
    """Yield a text of any length in bounded pieces."""
    while block := file.read(PIECE_BYTES):
        rest += block
        while len(rest) > PIECE_BYTES:
            at = end_of_piece(rest)
            yield _checked(rest[:at], str(path))
            rest = rest[at:]
    yield _checked(rest, str(path))


def _jsonl_file(path: Path, left_out: LeftOut) -> Iterator[Text]:
    """Yield the field `text` of every line."""
    found, others = False, dict[str, None]()
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line.removeprefix(_BOM) if number == 1 else line) if line.strip() else {}
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                _checked(line, f"{path} line {number}")
                fail(f"{path} line {number} is no JSON object: fix or remove it")
            others |= dict.fromkeys([*row][:NAMES])
            text = _encoded(row.get("text"), f"{path} line {number}")
            if not text.strip():
                left_out.without_text += bool(line.strip())
                continue
            found = True
            yield [text]
    _require_text(found, path, "field", [*others])


def _parquet_file(path: Path, left_out: LeftOut) -> Iterator[Text]:
    """Yield the column `text` of every row."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-not-found]

    number = 0
    try:
        file: Any = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if "text" not in names:
            _require_text(False, path, "column", names)  # noqa: FBT003
        for batch in file.iter_batches(batch_size=512, columns=["text"]):
            for value in batch.column(0):
                number += 1
                text = _encoded(value.as_py(), f"{path} row {number}")
                if text.strip():
                    yield [text]
                else:
                    left_out.without_text += 1
    except UnicodeDecodeError:
        fail(f"{path} row {number} is not UTF-8 text: convert or remove it")
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).replace(str(path), "it").splitlines()), "") or type(error).__name__
        fail(f"{path} cannot be read as Parquet ({reason}): fix or remove it")


def _encoded(value: object, where: str) -> bytes:
    """Return a value as UTF-8; b"" for none."""
    match value:
        case None:
            return b""
        case bytes():
            return _checked(value, where)
        case str():
            try:
                return value.encode()
            except UnicodeEncodeError:
                fail(f"{where} holds a character that UTF-8 cannot hold: fix or remove it")
    fail(f'{where}: "text" is no text but {type(value).__name__}: fix or remove it')


def _require_text(found: bool, path: Path, what: str, names: list[str]) -> None:  # noqa: FBT001
    """End with one line if a file has other fields, but no text at all."""
    if found or not names:
        return
    if "text" in names:
        fail(f'{path}: its {what} "text" is empty in every row: fix or remove it')
    fail(f'{path} has no {what} "text", but {", ".join(map(repr, names[:NAMES]))}: rename one, or remove the file')


# --- pieces ---------------------------------------------------------------------------------------------------------


def part_bytes(texts: int, total_bytes: int) -> int:
    """Return the size of the documents that few texts are split into; 0 where there are enough texts."""
    return 0 if texts >= FEW_TEXTS else min(max(total_bytes // PARTS, SHORTEST_PART), LONGEST_PART)


def split_text(pieces: Text, size: int) -> Iterator[bytes]:
    """Yield documents of a text: where a mark ends one, else of about `size` bytes, to a blank line or a line end."""
    rest = b""
    for piece in pieces:
        *documents, rest = _split(rest + piece, size)
        if len(rest) > PIECE_BYTES:
            documents.append(rest)
            rest = b""
        for document in documents:
            yield from _cut_long(document, size)
    for document in _split(rest, size):
        yield from _cut_long(document, size)


def _split(text: bytes, size: int) -> list[bytes]:
    """Return the documents of a text; the last one may go on."""
    documents, start = [], 0
    for found in _BOUNDARY.finditer(text):
        if _MARK in found.group():
            documents.append(text[start : found.start()])
            start = found.end()
        elif found.start() - start >= size:
            documents.append(text[start : found.end()])
            start = found.end()
    return [*documents, text[start:]]


def _cut_long(text: bytes, size: int) -> Iterator[bytes]:
    """Yield a text without a boundary in parts that end with a line, else between two characters."""
    start = 0
    while len(text) - start > 4 * size:
        end = text.find(b"\n", start + size, start + 4 * size) + 1 or _between_characters(text, start + 4 * size)
        yield text[start:end]
        start = end
    yield text[start:]


def end_of_piece(text: bytes) -> int:
    """Return where to cut a text that is longer than a piece: after a line, else between two characters."""
    return text.rfind(b"\n", 0, PIECE_BYTES) + 1 or _between_characters(text, PIECE_BYTES)


def _between_characters(text: bytes, at: int) -> int:
    while text[at] & 0xC0 == 0x80 and at > 1:  # in the middle of a UTF-8 character
        at -= 1
    return at


def is_text(text: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked(text: bytes, where: str) -> bytes:
    if not is_text(text):
        fail(f"{where} is not UTF-8 text: convert it (iconv -t UTF-8) or remove it")
    return text
