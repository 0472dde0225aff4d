"""The cheats of examples/drift beside its judge, without containers; `make cheats` runs all of them in containers."""

import archive
import judge
import pytest
from post import FAULTS, Refused

from attacks.scores.run import Entry, example_entries
from tests.examples.test_drift import KEPT

THRESHOLD = 70  # of task.toml


def judged(entry: Entry, kept: list[tuple[str, bytes]]) -> tuple[float, str]:
    """The score of an entry, 0 if it is refused, and how it ends."""
    with archive.open_archive(kept) as connection:
        try:
            return judge.judge(entry.source.encode(), connection).value, "scored"
        except Refused as error:
            return 0.0, f"{'crash' if error.name in FAULTS else 'cheat'}, {error.name}"


@pytest.mark.parametrize("entry", example_entries("drift"), ids=lambda entry: entry.name)
def test_a_cheat_is_refused_by_name_and_an_honest_post_is_kept(entry: Entry) -> None:
    """Each ends as its head says."""
    kept = KEPT[:-1] if entry.honest else KEPT
    value, ended = judged(entry, kept)

    assert entry.ends == ended
    assert value >= THRESHOLD if entry.honest else value <= (entry.bound or 0) < THRESHOLD


def test_a_cheat_says_what_it_tries() -> None:
    """In its first line."""
    entries = [entry for name in ("code-size", "drift", "kernel") for entry in example_entries(name)]

    assert all(entry.says and not entry.says.startswith("Ends") for entry in entries)
    assert "A litre of milk is not a litre" == next(entry.says for entry in entries if entry.name == "00_drift")
