"""The data of the language-model task: packing, splitting, counting bytes, manifests, downloads. No torch here."""

import ast
import gzip
import http.server
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import build
import climbmix
import corpus
import numpy as np
import prepare
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

LOCKED = Path(prepare.__file__).parent
BYTES = [bytes([value]) for value in range(256)]  # a tokenizer of single bytes: cuts every character it can


def as_tokens(text: bytes) -> np.ndarray:
    """The tokens of `BYTES`."""
    return np.frombuffer(text, dtype=np.uint8).astype("<u2")


def write_prepared(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A prepared folder with a true manifest."""
    folder.mkdir(parents=True)
    files = {}
    for name, array in arrays.items():
        np.save(folder / name, array)
        path = folder / name
        files[name] = {"bytes": path.stat().st_size, "sha256": prepare.file_sha256(path), "count": len(array)}
    (folder / "manifest.json").write_text(json.dumps({"profile": prepare.PROFILE, "files": files}))
    return folder


# --- packing --------------------------------------------------------------------------------------------------------


def test_the_longest_piece_that_fits_comes_first_and_the_shortest_is_cropped() -> None:
    """Best fit: 6 then 3 fill 9 of 10, nothing fits the last one, so the shortest (2) gives its BOS."""
    expected = [[(1, 6), (2, 3), (0, 1)]]

    assert expected == list(prepare.plan_rows(iter([2, 6, 3]), 10))


@given(lengths=st.lists(st.integers(1, 30), max_size=80), width=st.integers(1, 20), waiting=st.integers(1, 10))
def test_rows_are_full_and_no_piece_is_used_twice(lengths: list[int], width: int, waiting: int) -> None:
    """Every row has exactly its width, every piece stands in one place at most, nothing is longer than it was."""
    rows = list(prepare.plan_rows(iter(lengths), width, waiting))
    used = [number for row in rows for number, _ in row]

    assert all(sum(taken for _, taken in row) == width for row in rows)
    assert len(used) == len(set(used))
    assert all(1 <= taken <= lengths[number] for row in rows for number, taken in row)


@given(st.lists(st.integers(0, 700), min_size=1, max_size=20))
def test_pieces_cover_their_documents_exactly(lengths: list[int]) -> None:
    """Cutting loses and repeats no token, crosses no document, and no piece is too long."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    begin, end = prepare.cut(starts)

    assert list(range(sum(lengths))) == [token for b, e in zip(begin, end, strict=True) for token in range(b, e)]
    assert all(0 < e - b <= prepare.MAX_SEQ_LEN for b, e in zip(begin, end, strict=True))
    assert set(starts[:-1][np.diff(starts) > 0]) <= set(begin)


def write_training(folder: Path, documents: list[bytes]) -> None:
    """One shard of training tokens."""
    folder.mkdir()
    as_tokens(b"".join(documents)).tofile(folder / "tokens-000000.bin")
    np.save(folder / "starts-000000.npy", np.cumsum([0] + [len(document) for document in documents]))


def test_training_rows_depend_on_the_seed_alone(tmp_path: Path) -> None:
    """The same seed gives the same rows, another seed others; every row begins with BOS."""
    write_training(tmp_path / "train", [bytes([65 + index]) * (index * 7 % 400 + 1) for index in range(60)])

    def take(seed: int) -> np.ndarray:
        rows = prepare.training_rows(tmp_path / "train", seed, 129)
        return np.stack([next(rows) for _ in range(200)])  # several epochs

    assert (take(1) == take(1)).all()
    assert (take(1) != take(2)).any()
    assert (take(1)[:, 0] == prepare.BOS_TOKEN_ID).all()


# --- bytes ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1, max_size=400), min_size=5, max_size=20))
def test_the_bytes_of_a_row_are_those_of_the_raw_text(texts: list[str]) -> None:
    """Row bytes count raw UTF-8 bytes, though rows cut characters in two; BOS covers none."""
    raw = [text.encode() for text in texts]
    rows, row_bytes = build.evaluation_rows(raw, [as_tokens(text) for text in raw], BYTES)

    assert rows.shape == (len(row_bytes), prepare.MAX_SEQ_LEN + 1)
    assert [int((row[1:] != prepare.BOS_TOKEN_ID).sum()) for row in rows] == row_bytes.tolist()
    assert (rows[:, 0] == prepare.BOS_TOKEN_ID).all()


def test_tokens_that_do_not_cover_the_raw_text_are_refused() -> None:
    """A tokenizer that loses a byte would change the denominator."""
    text = "häuser ".encode() * 40

    with pytest.raises(SystemExit, match="byte for byte"):
        build.evaluation_rows([text], [as_tokens(text.replace(b"h", b"x", 1))], BYTES)


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=20))
def test_repeated_hashes_are_found(batches: list[list[int]]) -> None:
    """`Seen` agrees with a set."""
    seen, known = build.Seen(), set[int]()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value not in known)
            known.add(value)

        assert expected == seen.add(np.array(batch, dtype=np.uint64)).tolist()
    assert sorted(known) == seen.all().tolist()


# --- corpora --------------------------------------------------------------------------------------------------------


def folder_of(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A corpus folder."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    """Text files are documents, lines of .jsonl are documents, other files and empty texts are not."""
    line = json.dumps({"text": "zwei ü", "other": 1}).encode()
    folder = folder_of(tmp_path, {"b.txt": b"eins\r\n", "c.jsonl": line + b'\n\n{"text": " "}\n', "a.md": b"no"})
    expected = [b"eins\r\n", "zwei ü".encode()]

    assert expected == [document.text for document in corpus.open_corpus(str(folder)).documents()]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", "a.txt is not UTF-8 text"),
        ("a.jsonl", b'{"txt": "x", "id": 1}\n', "a.jsonl has no field \"text\", but 'txt', 'id': rename one"),
        ("a.jsonl", b'{"text": null}\n', 'a.jsonl: its field "text" is empty in every row'),
        ("a.jsonl", b'{"text": ["x"]}\n', 'a.jsonl line 1: "text" is no text but list'),
        ("a.jsonl", b'{"text": "x"}\n{"text": "x"\n', "a.jsonl line 2 is no JSON object"),
        ("a.jsonl", b"[1]\n", "a.jsonl line 1 is no JSON object"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "a.jsonl line 1 is not UTF-8"),
        ("a.txt.gz", b"text", r"a.txt.gz cannot be read \(Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], "a.txt.gz cannot be read"),
        ("a.jsonl.zst", b"text", "a.jsonl.zst cannot be read"),
        ("a.parquet", b"PAR1", "a.parquet cannot be read as Parquet"),
        ("a.parquet.gz", b"x", "holds no .txt, .jsonl or .parquet file; left out: 1 file .1 .gz.: only .txt"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl line 1"),
        ("a.md", b"text", "holds no .txt, .jsonl or .parquet file"),
        ("a.txt", b" \n", "holds no text"),
    ],
)
def test_a_bad_corpus_is_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The one line names the file and the fix."""
    with pytest.raises(SystemExit, match=message):
        corpus.open_corpus(str(folder_of(tmp_path, {name: content})))


def test_a_corpus_that_is_no_folder_is_refused() -> None:
    """The value is named."""
    with pytest.raises(SystemExit, match="/nowhere is neither 'python' nor a folder"):
        corpus.open_corpus("/nowhere")


def test_a_long_text_is_cut_after_lines_and_between_characters(tmp_path: Path) -> None:
    """Pieces join to the whole, end at a line where there is one, and each is valid UTF-8."""
    lines, unbroken = "zeile äöü\n" * 200_000, "ä" * 1_000_000
    folder = folder_of(tmp_path, {"a.txt": lines.encode(), "b.txt": unbroken.encode()})
    pieces = [document.text.decode() for document in corpus.open_corpus(str(folder)).documents()]

    assert lines + unbroken == "".join(pieces)
    assert len(pieces) >= 4
    assert all(len(piece.encode()) <= corpus.LONGEST_BYTES for piece in pieces)
    assert pieces[0].endswith("\n")


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_all_of_a_long_text_is_on_one_side(tmp_path: Path, kind: str) -> None:
    """That of its beginning; else the model would be scored on the rest of what it was trained on."""
    long = "".join(f"line {number} of a novel\n" for number in range(200_000))
    content = long if kind == "txt" else json.dumps({"text": long})
    others = "".join(json.dumps({"text": f"short {number}"}) + "\n" for number in range(100)).encode()
    opened = corpus.open_corpus(str(folder_of(tmp_path, {f"a.{kind}": content.encode(), "b.jsonl": others})))
    parts = list(opened.documents())[:-100]

    assert [0, 1, 2, 3, 4][: len(parts)] == [part.part for part in parts]
    assert len(parts) > 3
    assert 1 == len({part.digest for part in parts})
    assert long.encode() == b"".join(part.text for part in parts)


def test_no_part_of_a_long_text_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many batches it takes; a second copy is left out whole."""
    monkeypatch.setattr(build, "BATCH_BYTES", 1)
    long = b"a line\n" * 400_000
    many = {f"d{number}.txt": b"short" for number in range(100)}
    opened = corpus.open_corpus(str(folder_of(tmp_path, {"a.txt": long, "b.txt": b"short", "c.txt": long, **many})))
    tokens = SimpleNamespace(encode_ordinary_batch=lambda texts, num_threads: [[0] for _ in texts])
    encoded = build._encoded(opened.documents(), SimpleNamespace(encoding=tokens), build.Seen())

    assert long + b"short" == b"".join(text for text, _ in encoded)


def test_copies_that_differ_in_spaces_and_capitals_are_one_text(tmp_path: Path) -> None:
    """A copy with other line ends is no unseen text."""
    texts = ["def f():\n    return 1\n", "def f():\r\n\treturn 1", "DEF F(): RETURN 1", "def f(): return 2"]
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    opened = corpus.open_corpus(str(folder_of(tmp_path, {"a.jsonl": content})))

    assert [1, 1, 1, 2] == [1 + (one.digest != next(opened.documents()).digest) for one in opened.documents()]


def test_equal_texts_are_on_one_side_and_every_side_has_some(tmp_path: Path) -> None:
    """The side depends on the text alone, and about a tenth of a small corpus goes to each private side."""
    texts = [f"document {number}" for number in range(2000)]
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts + texts).encode()
    opened = corpus.open_corpus(str(folder_of(tmp_path, {"a.jsonl": content})))
    sides = [opened.side(document) for document in opened.documents()]

    assert sides[:2000] == sides[2000:]
    assert 100 < sides[:2000].count("val") < 300
    assert 100 < sides[:2000].count("holdout") < 300


def parquet(rows: object, column: str = "text") -> bytes:
    """A Parquet file of one column."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(rows))), column: rows}), sink)  # type: ignore[arg-type]
    return sink.getvalue()


ROWS = ["eins", None, "", " ", "zwei ü"]
JSONL = "".join(json.dumps({"text": row} if row is not None else {"id": 1}) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.JSONL", b"\xef\xbb\xbf" + JSONL.replace(b"\n", b"\r\n")),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.jsonl.zst", pa.compress(JSONL, codec="zstd", asbytes=True)),
        ("a.parquet", parquet(ROWS)),
        ("a.Parquet", parquet(pa.array(ROWS).cast(pa.large_string()))),
        ("a.parquet", parquet(pa.array(ROWS).dictionary_encode())),
        ("a.parquet", parquet(pa.array(ROWS).cast(pa.binary()))),
    ],
)
def test_a_row_without_text_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    """One rule for every kind of file, compressed or not: null, missing and blank texts are no documents."""
    opened = corpus.open_corpus(str(folder_of(tmp_path, {name: content})))

    assert ["eins", "zwei ü"] == [document.text.decode() for document in opened.documents()]
    assert "left out: 3 rows or files without text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (parquet(["x"], "content"), "a.parquet has no column \"text\", but 'id', 'content': rename one"),
        (parquet([1, 2]), 'a.parquet row 1: "text" is no text but int'),
        (parquet(pa.array([b"ok", b"caf\xe9"])), "a.parquet row 2 is not UTF-8 text"),
        (parquet(pa.array([b"ok", b"caf\xe9"]).view(pa.string())), "a.parquet row 2 is not UTF-8 text"),
    ],
)
def test_a_bad_parquet_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    """With the columns there are, or the row."""
    with pytest.raises(SystemExit, match=message):
        corpus.open_corpus(str(folder_of(tmp_path, {"a.parquet": content})))


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the ends of the names; links to files and folders are followed, in circles too."""
    files = {"b.json": b"{}", "d.md": b"x", "e.MD": b"x", "C.TXT": b"three", ".hidden.txt": b"x", "empty.txt": b" \n"}
    folder = folder_of(tmp_path, files)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("no")
    (elsewhere := tmp_path.with_name(f"{tmp_path.name}-elsewhere")).mkdir()
    (elsewhere / "f.txt").write_text("four")
    (tmp_path / "linked").symlink_to(elsewhere)
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "broken.txt").symlink_to("nowhere")
    opened = corpus.open_corpus(str(folder))
    out = capsys.readouterr().out

    assert [b"three", b"four"] == [document.text for document in opened.documents()]
    assert "left out: 6 files (2 hidden, 2 .md, 1 .json, 1 broken links or special files): only .txt" in out
    assert "left out: 1 row or file without text" in out


PLAY = "".join(f"SPEAKER {number}:\n{'words and words ' * 20}\n\n" for number in range(12_000))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("input.txt", PLAY.encode()),
        ("input.txt.gz", gzip.compress(PLAY.encode())),
        ("input.jsonl", json.dumps({"text": PLAY}).encode()),
        ("input.parquet", parquet([PLAY])),
    ],
)
def test_one_large_text_is_split_into_documents(tmp_path: Path, name: str, content: bytes) -> None:
    """At blank lines, none of it lost; every side gets some."""
    opened = corpus.open_corpus(str(folder_of(tmp_path, {name: content})))
    documents = list(opened.documents())
    sides = [opened.side(document) for document in documents]

    assert PLAY.encode() == b"".join(document.text for document in documents)
    assert all(document.text.startswith(b"SPEAKER") for document in documents)
    assert min(sides.count(side) for side in ("train", "val", "holdout")) > 20


@pytest.mark.parametrize(
    "text", ["ä" * 3_000_000, "line\n" * 600_000, "word " * 600_000], ids=["one", "lines", "words"]
)
def test_a_large_text_without_blank_lines_is_split_too(tmp_path: Path, text: str) -> None:
    """At lines, else between characters."""
    documents = list(corpus.open_corpus(str(folder_of(tmp_path, {"a.txt": text.encode()}))).documents())

    assert text == b"".join(document.text for document in documents).decode()
    assert len(documents) > 100


def test_stories_in_one_file_are_documents_each(tmp_path: Path) -> None:
    """As datasets of stories mark their ends; the marks are no text."""
    stories = [f"story {number}\n\nand its end" for number in range(5_000)]
    text = "\n<|endoftext|>\n".join(stories).encode()
    opened = corpus.open_corpus(str(folder_of(tmp_path, {"a.txt": text})))

    assert stories == [document.text.decode() for document in opened.documents()]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python library of 400 modules, half of them tests, with one test that has a twin among the modules."""
    places = {
        key: str(tmp_path / folder) for key, folder in (("stdlib", "std"), ("purelib", "site"), ("platlib", "site"))
    }
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: places)
    for number in range(200):
        for folder in ("std/pkg", "site/pkg/tests"):
            path = tmp_path / folder / f"module_{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {folder} {number}\n" * 20)
        (tmp_path / "site/pkg/tests" / f"twin_{number}.py").write_text(f"# std/pkg {number}\n" * 20)
    return tmp_path


def test_only_removable_modules_become_private_and_then_they_are_gone(library: Path) -> None:
    """Nothing of val or holdout is left in the image afterwards; modules that may be imported all are."""
    opened = corpus.open_corpus("python")
    private = [document.text for document in opened.documents() if opened.side(document) != "train"]
    corpus.set_apart()
    left = [path.read_bytes() for path in library.rglob("*.py")]

    assert len(private) > 10
    assert not set(private) & set(left)
    assert 200 == len(list(library.glob("std/pkg/*.py")))
    assert 200 == len(list(library.glob("site/pkg/tests/twin_*.py")))
    with pytest.raises(SystemExit, match="-library image"):
        corpus.open_corpus("python")


# --- manifests and variables ----------------------------------------------------------------------------------------


def evaluation_set(folder: Path) -> Path:
    """Three rows, prepared."""
    rows = np.full((3, prepare.MAX_SEQ_LEN + 1), 7, dtype="<u2")
    return write_prepared(folder, {"rows.npy": rows, "row_bytes.npy": np.array([5, 6, 7], dtype=np.int64)})


def test_rows_are_loaded_with_their_bytes(tmp_path: Path) -> None:
    """What was prepared comes back."""
    rows, row_bytes = prepare.load_rows(evaluation_set(tmp_path / "val"))

    assert (3, prepare.MAX_SEQ_LEN + 1) == rows.shape
    assert [5, 6, 7] == row_bytes.tolist()


def test_changed_data_is_refused(tmp_path: Path) -> None:
    """One changed byte, a changed size, a missing file, a wrong profile, a broken manifest: each is named."""
    folder = evaluation_set(tmp_path / "val")
    path, manifest = folder / "rows.npy", folder / "manifest.json"
    good, good_manifest = path.read_bytes(), manifest.read_text()

    path.write_bytes(good[:-1] + b"\x01")
    with pytest.raises(SystemExit, match=r"rows\.npy is not what its manifest says"):
        prepare.load_rows(folder)
    path.write_bytes(good + b"\x01")
    with pytest.raises(SystemExit, match=rf"rows\.npy has {len(good) + 1} bytes, its manifest says {len(good)}"):
        prepare.load_rows(folder)
    path.unlink()
    with pytest.raises(SystemExit, match=r"rows\.npy is missing"):
        prepare.load_rows(folder)
    path.write_bytes(good)
    manifest.write_text(good_manifest.replace('"cpu"', '"gpu"'))
    with pytest.raises(SystemExit, match="is of profile 'gpu', this is 'cpu'"):
        prepare.load_rows(folder)
    manifest.write_text("{}")
    with pytest.raises(SystemExit, match="cannot be read"):
        prepare.load_rows(folder)


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    """The context of the profile decides."""
    folder = write_prepared(
        tmp_path / "val", {"rows.npy": np.zeros((3, 9), "<u2"), "row_bytes.npy": np.zeros(3, np.int64)}
    )

    with pytest.raises(SystemExit, match=r"holds rows \[3, 9\], expected \[N, 129\]"):
        prepare.load_rows(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AUTORESEARCH_PROFILE", "tpu", "AUTORESEARCH_PROFILE='tpu' is no profile"),
        ("AUTORESEARCH_TIME_BUDGET", "soon", "AUTORESEARCH_TIME_BUDGET='soon' is not a number"),
        ("AUTORESEARCH_TIME_BUDGET", "-1", "AUTORESEARCH_TIME_BUDGET='-1' is not a number of at least"),
        ("AUTORESEARCH_TIME_BUDGET", "nan", "AUTORESEARCH_TIME_BUDGET='nan' is not a number"),
        ("AUTORESEARCH_SEED", "lucky", "AUTORESEARCH_SEED='lucky' is not a number"),
    ],
)
def test_a_bad_variable_is_refused_in_one_line(name: str, value: str, message: str) -> None:
    """The variable, its value and the fix, and a non-zero exit."""
    ended = subprocess.run(
        [sys.executable, "-c", "import prepare"],
        env={"PYTHONPATH": str(LOCKED), name: value},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == ended.returncode
    assert message in ended.stderr
    assert 1 == ended.stderr.count("\n")


def test_what_the_llm_is_shown_is_the_contract_alone() -> None:
    """No command line, no download, and no import of another locked file, however late."""
    shown = (LOCKED / "prepare.py").read_text()
    others = {path.stem for path in LOCKED.glob("*.py")} - {"prepare"}
    imported = {
        name
        for node in ast.walk(ast.parse(shown))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (alias.name for alias in node.names)
    }

    assert "numpy" in imported
    assert not imported & (others | {"argparse", "urllib", "corpus", "frames", "harness"})
    assert "__main__" not in shown


def test_the_scorer_needs_neither_torch_nor_a_tokenizer() -> None:
    """Importing prepare imports numpy and the standard library only."""
    code = "import sys, prepare; print(sorted({'torch', 'tiktoken', 'rustbpe', 'pyarrow'} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(LOCKED)}, capture_output=True, text=True, check=True
    )

    assert "[]\n" == ended.stdout


def test_time_left_counts_from_the_start_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the import has been spent."""
    monkeypatch.setattr(prepare, "STARTED", time.monotonic() - 10)
    monkeypatch.setattr(prepare, "TIME_BUDGET", 25.0)

    assert 14 < prepare.time_left() <= 15


# --- download -------------------------------------------------------------------------------------------------------

SHARD = bytes(range(256)) * 8000  # 2 MB


class Flaky(http.server.BaseHTTPRequestHandler):
    """Serves SHARD under every name, with ranges; breaks off the first answer half-way."""

    broken = False
    ranges: list[str | None] = []  # noqa: RUF012  # reset by the fixture

    def do_GET(self) -> None:
        """Answer a whole or the rest of a file."""
        asked = self.headers.get("Range")
        type(self).ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(SHARD) - begin))
        self.end_headers()
        body = SHARD[begin:]
        if not type(self).broken:
            type(self).broken, body = True, body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a flaky server on the loopback."""
    monkeypatch.setattr(climbmix.time, "sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Flaky.broken, Flaky.ranges = False, []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_a_download_goes_on_where_it_broke_off(server: str, tmp_path: Path) -> None:
    """The rest is asked for, the whole is right and recorded, and a second call fetches nothing."""
    climbmix.download(tmp_path, 2, server)
    asked = list(Flaky.ranges)
    climbmix.download(tmp_path, 2, server)
    record = json.loads((tmp_path / "downloads.json").read_text())

    assert [None, f"bytes={len(SHARD) // 2}-", None] == asked
    assert asked == Flaky.ranges
    assert SHARD == (tmp_path / "shard_00000.parquet").read_bytes()
    assert {"shard_00000.parquet", "shard_00001.parquet"} == set(record)
    assert prepare.file_sha256(tmp_path / "shard_00001.parquet") == record["shard_00001.parquet"]["sha256"]


def test_a_download_that_always_fails_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded tries, then one line with the address."""
    monkeypatch.setattr(climbmix.time, "sleep", lambda _: None)

    with pytest.raises(SystemExit, match=r"http://127\.0\.0\.1:9/shard_00000\.parquet failed 5 times"):
        climbmix.download(tmp_path, 1, "http://127.0.0.1:9")
