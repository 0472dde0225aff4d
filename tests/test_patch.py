"""Patches: what applies, what is refused, and how the refusal helps."""

import ast
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import patch
from orchestrator.edits import apply_edits
from orchestrator.errors import PatchRejected
from orchestrator.types import Edit, Proposal

PARENT = '''"""A small file."""

import prepare

DEPTH = 2
MATRIX_LR = 0.02


def load_model(path, device):
    """Load."""
    return path, device


if __name__ == "__main__":
    print(DEPTH, MATRIX_LR)
'''
RULES = ((r"(?m)^\s*import\s+socket\b", "there is no network"),)


def edited(parent: str, edits: Sequence[Edit]) -> str:
    """A file after its edits."""
    return apply_edits(parent, edits).text


def edit(search: str, replace: str) -> Proposal:
    """A proposal of one edit."""
    return Proposal(hypothesis="h", edits=(Edit(search=search, replace=replace),))


def whole(source: str) -> Proposal:
    """A proposal of a whole file."""
    return Proposal(hypothesis="h", source=source)


def refused(proposal: Proposal, parent: str = PARENT) -> str:
    """Why a proposal is refused."""
    with pytest.raises(PatchRejected) as caught:
        patch.apply(parent, proposal, RULES)
    return str(caught.value)


def test_an_edit_replaces_its_one_place() -> None:
    """Only the search text changes, everything else stays byte for byte."""
    assert PARENT.replace("0.02", "0.03") == patch.apply(PARENT, edit("MATRIX_LR = 0.02", "MATRIX_LR = 0.03")).source


def test_edits_are_all_located_in_the_parent() -> None:
    """The replacement of one edit is never searched by another, whatever their order."""
    edits = (Edit(search="DEPTH = 2", replace="DEPTH = 3"), Edit(search="MATRIX_LR = 0.02", replace="DEPTH = 2"))
    forwards = patch.apply(PARENT, Proposal(hypothesis="h", edits=edits)).source

    assert forwards == patch.apply(PARENT, Proposal(hypothesis="h", edits=edits[::-1])).source
    assert "DEPTH = 3\nDEPTH = 2\n" in forwards


def test_a_whole_file_is_taken_as_it_is() -> None:
    """The fallback when edits do not apply."""
    source = PARENT.replace("DEPTH = 2", "DEPTH = 5")

    assert source == patch.apply(PARENT, whole(source)).source


def test_a_search_text_that_is_not_there_is_answered_with_the_nearest() -> None:
    """The refusal quotes what was searched, and the line that was probably meant."""
    message = refused(edit("MATRIX_LR = 0.025", "MATRIX_LR = 0.03"))

    assert message.startswith("edit 1: search text not found in the file: 'MATRIX_LR = 0.025'")
    assert "at line 6:\nMATRIX_LR = 0.02" in message


def test_nothing_near_is_not_quoted() -> None:
    """A search text that resembles nothing gets no misleading hint."""
    assert "closest" not in refused(edit("zzzz qqqq wwww", "x"))


def test_a_search_text_that_stands_twice_is_refused_with_both_lines() -> None:
    """Ambiguity is never resolved by guessing."""
    assert "(lines 5 and 15)" in refused(edit("DEPTH", "D"))


def test_overlapping_matches_of_one_search_text_count_as_two() -> None:
    """`aa` stands twice in `aaa`."""
    assert "more than once" in refused(edit("aa", "b"), PARENT + "# aaa\n")


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        (edit("", "x"), "search text is empty"),
        (Proposal(hypothesis="h"), "only comments, docstrings or layout change"),
        (edit("0.02", "0.020"), "only comments, docstrings or layout change"),
        (edit("import prepare", "import prepare  # a comment"), "only comments, docstrings or layout change"),
        (edit('"""Load."""', '"""Load it."""'), "only comments, docstrings or layout change"),
        (edit("DEPTH = 2", "DEPTH = = 2"), "line 5: the file does not parse"),
        (edit("DEPTH = 2", "DEPTH = 2\0"), "line 5: a NUL character"),
        (edit("DEPTH = 2", "DEPTH = '\ud800'"), "line 5: a character that cannot be encoded as UTF-8"),
        (
            edit("DEPTH = 2", "import socket"),
            "line 5: `import socket` violates a task rule: there is no network",
        ),
        (edit("load_model", "load"), "def load_model(path, device)"),
        (edit("(path, device)", "(path)"), "must take two arguments"),
        (edit('if __name__ == "__main__":', "if True:"), '`if __name__ == "__main__":`'),
        (whole("x" * (patch.MAX_SOURCE_BYTES + 1)), "at most 131072"),
        (whole("# coding: utf-7\n" + PARENT), "encoding that is not UTF-8"),
        (whole("# coding: nonsense\n" + PARENT), "encoding that is not UTF-8"),
        (whole(PARENT + "x = " + "(" * 5000 + ")" * 5000), "does not parse"),
        (whole(PARENT + "x = " + "-" * 50_000 + "1"), "nest"),
        (whole(PARENT + "x = 0" + "+ 1" * 900), "nested too deeply to be compared"),
        (whole(PARENT + "x = " + "9" * 5000), "does not parse"),
        (Proposal(hypothesis="h", source=PARENT, edits=(Edit(search="a", replace="b"),)), "give only one of them"),
        (
            Proposal(
                hypothesis="h",
                edits=(Edit(search="DEPTH = 2\nMATRIX", replace="x"), Edit(search="MATRIX_LR = 0.02", replace="y")),
            ),
            "edits 1 and 2 overlap at line 6",
        ),
        (Proposal(hypothesis="h", edits=(Edit(search="DEPTH = 2", replace="x"),) * 2), "edits 1 and 2 overlap"),
        (Proposal(hypothesis="h", edits=(Edit(search="DEPTH = 2", replace="x"),) * 201), "at most 200"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason(proposal: Proposal, expected: str) -> None:
    """One reason per kind of bad patch, naming the line where there is one."""
    assert expected in refused(proposal)


def test_ten_megabytes_are_refused_before_they_are_parsed() -> None:
    """Size is looked at first."""
    assert "10000000 bytes" in refused(whole("(" * 10_000_000))


def test_the_guard_may_be_written_either_way_round() -> None:
    """Python does not mind, so neither does the contract."""
    source = PARENT.replace('__name__ == "__main__"', "'__main__' == __name__").replace("0.02", "0.5")

    assert source == patch.apply(PARENT, whole(source)).source


def test_layout_does_not_change_the_fingerprint() -> None:
    """Comments, docstrings, quotes, blank lines and numerals written otherwise make no new file."""
    other = PARENT.replace('"""A small file."""', "# none").replace("0.02", "2e-2").replace('"__main__"', "'__main__'")

    assert patch.fingerprint(PARENT) == patch.fingerprint(other)
    assert patch.fingerprint(PARENT) != patch.fingerprint(PARENT.replace("0.02", "0.021"))
    assert patch.fingerprint(PARENT) != patch.fingerprint(PARENT.replace("DEPTH = 2", "DEPTH = 2.0"))


@given(st.text(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_an_edit_is_applied_exactly_or_refused(parent: str, search: str, replace: str) -> None:
    """Whatever the texts: the parent with one place replaced, with its line ends kept, or PatchRejected."""
    starts = [i for i in range(len(parent) + 1) if parent.startswith(search, i)] if search else []
    try:
        made = apply_edits(parent, [Edit(search=search, replace=replace)], comment="")
    except PatchRejected:
        assert len(starts) != 1
        return

    if made.notes:
        assert [] == starts
        return
    before, after = parent[: starts[0]], parent[starts[0] + len(search) :]
    line_ends = ("", "\n")
    assert 1 == len(starts)
    assert made.text in [f"{before}{first}{replace}{last}{after}" for first in line_ends for last in line_ends]


@given(st.text(max_size=300))
@settings(max_examples=200)
def test_any_text_is_checked_or_refused(text: str) -> None:
    """No text raises anything but PatchRejected, and what passes can be fingerprinted."""
    try:
        patch.check(PARENT + text)
    except PatchRejected:
        return
    assert 64 == len(patch.fingerprint(PARENT + text))


@given(st.integers(min_value=1, max_value=6), st.data())
def test_disjoint_edits_commute(count: int, data: st.DataObject) -> None:
    """Edits of different lines give one result in any order."""
    parent = "".join(f"A{i} = {i}\n" for i in range(count))
    edits = [Edit(search=f"A{i} = {i}\n", replace=f"A{i} = {i + 1}\n") for i in range(count)]

    expected = "".join(f"A{i} = {i + 1}\n" for i in range(count))
    assert expected == edited(parent, data.draw(st.permutations(edits)))
    ast.parse(expected)


ADAMW = """import torch


class Muon:
    def step(self, closure=None):
        for group in self.groups:
            for p in group:
                p.grad.mul_(0.5)  # first moment
                p.grad.add_(p, alpha=0.1)

        return None


MOMENTUM = 0.95  # second moment
NESTEROV = "yes"


def load_model(path, device):
    return path, device


if __name__ == "__main__":
    print(MOMENTUM)
"""


def applied(search: str, replace: str, parent: str = ADAMW) -> patch.Patched:
    """A parent after one edit."""
    return patch.apply(parent, edit(search, replace))


@pytest.mark.parametrize(
    ("search", "replace"),
    [
        ("MOMENTUM = 0.95  # second moment\n", "MOMENTUM = 0.9  # second moment"),
        ("MOMENTUM = 0.95  # second moment\n", "MOMENTUM = 0.9"),
        ('\nNESTEROV = "yes"\n\n', 'NESTEROV = "no"\n\n'),
        ("\n\nMOMENTUM = 0.95", "MOMENTUM = 0.9"),
    ],
)
def test_a_replacement_never_joins_two_lines(search: str, replace: str) -> None:
    """What begins or ends a line in the search text does so in its replacement: no comment swallows the next line."""
    names = {"MOMENTUM", "NESTEROV"}
    tree = ast.parse(applied(search, replace).source)
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}

    assert names == assigned


def test_a_replacement_of_lines_by_nothing_removes_them() -> None:
    """No blank line is left behind."""
    assert ADAMW.replace('NESTEROV = "yes"\n', "") == applied('NESTEROV = "yes"\n', "").source
    assert ADAMW.replace('NESTEROV = "yes"\n', "") == applied('NESTEROV = "yes" \n', "").source


def test_a_comment_that_would_swallow_the_rest_of_its_line_is_refused() -> None:
    """An edit that ends within a line."""
    parent = ADAMW.replace("MOMENTUM = 0.95 ", "MOMENTUM = 0.95; WARMUP = 3 ")
    message = refused(edit("MOMENTUM = 0.95", "MOMENTUM = 0.9  # lower"), parent)

    assert "would swallow the rest of line 14: '; WARMUP = 3  # second moment'" in message
    assert "MOMENTUM = 0.9; WARMUP" in applied("MOMENTUM = 0.95", "MOMENTUM = 0.9", parent).source
    assert 'NESTEROV = "#no"' in applied('NESTEROV = "yes"', 'NESTEROV = "#no"').source


LOOP = """        for group in self.groups:
            for p in group:
                p.grad.mul_(0.5)  # first moment
                p.grad.add_(p, alpha=0.1)
"""


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("groups:\n", "groups: \n"),
        lambda text: text.rstrip("\n") + "  ",
        lambda text: "".join(line[4:] for line in text.splitlines(keepends=True)),
        lambda text: "".join(line[8:] for line in text.splitlines(keepends=True)),
        lambda text: "".join(f"    {line}" for line in text.splitlines(keepends=True)),
        lambda text: text.replace("    ", "\t"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("0.5)  #", "0.5) #").replace("alpha=0.1", "alpha = 0.1"),
        lambda text: text.replace("            for", "\n            for"),
        lambda text: "\n\n" + text + "\n\n",
    ],
    ids=["trailing", "end", "one-less", "none", "one-more", "tabs", "crlf", "inner", "blank-line", "around"],
)  # fmt: skip
def test_a_search_text_that_differs_in_white_space_only_is_taken(change: Callable[[str], str]) -> None:
    """And its replacement gets the indentation of the file; the record says so."""
    made = applied(change(LOOP), change(LOOP.replace("0.5", "0.25")))

    assert ast.dump(ast.parse(ADAMW.replace("0.5", "0.25"))) == ast.dump(ast.parse(made.source))
    assert made.source.startswith(ADAMW[: ADAMW.index("        for group")])
    assert made.source.replace("\r", "").endswith(ADAMW[ADAMW.index("        return None") :])
    assert made.notes[0].startswith("edit 1: white space of the search text differs from the file (lines 6-9)")


def test_a_replacement_is_indented_with_its_search_text() -> None:
    """New lines too; what begins within a line keeps its beginning."""
    made = applied("p.grad.mul_(0.5) # first moment", "if p.grad is not None:\n    p.grad.mul_(0.5)")
    within = applied("for p in  group:\n                p.grad.mul_(0.5)", "for p in group:\n                pass")

    assert "\n                if p.grad is not None:\n                    p.grad.mul_(0.5)\n" in made.source
    assert "indented by +16" in made.notes[0]
    assert "\n            for p in group:\n                pass  # first" in within.source


def test_a_blank_that_only_looks_like_one_is_taken() -> None:
    """A no-break space in the search text."""
    search = LOOP.replace(" in group:", "\u00a0in group:")

    assert ADAMW.replace("0.5", "0.25") == applied(search, LOOP.replace("0.5", "0.25")).source


def test_a_file_indented_by_tabs_stays_so() -> None:
    """An LLM that answers with blanks is understood."""
    parent = ADAMW.replace("    ", "\t")
    made = applied(LOOP, LOOP.replace("0.5", "0.25"), parent)

    assert parent.replace("0.5", "0.25") == made.source


@pytest.mark.parametrize("search", ["MOMENTUM =  0.9", "OMENTUM  = 0.95", "MOMENTUM = 0 .95", "imp ort torch"])
def test_no_word_and_no_number_is_cut_in_two(search: str) -> None:
    """White space is ignored between words only."""
    assert "search text not found" in refused(edit(search, "X = 1"), ADAMW)


def test_a_search_text_with_two_places_but_for_white_space_is_refused() -> None:
    """With both lines."""
    parent = ADAMW.replace('NESTEROV = "yes"', "NESTEROV = [1,  2]\nOTHER = [1,   2]")

    assert "matches, but for white space, more than once (lines 15 and 16)" in refused(edit("[1, 2]", "3"), parent)


def test_lines_indented_unlike_the_file_are_shown_as_they_are() -> None:
    """Where no one shift explains them, the blanks are shown."""
    message = refused(edit("        for group in self.groups:\n        for p in group:\n", "pass"), ADAMW)

    assert (
        "line 7: the file has '            for p in group:', the search text has '        for p in group:'" in message
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("first-moment", "first\u2013moment", "the search text has EN DASH (U+2013)"),
        ('"yes"', "\u201cyes\u201d", "the search text has LEFT DOUBLE QUOTATION MARK (U+201C)"),
        ("alpha=0.1", "al\u200bpha=0.1", "'                p.grad.add_(p, al\\u200bpha=0.1)'"),
        ("first-moment", "second moment", "# second moment'"),
        ("closure=None", "closure = none", "closure = none):'"),
    ],
)
def test_a_near_miss_is_shown_at_its_place(ours: str, theirs: str, expected: str) -> None:
    """In a search text of any length: the line, both texts, and the names of characters that look like others."""
    parent = ADAMW.replace("first moment", "first-moment")
    line = next(n for n, text in enumerate(parent.splitlines(), start=1) if ours in text)
    message = refused(edit(parent.replace(ours, theirs), "x = 1"), parent)

    assert f"\nline {line}: the file has " in message
    assert expected in message
    assert 1 == message.count("the search text has '") or "U+" in message


def test_lines_that_are_missing_or_too_many_are_named() -> None:
    """On either side."""
    lines = ADAMW.splitlines(keepends=True)
    without = refused(edit("".join(lines[3:7] + lines[8:14]), "x"), ADAMW)
    more = refused(edit("".join([*lines[3:8], "                p.zero_()\n", *lines[8:14]]), "x"), ADAMW)

    assert "line 8: the file has '                p.grad.mul_(0.5)  # first moment', which the search text" in without
    assert "before line 9: the file has no line '                p.zero_()'" in more


@pytest.mark.parametrize("bom", ["", patch.BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_keeps_its_line_ends_and_its_byte_order_mark(bom: str, end: str) -> None:
    """Whatever the LLM answers with: one line changes in a diff, not all."""
    parent = bom + ADAMW.replace("\n", end)
    changed = parent.replace("0.95", "0.9")
    patch.check(parent)

    assert changed == applied("MOMENTUM = 0.95  # second moment\n", "MOMENTUM = 0.9  # second moment\n", parent).source
    assert changed == patch.apply(parent, whole(ADAMW.replace("0.95", "0.9"))).source
    assert ADAMW == patch.as_shown(parent)


def test_a_rule_holds_for_the_first_line_behind_a_byte_order_mark() -> None:
    """It hides nothing."""
    assert "line 1: `import socket`" in refused(whole(patch.BOM + "import socket\n" + PARENT))
