"""From a parent and a proposal to a full train.py, or a refusal that says what to fix. Pure: no I/O, no clock.

A refusal is sent to the LLM: it names the edit or the line, and quotes the closest match.
"""

import ast
import difflib
import hashlib
import io
import re
import tokenize
import warnings
from collections.abc import Sequence
from functools import lru_cache

from orchestrator.errors import PatchRejected
from orchestrator.types import Edit, Proposal

MAX_SOURCE_BYTES = 128 * 1024
MAX_EDITS = 200
NEAREST_LINES = 12  # of a search text are compared with the parent to find the closest match
NEAREST_CHARS = 1000
NEAREST_RATIO = 0.6  # a match worse than this is not shown
ENTRY = "load_model"


def apply(
    parent_source: str, proposal: Proposal, rules: Sequence[tuple[str, str]] = (), *, contract: bool = True
) -> str:
    """Return the candidate's full source. Raises PatchRejected; `rules` are (pattern, reason) from task.toml."""
    if proposal.source is not None and proposal.edits:
        raise PatchRejected("both edits and a whole file were given; give only one of them")
    source = proposal.source if proposal.source is not None else apply_edits(parent_source, proposal.edits)
    check(source, rules, contract=contract)
    if fingerprint(source) == fingerprint(parent_source):
        raise PatchRejected("only comments, docstrings or layout change; propose a change in behaviour")
    return source


def apply_edits(parent: str, edits: Sequence[Edit]) -> str:
    """Apply every edit where its search text occurs in the parent; their order does not matter."""
    if len(edits) > MAX_EDITS:
        raise PatchRejected(f"{len(edits)} edits, at most {MAX_EDITS} are allowed; give the whole file instead")
    numbered = [(_locate(parent, edit, number), number, edit) for number, edit in enumerate(edits, start=1)]
    parts, end, last = [], 0, 0
    for start, number, edit in sorted(numbered, key=lambda place: place[:2]):
        if start < end:
            raise PatchRejected(f"edits {last} and {number} overlap at line {_line(parent, start)}; make them one edit")
        parts += [parent[end:start], edit.replace]
        end, last = start + len(edit.search), number
    return "".join([*parts, parent[end:]])


def check(source: str, rules: Sequence[tuple[str, str]] = (), *, contract: bool = True) -> None:
    """Raise PatchRejected unless size and encoding are allowed, the file parses, and contract and rules are met.

    `contract` is false for a script that reports its own score.
    """
    _check_text(source)
    tree = _parse(source)
    fingerprint(source)
    if contract:
        _check_contract(tree)
    for pattern, reason in rules:
        if (found := re.search(pattern, source)) is not None:
            quote = found.group().strip().splitlines()[0][:80] if found.group().strip() else ""
            raise PatchRejected(f"line {_line(source, found.end())}: `{quote}` violates a task rule: {reason}")


@lru_cache(maxsize=16)  # the device is idle while a proposal is compared with its parent and the experiments in flight
def fingerprint(source: str) -> str:
    """Return the SHA-256 of the syntax tree: equal for files that differ in comments, docstrings and layout only."""
    tree = _parse(source)
    try:
        dumped = ast.dump(_WithoutTexts().visit(tree), annotate_fields=False)
    except (RecursionError, MemoryError) as error:
        raise PatchRejected("the file is nested too deeply to be compared with others; reduce the nesting") from error
    return hashlib.sha256(dumped.encode("utf-8", "backslashreplace")).hexdigest()


class _WithoutTexts(ast.NodeTransformer):
    """Drops string statements: docstrings, and strings used as comments."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop the statement if it is a lone string."""
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)


def _locate(parent: str, edit: Edit, number: int) -> int:
    """Locate the search text, which must occur exactly once."""
    if not edit.search:
        raise PatchRejected(f"edit {number}: search text is empty; copy the lines to replace from train.py")
    start = parent.find(edit.search)
    if start < 0:
        message = f"edit {number}: search text not found in train.py: {_quote(edit.search)}"
        raise PatchRejected(message + _nearest(parent, edit.search))
    again = parent.find(edit.search, start + 1)
    if again >= 0:
        lines = f"lines {_line(parent, start)} and {_line(parent, again)}"
        message = f"edit {number}: search text matches more than once ({lines}); include more context: "
        raise PatchRejected(message + _quote(edit.search))
    return start


def _nearest(parent: str, search: str) -> str:
    """Find the text of the parent that was probably meant, with its line number; "" if none is close."""
    wanted = search.strip("\n").splitlines()[:NEAREST_LINES] or [search]
    lines = parent.splitlines()
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2("\n".join(wanted)[:NEAREST_CHARS])
    best, at = NEAREST_RATIO, -1
    for start in range(max(1, len(lines) - len(wanted) + 1)):
        matcher.set_seq1("\n".join(lines[start : start + len(wanted)])[:NEAREST_CHARS])
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and matcher.ratio() > best:
            best, at = matcher.ratio(), start
    if at < 0:
        return ""
    return f"\nThe closest match, at line {at + 1}:\n" + "\n".join(lines[at : at + len(wanted)])


def _check_text(source: str) -> None:
    try:
        data = source.encode()
    except UnicodeEncodeError as error:
        raise PatchRejected(
            f"line {_line(source, error.start)}: a character that cannot be encoded as UTF-8; remove it"
        ) from error
    if len(data) > MAX_SOURCE_BYTES:
        raise PatchRejected(f"the file has {len(data)} bytes, at most {MAX_SOURCE_BYTES} are allowed; make it smaller")
    if "\0" in source:
        raise PatchRejected(f"line {_line(source, source.index(chr(0)))}: a NUL character; remove it")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:
        encoding = "unknown"
    if encoding not in ("utf-8", "utf-8-sig"):  # else other text would run than was checked
        raise PatchRejected("line 1 or 2 declares an encoding that is not UTF-8; remove that comment")


def _parse(source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like: Python's matter, not ours
            return ast.parse(source, "train.py")
    except SyntaxError as error:
        text = f": {error.text.strip()[:200]}" if error.text else ""
        raise PatchRejected(f"line {error.lineno}: train.py does not parse: {error.msg}{text}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise PatchRejected(f"train.py does not parse: {str(error) or 'nested too deeply'}") from error


def _check_contract(tree: ast.Module) -> None:
    entries = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == ENTRY]
    if not entries:
        raise PatchRejected(f"train.py must define a top-level function `def {ENTRY}(path, device):`")
    arguments = entries[-1].args
    if len(arguments.posonlyargs) + len(arguments.args) < 2 and arguments.vararg is None:  # noqa: PLR2004 - path, device
        raise PatchRejected(
            f"line {entries[-1].lineno}: `{ENTRY}` must take two arguments: `def {ENTRY}(path, device):`"
        )
    if not any(_is_main_guard(node) for node in tree.body):
        raise PatchRejected('train.py must train under a top-level `if __name__ == "__main__":`')


def _is_main_guard(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1):
        return False
    sides = {ast.dump(side) for side in (node.test.left, node.test.comparators[0])}
    return isinstance(node.test.ops[0], ast.Eq) and sides == _MAIN_GUARD


_MAIN_GUARD = {ast.dump(ast.Name("__name__", ast.Load())), ast.dump(ast.Constant("__main__"))}


def _line(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1


def _quote(text: str) -> str:
    return repr(text if len(text) <= NEAREST_CHARS else text[:NEAREST_CHARS] + "…")
