"""From a parent and a proposal to a full file, or a refusal that says what to fix. Pure: no I/O, no clock.

A refusal is sent to the LLM: it names the edit or the line. Where an edit goes is found in edits.py.
"""

import ast
import hashlib
import io
import re
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.edits import apply_edits, has_crlf_only, line_number, to_crlf, to_lf
from orchestrator.errors import PatchRejected
from orchestrator.types import Proposal

MAX_SOURCE_BYTES = 128 * 1024
BOM = "\ufeff"
ENTRY = "load_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patched:
    """A candidate's full source; `notes` says what of the proposal was not taken word for word."""

    source: str
    notes: tuple[str, ...] = ()


def apply(
    parent_source: str,
    proposal: Proposal,
    rules: Sequence[tuple[str, str]] = (),
    *,
    contract: bool = True,
    python: bool = True,
) -> Patched:
    """Return the candidate's full source. Raises PatchRejected; `rules` are (pattern, reason) from task.toml."""
    if proposal.source is not None and proposal.edits:
        raise PatchRejected("both edits and a whole file were given; give only one of them")
    if proposal.source is None:
        edited = apply_edits(parent_source, proposal.edits)
        patched = Patched(source=edited.text, notes=edited.notes)
    else:
        patched = Patched(source=as_encoded(parent_source, proposal.source))
    check(patched.source, rules, contract=contract, python=python)
    if fingerprint(patched.source) == fingerprint(parent_source):
        what = "only comments, docstrings or layout change; propose a change in behaviour"
        raise PatchRejected(what if python else "nothing changes but layout; propose a change")
    return patched


def as_shown(source: str) -> str:
    """Return a file as proposers see it: without a byte order mark, with plain line ends."""
    return to_lf(source.removeprefix(BOM))


def as_encoded(parent_source: str, source: str) -> str:
    """Return a whole file with the line ends and the byte order mark of its parent."""
    if has_crlf_only(parent_source):
        source = to_crlf(source)
    return BOM + source if parent_source.startswith(BOM) and not source.startswith(BOM) else source


def check(source: str, rules: Sequence[tuple[str, str]] = (), *, contract: bool = True, python: bool = True) -> None:
    """Raise PatchRejected unless size and encoding are allowed, the file parses, and contract and rules are met.

    `contract` is true for a program that must offer `load_model`; `python` is false for any other text.
    """
    _check_text(source, python=python)
    source = as_shown(source)
    if python:
        tree = _parse(source)
        fingerprint(source)
        if contract:
            _check_contract(tree)
    for pattern, reason in rules:
        if (found := re.search(pattern, source)) is not None:
            quote = found.group().strip().splitlines()[0][:80] if found.group().strip() else ""
            raise PatchRejected(f"line {line_number(source, found.end())}: `{quote}` violates a task rule: {reason}")


@lru_cache(maxsize=16)  # the device is idle while a proposal is compared with its parent and the experiments in flight
def fingerprint(source: str) -> str:
    """Return the SHA-256 of the syntax tree: equal for files that differ in comments, docstrings and layout only.

    A text that is not a Python program is compared by its words.
    """
    try:
        tree = _parse(source)
    except PatchRejected:
        return hashlib.sha256(" ".join(source.split()).encode("utf-8", "backslashreplace")).hexdigest()
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


def _check_text(source: str, *, python: bool) -> None:
    try:
        data = source.encode()
    except UnicodeEncodeError as error:
        raise PatchRejected(
            f"line {line_number(source, error.start)}: a character that cannot be encoded as UTF-8; remove it"
        ) from error
    if len(data) > MAX_SOURCE_BYTES:
        raise PatchRejected(f"the file has {len(data)} bytes, at most {MAX_SOURCE_BYTES} are allowed; make it smaller")
    if "\0" in source:
        raise PatchRejected(f"line {line_number(source, source.index(chr(0)))}: a NUL character; remove it")
    if not python:
        return
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
            return ast.parse(as_shown(source), "the file")
    except SyntaxError as error:
        text = f": {error.text.strip()[:200]}" if error.text else ""
        raise PatchRejected(f"line {error.lineno}: the file does not parse: {error.msg}{text}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise PatchRejected(f"the file does not parse: {str(error) or 'nested too deeply'}") from error


def _check_contract(tree: ast.Module) -> None:
    entries = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == ENTRY]
    if not entries:
        raise PatchRejected(f"the file must define a top-level function `def {ENTRY}(path, device):`")
    arguments = entries[-1].args
    if len(arguments.posonlyargs) + len(arguments.args) < 2 and arguments.vararg is None:  # noqa: PLR2004 - path, device
        raise PatchRejected(
            f"line {entries[-1].lineno}: `{ENTRY}` must take two arguments: `def {ENTRY}(path, device):`"
        )
    if not any(_is_main_guard(node) for node in tree.body):
        raise PatchRejected('the file must train under a top-level `if __name__ == "__main__":`')


def _is_main_guard(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1):
        return False
    sides = {ast.dump(side) for side in (node.test.left, node.test.comparators[0])}
    return isinstance(node.test.ops[0], ast.Eq) and sides == _MAIN_GUARD


_MAIN_GUARD = {ast.dump(ast.Name("__name__", ast.Load())), ast.dump(ast.Constant("__main__"))}
