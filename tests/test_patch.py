"""Patches: what applies, what is refused, and how the refusal helps."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import patch
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
    assert PARENT.replace("0.02", "0.03") == patch.apply(PARENT, edit("MATRIX_LR = 0.02", "MATRIX_LR = 0.03"))


def test_edits_are_all_located_in_the_parent() -> None:
    """The replacement of one edit is never searched by another, whatever their order."""
    edits = (Edit(search="DEPTH = 2", replace="DEPTH = 3"), Edit(search="MATRIX_LR = 0.02", replace="DEPTH = 2"))
    forwards = patch.apply(PARENT, Proposal(hypothesis="h", edits=edits))

    assert forwards == patch.apply(PARENT, Proposal(hypothesis="h", edits=edits[::-1]))
    assert "DEPTH = 3\nDEPTH = 2\n" in forwards


def test_a_whole_file_is_taken_as_it_is() -> None:
    """The fallback when edits do not apply."""
    source = PARENT.replace("DEPTH = 2", "DEPTH = 5")

    assert source == patch.apply(PARENT, whole(source))


def test_a_search_text_that_is_not_there_is_answered_with_the_nearest() -> None:
    """The refusal quotes what was searched, and the line that was probably meant."""
    message = refused(edit("MATRIX_LR = 0.025", "MATRIX_LR = 0.03"))

    assert message.startswith("edit 1: search text not found in train.py: 'MATRIX_LR = 0.025'")
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
        (edit("DEPTH = 2", "DEPTH = = 2"), "line 5: train.py does not parse"),
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

    assert source == patch.apply(PARENT, whole(source))


def test_layout_does_not_change_the_fingerprint() -> None:
    """Comments, docstrings, quotes, blank lines and numerals written otherwise make no new file."""
    other = PARENT.replace('"""A small file."""', "# none").replace("0.02", "2e-2").replace('"__main__"', "'__main__'")

    assert patch.fingerprint(PARENT) == patch.fingerprint(other)
    assert patch.fingerprint(PARENT) != patch.fingerprint(PARENT.replace("0.02", "0.021"))
    assert patch.fingerprint(PARENT) != patch.fingerprint(PARENT.replace("DEPTH = 2", "DEPTH = 2.0"))


@given(st.text(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_an_edit_is_applied_exactly_or_refused(parent: str, search: str, replace: str) -> None:
    """Whatever the texts: the result is the parent with one place replaced, or PatchRejected."""
    count = sum(parent.startswith(search, i) for i in range(len(parent) + 1)) if search else 0
    try:
        result = patch.apply_edits(parent, [Edit(search=search, replace=replace)])
    except PatchRejected:
        assert count != 1
    else:
        assert 1 == count
        assert parent.replace(search, replace) == result


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
    assert expected == patch.apply_edits(parent, data.draw(st.permutations(edits)))
    ast.parse(expected)
