"""Where documents come from: the Python library sources of this image, or a folder of text. Streams; keeps no text.

Standard library only; folders are read by texts.py. As a command it runs once, when the image of experiments is built:

    python3 corpus.py --set-apart     # delete the documents that a task may keep private from this image
"""

import argparse
import hashlib
import json
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

LONGEST_SOURCE_BYTES = 200_000  # Python files beyond are generated tables
FORMULAS = {"sympy", "mpmath"}  # packages that are more algebra and tables than text
LONGEST_BYTES = 1 << 20  # longer texts are cut into several documents, at the end of a line where there is one
SET_APART = "autoresearch-set-apart.json"  # says that the private documents are gone from this image
PRIVATE_SHARE = 0.1  # of the text that may be private, at most, for each of the two; of the library always this much


def fail(message: str) -> NoReturn:
    """End with one line that names the file, its value and the fix."""
    raise SystemExit("error: " + message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text, or a part of one that is too long. Only one that `may_be_private` can be used for validation."""

    text: bytes
    digest: bytes  # of the text, for all of its parts
    may_be_private: bool = True
    part: int = 0

    def chance(self, salt: bytes = b"") -> float:
        """Return a number in [0, 1) derived from the text: equal texts, and parts of one, are on the same side."""
        return int.from_bytes(hashlib.sha256(salt + self.digest).digest()[:8], "big") / 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A source of documents that can be read several times, always in the same order."""

    name: str
    share: float  # of the documents that may be private, for each of val and holdout
    total_bytes: int
    eligible_bytes: int  # of documents that may be private
    folder: Path | None  # None: the library
    part_bytes: int = 0  # texts of a folder are split into documents of about this size; 0: they are not

    def documents(self) -> Iterator[Document]:
        """Yield every document; equal ones may repeat."""
        return _library_documents() if self.folder is None else _folder_documents(self.folder, self.part_bytes)

    def side(self, document: Document) -> str:
        """Return `val`, `holdout` or `train`, by the hash of the text."""
        if not document.may_be_private or (chance := document.chance()) >= 2 * self.share:
            return "train"
        return "val" if chance < self.share else "holdout"


def open_corpus(name: str, private_bytes: int = 1 << 20) -> Corpus:
    """Count the text once and fix how large the private share is.

    Of a folder, `private_bytes` of text are wanted for each of val and holdout; of the library a fixed share is taken.
    """
    if name != "python":
        if not Path(name).is_dir():
            fail(f"{name} is neither 'python' nor a folder: name a folder of .txt, .jsonl or .parquet files")
        return _open_folder(Path(name), private_bytes)
    if (_purelib() / SET_APART).exists():
        fail("--corpus python: this image holds no private documents any more: prepare the data in its -library image")
    total = eligible = 0
    for document in _library_documents():
        total += len(document.text)
        eligible += len(document.text) * document.may_be_private
    if not eligible:
        fail("--corpus python holds no text: this image has no library")
    return Corpus(name="python", share=PRIVATE_SHARE, total_bytes=total, eligible_bytes=eligible, folder=None)


# --- the library ----------------------------------------------------------------------------------------------------


def _purelib() -> Path:
    return Path(sysconfig.get_paths()["purelib"])


def _removable(path: Path) -> bool:
    """Return whether a file can be removed from the experiments' image: no experiment imports tests, nor pyarrow."""
    return not {"test", "tests", "pyarrow"}.isdisjoint(path.parts[:-1])


def _library() -> dict[bytes, list[Path]]:
    """Return Python sources of this image by the SHA-256 of their text, in the order of the hashes."""
    found: dict[bytes, set[Path]] = {}
    for path in _library_files():
        text = path.read_bytes() if path.stat().st_size <= LONGEST_SOURCE_BYTES else b""
        if text.strip() and _is_text(text):
            found.setdefault(hashlib.sha256(text).digest(), set()).add(path)
    return {digest: sorted(found[digest]) for digest in sorted(found)}


def _library_files() -> Iterator[Path]:
    """Yield all .py files of the standard library and of the installed packages, each once, links not followed."""
    places = sysconfig.get_paths()
    for root in {Path(places[key]).resolve() for key in ("stdlib", "purelib", "platlib")}:
        for path in root.rglob("*.py"):
            if path.is_file() and not path.is_symlink() and not FORMULAS & set(path.parts):
                yield path


def _library_documents() -> Iterator[Document]:
    for digest, paths in _library().items():
        removable = all(_removable(path) for path in paths)
        yield from _documents([paths[0].read_bytes()], may_be_private=removable, digest=digest)


def set_apart() -> None:
    """Delete the private documents and their bytecode, so that no experiment can find them in the image it runs in."""
    corpus = open_corpus("python")
    files = size = 0
    for digest, paths in _library().items():
        document = Document(text=b"", digest=digest, may_be_private=all(_removable(path) for path in paths))
        if corpus.side(document) == "train":
            continue
        for path in paths:
            size += path.stat().st_size
            files += 1
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                compiled.unlink()
            path.unlink()
    (_purelib() / SET_APART).write_text(json.dumps({"files": files, "bytes": size}) + "\n")
    print(f"set apart: {files} files, {size:,} bytes", flush=True)


# --- a folder -------------------------------------------------------------------------------------------------------


def _folder_documents(folder: Path, part_bytes: int) -> Iterator[Document]:
    """Yield documents of all texts below `folder`, long ones split if `part_bytes` says so."""
    import texts

    for text in texts.read_texts(folder):
        if part_bytes:
            for part in texts.split_text(text, part_bytes):
                yield from _documents([part])
        else:
            yield from _documents(text)


def _open_folder(folder: Path, private_bytes: int) -> Corpus:
    """Count the texts of a folder, and say what is left out of it."""
    import texts  # the image is built without it

    left_out, count, total = texts.LeftOut(), 0, 0
    for text in texts.read_texts(folder, left_out):
        count += 1
        total += sum(map(len, text))
    for line in left_out.lines():
        print(line, flush=True)
    if not total:
        fail(f"{folder} holds no text: name a folder of .txt, .jsonl or .parquet files")
    part_bytes = texts.part_bytes(count, total)
    if part_bytes:
        print(
            f"few texts ({count:,}): each is split into documents of about {part_bytes:,} bytes, at <|endoftext|> or"
            " blank lines",
            flush=True,
        )
    share = min(PRIVATE_SHARE, private_bytes / total)
    return Corpus(
        name="folder", share=share, total_bytes=total, eligible_bytes=total, folder=folder, part_bytes=part_bytes
    )


# --- pieces ---------------------------------------------------------------------------------------------------------


def _documents(pieces: Iterable[bytes], *, may_be_private: bool = True, digest: bytes = b"") -> Iterator[Document]:
    """Yield a text as one document, or several if it is too long: all with `digest`, else that of its beginning."""
    part = 0
    for piece in pieces:
        rest = piece
        while rest:
            at = _end_of_piece(rest) if len(rest) > LONGEST_BYTES else len(rest)
            text, rest = rest[:at], rest[at:]
            if text.strip():
                digest = digest or _likeness(text)
                yield Document(text=text, digest=digest, may_be_private=may_be_private, part=part)
                part += 1


def _likeness(text: bytes) -> bytes:
    """Return the SHA-256 of a text without white space and capitals: copies that differ in these count as equal."""
    return hashlib.sha256(b"".join(text.split()).lower()).digest()


def _end_of_piece(text: bytes) -> int:
    """Find where to cut a text that is too long: after a line, else between two characters."""
    if at := text.rfind(b"\n", 0, LONGEST_BYTES) + 1:
        return at
    at = LONGEST_BYTES
    while text[at] & 0xC0 == 0x80:  # in the middle of a UTF-8 character
        at -= 1
    return at


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def main() -> None:
    """Take the private documents out of this image."""
    parser = argparse.ArgumentParser(description="Take the private documents out of this image.")
    parser.add_argument("--set-apart", action="store_true", required=True, help="delete them, wherever they are")
    parser.parse_args()
    set_apart()


if __name__ == "__main__":
    main()
