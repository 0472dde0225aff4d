"""Take a change in which a duel found no gain out of the best file, once: an experiment that is judged as any other."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from orchestrator import files, patch
from orchestrator.errors import PatchRejected
from orchestrator.proposals import InFlight, Proposals, read_source
from orchestrator.record.claims import find_refuted
from orchestrator.record.experiment_dir import parent_path
from orchestrator.record.journal import REMOVAL, Journal
from orchestrator.types import Candidate, Champion, Experiment, Proposal, Reply

SHOWN_CHARS = 200  # of a hypothesis in another one


def next_removal(
    journal: Journal, proposals: Proposals, champion: Champion, in_flight: Sequence[InFlight]
) -> Candidate | None:
    """Return the best file without a change that a duel refuted, if that was not tried yet; None if there is none.

    A change that cannot be taken out is noted, with the reason.
    """
    for number in find_refuted(journal):
        if number == champion.id or journal.removals(number) or number in {one.removes_id for one in in_flight}:
            continue
        try:
            return make_removal(proposals, champion, journal.experiment(number), in_flight)
        except PatchRejected as refusal:
            reason = str(refusal).splitlines()[0]
            journal.note(f"experiment {number}, in which a duel found no gain, stays in the best file: {reason}")
    return None


def make_removal(
    proposals: Proposals, champion: Champion, change: Experiment, in_flight: Sequence[InFlight]
) -> Candidate:
    """Return the best file without a change. Raises PatchRejected where that is no file, or one that was tried."""
    best, before = read_source(champion.experiment), files.read_text(parent_path(change.folder))
    source = take_out(read_source(change), before, best)
    if source is None:
        raise PatchRejected("later changes are to the same lines")
    idea = f"the best file without experiment {change.id}: {change.hypothesis[:SHOWN_CHARS]}"
    proposal = Proposal(hypothesis=idea, source=source)
    patched = patch.apply(
        best, proposal, proposals.rules, contract=proposals.needs_contract, python=proposals.is_python
    )
    proposals.refuse_repeat(patched.source, in_flight, champion.conditions.hardware)
    return Candidate(
        proposal=proposal, source=patched.source, parent_id=champion.id, parent_source=best,
        reply=Reply(proposer=REMOVAL), removes_id=change.id, suffix=proposals.suffix,
    )  # fmt: skip


def take_out(changed: str, before: str, best: str) -> str | None:
    """Return a file that descends from `changed` without what was changed in `before`; None where they touch.

    A three-way merge: a line of a change, and the one before and after it, must still be as the change left them.
    """
    base, old, now = (text.splitlines(keepends=True) for text in (changed, before, best))
    place = dict(_matches(base, now)) | {-1: -1, len(base): len(now)}
    edits = []
    for tag, start, end, old_start, old_end in SequenceMatcher(None, base, old, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        around = [place.get(line) for line in range(start - 1, end + 1)]
        first = around[0]
        if first is None or around != [first + step for step in range(len(around))]:
            return None
        edits.append((first + 1, first + len(around) - 1, old[old_start:old_end]))
    for start, end, lines in reversed(edits):
        now[start:end] = lines
    return "".join(now)


def _matches(base: Sequence[str], now: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield each line that both have in common, by its place in either."""
    for block in SequenceMatcher(None, base, now, autojunk=False).get_matching_blocks():
        yield from ((block.a + step, block.b + step) for step in range(block.size))
