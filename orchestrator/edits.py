"""Find the place of each edit in a file, and apply it. Pure: no I/O, no clock.

A search text must occur exactly once. One that differs from its only place in white space alone is taken and noted, and
its replacement is indented as the file is. An edit that ends with a line still ends with one, so that no replacement
joins two lines. A search text that is not found is answered with the difference to the closest match, at its place.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.errors import PatchRejected
from orchestrator.types import Edit

MAX_EDITS = 200
NEAREST_LINES = 12  # the closest match is quoted up to this length
NEAREST_CHARS = 1000
NEAREST_RATIO = 0.6  # a match worse than this is not shown
DIFFERENCES = 8  # of the closest match and the search text are shown
DIFFERENCE_CHARS = 160
TAB_WIDTHS = (4, 8, 2, 1)  # tried in this order where one side has tabs and the other has not


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A file after its edits; `notes` says where a search text differed from the file in white space."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an edit goes: characters [start, end) of the file become `replacement`."""

    start: int
    end: int
    replacement: str
    number: int
    note: str = ""


def apply_edits(text: str, edits: Sequence[Edit], *, comment: str = "#") -> Edited:
    """Apply every edit at its one place in `text`; their order does not matter. Raises PatchRejected.

    `comment` begins a comment to the end of its line; "" in a text without such comments.
    """
    if len(edits) > MAX_EDITS:
        raise PatchRejected(f"{len(edits)} edits, at most {MAX_EDITS} are allowed; give the whole file instead")
    if has_crlf_only(text):  # the LLM is shown the file and answers with plain line ends
        plain_edits = [Edit(search=to_lf(e.search), replace=to_lf(e.replace)) for e in edits]
        plain = apply_edits(to_lf(text), plain_edits, comment=comment)
        return Edited(text=to_crlf(plain.text), notes=plain.notes)
    found = [find_place(text, edit, number) for number, edit in enumerate(edits, start=1)]
    parts, end, last = [], 0, 0
    for place in sorted(found, key=lambda p: (p.start, p.end)):
        if place.start < end:
            line = line_number(text, place.start)
            raise PatchRejected(f"edits {last} and {place.number} overlap at line {line}; make them one edit")
        if comment:
            refuse_swallowed(text, place, comment)
        parts += [text[end : place.start], place.replacement]
        end, last = place.end, place.number
    return Edited(text="".join([*parts, text[end:]]), notes=tuple(place.note for place in found if place.note))


def find_place(text: str, edit: Edit, number: int) -> Place:
    """Return the place of an edit. Raises PatchRejected if the search text has none, or several."""
    if not edit.search:
        raise PatchRejected(f"edit {number}: search text is empty; copy the lines to replace from the file")
    starts = list(_occurrences(text, edit.search))
    if len(starts) == 1:
        end = starts[0] + len(edit.search)
        return Place(start=starts[0], end=end, replacement=keep_line_ends(edit, text[end:]), number=number)
    loose = [] if starts else list(_loose_occurrences(text, edit.search))
    if len(loose) == 1 and (place := _fit_indentation(text, edit, number, *loose[0])) is not None:
        return place
    places = starts or [start for start, _ in loose]
    if len(places) > 1:
        lines = " and ".join(str(line_number(text, start)) for start in places[:2])
        like = "" if starts else ", but for white space,"
        raise PatchRejected(
            f"edit {number}: search text matches{like} more than once (lines {lines}); include more context:"
            f" {_quoted(edit.search)}"
        )
    raise PatchRejected(
        f"edit {number}: search text not found in the file: {_quoted(edit.search)}{describe_nearest(text, edit.search)}"
    )


def keep_line_ends(edit: Edit, rest: str) -> str:
    """Return the replacement, ending with a line where the search text does: the next line must not be joined to it."""
    replacement = edit.replace
    if replacement and edit.search.endswith("\n") and not replacement.endswith("\n") and rest:
        replacement += "\n"
    if replacement and edit.search.startswith("\n") and not replacement.startswith("\n"):
        replacement = "\n" + replacement
    return replacement


def refuse_swallowed(text: str, place: Place, comment: str) -> None:
    """Raise PatchRejected if a comment at the end of a replacement would take in the code that follows on its line."""
    rest = text[place.end :].partition("\n")[0].strip()
    before = text[: place.start].rpartition("\n")[2]
    last_line = place.replacement.rpartition("\n")[2]
    without_strings = re.sub(r"'[^']*'|\"[^\"]*\"", "", last_line)
    if rest and not rest.startswith(comment) and comment not in before and comment in without_strings:
        raise PatchRejected(
            f"edit {place.number}: the comment at the end of the replacement would swallow the rest of line"
            f" {line_number(text, place.end)}: {rest[:DIFFERENCE_CHARS]!r}; let the search text end where the line ends"
        )


def line_number(text: str, index: int) -> int:
    """Return the number of the line, from 1, that a character is on."""
    return text.count("\n", 0, index) + 1


def has_crlf_only(text: str) -> bool:
    """Return whether every line of a file ends as Windows ends lines."""
    return "\r\n" in text and text.count("\r\n") == text.count("\n")


def to_lf(text: str) -> str:
    """Return a text with plain line ends."""
    return text.replace("\r\n", "\n")


def to_crlf(text: str) -> str:
    """Return a text with the line ends of Windows."""
    return to_lf(text).replace("\n", "\r\n")


# ---- white space


def _occurrences(text: str, search: str) -> Iterator[int]:
    start = text.find(search)
    while start >= 0:
        yield start
        start = text.find(search, start + 1)


@lru_cache(maxsize=4)  # the file is searched by every edit
def _squeeze(text: str) -> tuple[str, list[int]]:
    """Return a text without white space that separates no words or lines, and the index of each character kept."""
    kept: list[str] = []
    at: list[int] = []
    gap = ""
    for index, character in enumerate(text):
        if character.isspace():
            gap = "\n" if "\n" in (gap, character) else " "
            continue
        if kept and (gap == "\n" or (gap and _is_part(kept[-1]) and _is_part(character))):
            kept.append(gap)
            at.append(index)
        kept.append(character)
        at.append(index)
        gap = ""
    return "".join(kept), at


def _loose_occurrences(text: str, search: str) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of what equals the search text but for white space, and cuts no word or number in two."""
    wanted, _ = _squeeze(search)
    if not wanted:
        return
    squeezed, at = _squeeze(text)
    for first in _occurrences(squeezed, wanted):
        start, end = at[first], at[first + len(wanted) - 1] + 1
        cuts_start = start > 0 and _is_part(text[start - 1]) and _is_part(text[start])
        cuts_end = end < len(text) and _is_part(text[end - 1]) and _is_part(text[end])
        if not (cuts_start or cuts_end):
            yield start, end


def _is_part(character: str) -> bool:
    """Return whether a character may be within a word or a number."""
    return character.isalnum() or character in "_."


def _fit_indentation(text: str, edit: Edit, number: int, start: int, end: int) -> Place | None:
    """Return the place of an edit whose white space is not the file's; None if its indentation fits nowhere."""
    core = edit.search.strip("\n \t\r")
    before, after = edit.search[: edit.search.index(core)], edit.search[edit.search.index(core) + len(core) :]
    line_start = text.rfind("\n", 0, start) + 1
    begins_line = not text[line_start:start].strip()
    search_lines = _filled_lines(before.rpartition("\n")[2] + core)
    text_lines = _filled_lines(text[line_start if begins_line else start : end])
    pairs = [(_indent(s), _indent(t)) for s, t in zip(search_lines, text_lines, strict=True)]
    shift = _common_shift(pairs) if begins_line else None
    first_is_indented = shift is not None
    if shift is None and (begins_line is False or not pairs[0][0]):  # the search text begins within its first line
        shift = _common_shift(pairs[1:])
    if shift is None:
        return None
    replacement = edit.replace
    for _ in range(before.count("\n")):
        replacement = replacement.removeprefix("\n")
    ends_line = "\n" in after
    for _ in range(after.count("\n")):
        replacement = replacement.removesuffix("\n")
    indented = _indent_lines(replacement, *shift, from_first=first_is_indented)
    if indented is None:
        return None
    if ends_line:
        end = text.find("\n", end) if "\n" in text[end:] else len(text)
        if not replacement and end < len(text):  # the lines go, and not only what is on them
            end += 1
    first, last = line_number(text, start), line_number(text, end - 1)
    lines = f"line {first}" if first == last else f"lines {first}-{last}"
    moved = f"; the replacement is indented by {shift[0]:+d}" if shift[0] else ""
    note = f"edit {number}: white space of the search text differs from the file ({lines}){moved}"
    return Place(
        start=line_start if first_is_indented else start, end=end, replacement=indented, number=number, note=note
    )


def _filled_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _common_shift(pairs: Sequence[tuple[str, str]]) -> tuple[int, int, bool] | None:
    """Return columns by which all lines are moved, the width of a tab, and whether to indent by tabs; None if unequal.

    `pairs` are the indentations of the search text and of the file, line by line.
    """
    by_tabs = any("\t" in ours for _, ours in pairs)
    found: list[tuple[int, int, bool]] = []
    for width in TAB_WIDTHS:
        shifts = {_columns(ours, width) - _columns(theirs, width) for theirs, ours in pairs} or {0}
        if len(shifts) == 1:
            found.append((shifts.pop(), width, by_tabs))
    return min(found, key=lambda shift: shift[0] != 0, default=None)


def _columns(indent: str, width: int) -> int:
    return len(indent.expandtabs(width))


def _indent_lines(text: str, shift: int, width: int, by_tabs: bool, *, from_first: bool) -> str | None:  # noqa: FBT001
    """Return a text with its lines moved; None if one has not enough indentation."""
    lines = text.split("\n")
    for number in range(0 if from_first else 1, len(lines)):
        line = lines[number]
        if not line.strip():
            continue
        columns = _columns(_indent(line), width) + shift
        if columns < 0:
            return None
        blanks = "\t" * (columns // width) + " " * (columns % width) if by_tabs else " " * columns
        lines[number] = blanks + line.lstrip()
    return "\n".join(lines)


# ---- what was probably meant


def describe_nearest(text: str, search: str) -> str:
    """Return the closest match, its line, and how it differs from a search text; "" if nothing is near."""
    wanted, lines = search.strip("\n").split("\n"), text.split("\n")
    at = _align(lines, wanted)
    if at is None:
        return ""
    near = lines[at : at + len(wanted)]
    parts = [f"\nThe closest match, at line {at + 1}:\n" + "\n".join(near)] if len(near) <= NEAREST_LINES else []
    if not parts:
        parts = [f"\nThe closest match is lines {at + 1} to {at + len(near)}."]
    return "\n".join([*parts, "The differences:", *_describe_differences(near, wanted, at)])


def _align(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the index of the line where the search text fits best: by lines that are equal, else by likeness."""
    places: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        places.setdefault(_squeeze(line)[0], []).append(index)
    votes: Counter[int] = Counter()
    for offset, line in enumerate(wanted):
        key = _squeeze(line)[0]
        for index in places.get(key, ()) if key else ():
            if index >= offset:
                votes[index - offset] += len(key)
    if votes:
        return max(votes, key=lambda start: (votes[start], -start))
    head = list(wanted[:NEAREST_LINES])
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2("\n".join(head)[:NEAREST_CHARS])
    best, at = NEAREST_RATIO, None
    for start in range(max(1, len(lines) - len(head) + 1)):
        matcher.set_seq1("\n".join(lines[start : start + len(head)])[:NEAREST_CHARS])
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and matcher.ratio() > best:
            best, at = matcher.ratio(), start
    return at


def _describe_differences(near: Sequence[str], wanted: Sequence[str], at: int) -> Iterator[str]:
    """Yield a line for each difference, with the line number in the file."""
    told = 0
    for kind, i, j, k, m in difflib.SequenceMatcher(None, near, wanted, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for step in range(max(j - i, m - k)):
            ours = near[i + step] if i + step < j else None
            theirs = wanted[k + step] if k + step < m else None
            told += 1
            if told > DIFFERENCES:
                yield "and more; copy the lines from the file again, or give the whole file"
                return
            yield _describe_difference(ours, theirs, at + min(i + step, j) + 1)


def _describe_difference(ours: str | None, theirs: str | None, line: int) -> str:
    if ours is None:
        return f"before line {line}: the file has no line {_shown(theirs or '')}"
    if theirs is None:
        return f"line {line}: the file has {_shown(ours)}, which the search text leaves out"
    names = "".join(_name_characters(ours, theirs))
    is_long = max(len(ours), len(theirs)) > DIFFERENCE_CHARS
    start = max(0, _common_prefix(ours, theirs) - DIFFERENCE_CHARS // 4) if is_long else 0
    return f"line {line}: the file has {_shown(ours, start)}, the search text has {_shown(theirs, start)}{names}"


def _common_prefix(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shown(line: str, start: int = 0) -> str:
    """Return a line in quotes, white space and invisible characters made visible, around where it matters."""
    piece = line[start : start + DIFFERENCE_CHARS]
    return ("…" if start else "") + repr(piece) + ("…" if start + DIFFERENCE_CHARS < len(line) else "")


def _name_characters(ours: str, theirs: str) -> Iterator[str]:
    """Yield the names of characters that look like others: dashes, quotes, blanks."""
    for character in sorted(set(ours) ^ set(theirs)):
        if not character.isascii():
            where = "the file" if character in ours else "the search text"
            name = unicodedata.name(character, "unnamed")
            yield f"; {where} has {name} (U+{ord(character):04X})"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= NEAREST_CHARS else text[:NEAREST_CHARS] + "…")
