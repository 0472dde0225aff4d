"""Makes tokenizer, train, val and holdout from a corpus, with manifests; runs in a container without network.

Every text is on the side its own hash says, so equal texts can never be on two sides; the hashes of all documents are
kept beside the data and compared once more at the end. Memory is bounded: training text is streamed into shards.
"""

import base64
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import prepare
from corpus import Corpus, Document, open_corpus
from prepare import BOS_TOKEN_ID, EVAL_TOKENS, GPU, MAX_SEQ_LEN, VOCAB_SIZE, fail

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
TOKENIZER_BYTES = 500_000_000 if GPU else 6_000_000  # of training text the BPE is trained on
TRAIN_BYTES = None if GPU else 16_000_000  # of training text kept, about; None: all
SHARD_TOKENS = 1 << 26
BATCH_BYTES = 1 << 23
PACKING_SEED = 20
PRIVATE_BYTES = max(10 * EVAL_TOKENS, 1 << 20)  # raw text wanted for each of val and holdout, with room for packing


class Seen:
    """Which 64-bit hashes came before, at 8 bytes each: sorted runs, merged like the digits of a binary counter."""

    def __init__(self) -> None:
        """Start empty."""
        self.runs: list[np.ndarray] = []

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Return, for each of `hashes`, whether it is new; remembers them: bool [N]."""
        new = np.zeros(len(hashes), dtype=bool)
        unique, first = np.unique(hashes, return_index=True)
        new[first] = True
        for run in self.runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            new &= run[at] != hashes
        self.runs += [unique] if len(unique) else []
        while len(self.runs) > 1 and len(self.runs[-1]) * 2 > len(self.runs[-2]):
            self.runs.append(np.union1d(self.runs.pop(), self.runs.pop()))
        return new

    def all(self) -> np.ndarray:
        """Return every hash, sorted: uint64."""
        return np.unique(np.concatenate([np.zeros(0, np.uint64), *self.runs]))


def build(out: Path, name: str) -> None:
    """Prepare all four folders below `out`, which must hold none of them."""
    for folder in ("tokenizer", "train", "val", "holdout"):
        if (out / folder).exists():
            fail(f"--out {out} already holds {folder}: name an empty folder")
    started = time.monotonic()
    corpus = open_corpus(name, PRIVATE_BYTES)
    _say(started, f"corpus {corpus.name}: {corpus.total_bytes:,} bytes of text")
    tokenizer = _make_tokenizer(out / "tokenizer", corpus)
    _say(started, f"tokenizer: {VOCAB_SIZE} tokens")
    hashes = {"train": _make_train(out / "train", corpus, tokenizer)}
    _say(started, f"train: {len(hashes['train']):,} documents")
    for side in ("val", "holdout"):
        hashes[side], rows = _make_rows(out / side, side, corpus, tokenizer)
        _say(started, f"{side}: {len(hashes[side]):,} documents, {rows * MAX_SEQ_LEN:,} targets")
        if rows * MAX_SEQ_LEN < EVAL_TOKENS:
            print(f"note: {side} is smaller than the {EVAL_TOKENS:,} targets of this profile: the corpus is small")
    for one, other in (("train", "val"), ("train", "holdout"), ("val", "holdout")):
        if len(np.intersect1d(hashes[one], hashes[other])):
            fail(f"--corpus {name}: {one} and {other} share a document; this is a bug, please report it")
    _say(started, "no document is on two sides")


def _say(started: float, text: str) -> None:
    print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)


def _finish(folder: Path, corpus: Corpus, counts: dict[str, int], facts: dict[str, int]) -> None:
    files = {
        name: {
            "sha256": prepare.file_sha256(folder / name),
            "bytes": (folder / name).stat().st_size,
            "count": count,
        }
        for name, count in sorted(counts.items())
    }
    manifest = {"profile": prepare.PROFILE, "corpus": corpus.name, **facts, "files": files}
    (folder / prepare.MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _side(corpus: Corpus, side: str) -> Iterator[Document]:
    """Yield the documents of one side; of too much training text, the part most like the validation text."""
    for document in corpus.documents():
        if corpus.side(document) == side and (side != "train" or _wanted(document, corpus)):
            yield document


def _wanted(document: Document, corpus: Corpus) -> bool:
    if TRAIN_BYTES is None:
        return True
    alike, other = corpus.eligible_bytes, corpus.total_bytes - corpus.eligible_bytes
    if document.may_be_private:
        return document.chance(b"kept") < TRAIN_BYTES / alike
    return document.chance(b"kept") * other < TRAIN_BYTES - alike


def _text_for_tokenizer(corpus: Corpus) -> Iterator[str]:
    size = 0
    for document in _side(corpus, "train"):
        yield document.text.decode()
        size += len(document.text)
        if size > TOKENIZER_BYTES:
            return


def _make_tokenizer(folder: Path, corpus: Corpus) -> prepare.Tokenizer:
    import rustbpe  # type: ignore[import-not-found]

    trained = rustbpe.Tokenizer()
    trained.train_from_iterator(_text_for_tokenizer(corpus), VOCAB_SIZE - 1, pattern=PATTERN)
    ranks = sorted((rank, bytes(token)) for token, rank in trained.get_mergeable_ranks())
    if len(ranks) < VOCAB_SIZE - 1:
        fail(f"the corpus has text for {len(ranks)} tokens only, {VOCAB_SIZE - 1} are needed: use a larger one")
    folder.mkdir(parents=True)
    data = {"pattern": PATTERN, "tokens": [base64.b64encode(token).decode() for _, token in ranks]}
    (folder / "tokenizer.json").write_text(json.dumps(data) + "\n")
    _finish(folder, corpus, {"tokenizer.json": len(ranks)}, {})
    return prepare.Tokenizer.load(folder)


def _encoded(
    documents: Iterable[Document], tokenizer: prepare.Tokenizer, seen: Seen
) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield text and uint16 tokens of every document that was not seen before."""
    is_new = False
    for batch in _batches(documents):
        hashes = np.array([int.from_bytes(document.digest[:8], "big") for document in batch], dtype=np.uint64)
        texts = []
        for document, first in zip(batch, seen.add(hashes), strict=True):
            is_new = is_new if document.part else bool(first)  # the parts of a long text go with its beginning
            texts += [document.text] if is_new else []
        encoded = tokenizer.encoding.encode_ordinary_batch(
            [text.decode() for text in texts], num_threads=os.cpu_count() or 1
        )
        for text, tokens in zip(texts, encoded, strict=True):
            yield text, np.array(tokens, dtype="<u2")


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _make_train(folder: Path, corpus: Corpus, tokenizer: prepare.Tokenizer) -> np.ndarray:
    """Write shards of tokens and of document boundaries; the hashes of all documents."""
    folder.mkdir(parents=True)
    counts: dict[str, int] = {}
    seen, total_bytes = Seen(), 0
    encoded = _encoded(_side(corpus, "train"), tokenizer, seen)
    for number in range(10**6):
        name, starts = f"tokens-{number:06d}.bin", [0]
        with (folder / name).open("wb") as file:
            for text, tokens in encoded:
                file.write(tokens.tobytes())
                starts.append(starts[-1] + len(tokens))
                total_bytes += len(text)
                if starts[-1] >= SHARD_TOKENS:
                    break
        if len(starts) == 1:
            (folder / name).unlink()
            break
        np.save(folder / f"starts-{number:06d}.npy", np.array(starts, dtype=np.int64))
        counts |= {name: starts[-1], f"starts-{number:06d}.npy": len(starts) - 1}
    if not counts:
        fail("the corpus has no text for training: use a larger one")
    hashes = seen.all()
    np.save(folder / "documents.npy", hashes)
    tokens_total = sum(count for name, count in counts.items() if name.startswith("tokens"))
    facts = {"tokens": tokens_total, "documents": len(hashes), "text_bytes": total_bytes}
    _finish(folder, corpus, counts | {"documents.npy": len(hashes)}, facts)
    return hashes


def _make_rows(folder: Path, side: str, corpus: Corpus, tokenizer: prepare.Tokenizer) -> tuple[np.ndarray, int]:
    """Write an evaluation set of EVAL_TOKENS targets; the hashes of its documents and the number of rows."""
    seen = Seen()
    texts, tokens = [], []
    for text, ids in _encoded(_side(corpus, side), tokenizer, seen):
        texts.append(text)
        tokens.append(ids)
    rows, row_bytes = evaluation_rows(texts, tokens, tokenizer.token_bytes())
    if not len(rows):
        fail(f"the corpus has too little text for {side}: use a larger one")
    folder.mkdir(parents=True)
    hashes = seen.all()
    np.save(folder / "rows.npy", rows)
    np.save(folder / "row_bytes.npy", row_bytes)
    np.save(folder / "documents.npy", hashes)
    facts = {"targets": rows.shape[0] * MAX_SEQ_LEN, "documents": len(hashes), "text_bytes": int(row_bytes.sum())}
    _finish(folder, corpus, {"rows.npy": len(rows), "row_bytes.npy": len(rows), "documents.npy": len(hashes)}, facts)
    return hashes, len(rows)


def evaluation_rows(
    texts: list[bytes], tokens: list[np.ndarray], token_bytes: list[bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Pack rows uint16 [N, T+1] and count the raw bytes of text under each row's targets, int64 [N].

    The bytes are counted on the raw text: what the tokens of a row stand for must be exactly the bytes found there.
    """
    lengths = np.array([len(token) for token in token_bytes], dtype=np.int64)
    flat = np.concatenate(tokens) if tokens else np.zeros(0, "<u2")
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int64)
    begin, end = prepare.cut(starts)
    owner = np.searchsorted(starts, begin, side="right") - 1
    offsets = np.concatenate([[0], np.cumsum(lengths[flat])])  # of each token in all the text
    order = np.random.default_rng(PACKING_SEED).permutation(len(begin))
    wanted = EVAL_TOKENS // MAX_SEQ_LEN
    rows, row_bytes = np.zeros((wanted, MAX_SEQ_LEN + 1), dtype="<u2"), np.zeros(wanted, dtype=np.int64)
    plans = prepare.plan_rows((int(end[piece] - begin[piece]) + 1 for piece in order), MAX_SEQ_LEN + 1)
    made = 0
    for plan in plans:
        if made == wanted:
            break
        at = 0
        for number, taken in plan:
            piece = order[number]
            ids = flat[begin[piece] : begin[piece] + taken - 1]
            first = int(offsets[begin[piece]] - offsets[starts[owner[piece]]])
            raw = texts[owner[piece]]
            covered = b"".join(token_bytes[token] for token in ids)
            if raw[first : first + len(covered)] != covered:
                fail("tokens do not cover the raw text byte for byte; this is a bug, please report it")
            rows[made, at] = BOS_TOKEN_ID
            rows[made, at + 1 : at + taken] = ids
            row_bytes[made] += len(covered)
            at += taken
        made += 1
    return rows[:made], row_bytes[:made]
