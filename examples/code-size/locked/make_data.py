"""Make the data: functions of the library in this image. The files of val and holdout are not where train.py runs.

python3 /locked/make_data.py --out /staging --corpus python
"""

import argparse
import ast
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import corpus
import numpy as np
import prepare

WANTED = {"train": 30_000, "val": 3_000, "holdout": 3_000}
SMALLEST = 20  # nodes: smaller functions are all alike
ASYNC = {"AsyncFunctionDef": "FunctionDef", "AsyncFor": "For", "AsyncWith": "With", "YieldFrom": "Yield"}


def build(out: Path) -> None:
    """Write the three folders; no function is on two sides, for its file is not."""
    library = corpus.open_corpus("python")
    rows: dict[str, list[tuple[list[int], int]]] = {side: [] for side in WANTED}
    for document in library.documents():
        side = library.side(document)
        if len(rows[side]) < WANTED[side]:
            rows[side] += functions(document.text)
        elif all(len(rows[other]) >= WANTED[other] for other in rows):
            break
    for side, found in rows.items():
        if not found:
            prepare.fail(f"no function was found for {side}")
        save(out / side, found[: WANTED[side]])
        print(f"{side}: {min(len(found), WANTED[side]):,} functions", flush=True)


def functions(text: bytes) -> Iterator[tuple[list[int], int]]:
    """Features and size of every function of a file that compiles by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escapes
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.decorator_list = []
                try:
                    size = code_size(compile(ast.Module([node], []), "function", "exec"))
                except (SyntaxError, ValueError, RecursionError):
                    continue
                counts = features(node)
                if sum(counts[: len(prepare.NODES)]) >= SMALLEST:
                    yield counts, size


def features(function: ast.AST) -> list[int]:
    """What FEATURES says."""
    nodes = list(ast.walk(function))
    kinds = Counter(ASYNC.get(type(node).__name__, type(node).__name__) for node in nodes)
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    constants = {repr(node.value) for node in nodes if isinstance(node, ast.Constant)}
    lines = {node.lineno for node in nodes if hasattr(node, "lineno")}
    return [*(kinds[name] for name in prepare.NODES), depth(function), len(lines), len(names), len(constants)]


def depth(node: ast.AST) -> int:
    """How deep its tree is."""
    return 1 + max((depth(child) for child in ast.iter_child_nodes(node)), default=0)


def code_size(code: CodeType) -> int:
    """Bytes of bytecode of what a module defines, nested functions included."""
    inner = [value for value in code.co_consts if isinstance(value, CodeType)]
    return sum(len(value.co_code) + code_size(value) for value in inner)


def save(folder: Path, rows: list[tuple[list[int], int]]) -> None:
    """Two arrays and their manifest."""
    folder.mkdir()
    np.save(folder / "features.npy", np.array([counts for counts, _ in rows], np.float32))
    np.save(folder / "sizes.npy", np.log2(np.array([size for _, size in rows], np.float32)))
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.glob("*.npy"))
    }
    (folder / prepare.MANIFEST).write_text(json.dumps({"profile": prepare.PROFILE, "files": files}, indent=1) + "\n")


def main() -> None:
    """Make train, val and holdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", default="python")
    options = parser.parse_args()
    if options.corpus != "python":
        prepare.fail(f"--corpus {options.corpus}: this task is made from the library in the image; leave DATA out")
    build(options.out)


if __name__ == "__main__":
    main()
