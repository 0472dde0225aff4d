"""Which kept change descends from which, as lanes that one can draw line by line."""

from dataclasses import dataclass

from orchestrator.look.history import HistoryEntry, RunHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageNode:
    """One kept experiment: the lane of its point, and the lanes that pass it by."""

    turn: HistoryEntry
    parent_id: int | None
    lane: int
    parent_lane: int | None
    passing: tuple[int, ...]  # lanes of others that go on below
    ends: bool  # nothing kept descends from it
    gain: float | None  # over its parent


def lineage(night: RunHistory) -> list[LineageNode]:
    """Newest last. A change that does not descend from the one before it opens a lane of its own."""
    kept = {turn.experiment.id: turn for turn in night.kept}
    parents = {i: turn.experiment.parent_id for i, turn in kept.items()}
    last_child = {parent: i for i, parent in parents.items() if parent in kept}
    lanes: dict[int, int] = {}
    tips: list[int | None] = []  # by lane: who is its newest
    found = []
    for number, turn in kept.items():
        parent = parents[number] if parents[number] in kept else None
        lane = _lane(tips, parent)
        parent_lane = None if parent is None else lanes[parent]
        lanes[number] = lane
        for other, tip in enumerate(tips):
            if tip is not None and last_child.get(tip, -1) <= number and tip != number:
                tips[other] = None  # its last child has come, or none will
        tips[lane] = number
        before = kept[parent].experiment.value if parent is not None else None
        after = turn.experiment.value
        found.append(
            LineageNode(
                turn=turn,
                parent_id=parents[number],
                lane=lane,
                parent_lane=parent_lane,
                passing=tuple(other for other, tip in enumerate(tips) if tip is not None and other != lane),
                ends=number not in last_child,
                gain=None if before is None or after is None else after - before,
            )
        )
        if number not in last_child:
            tips[lane] = None
    return found


def _lane(tips: list[int | None], parent: int | None) -> int:
    """The parent's lane if it is its newest there, else the first free one."""
    if parent is not None and parent in tips:
        return tips.index(parent)
    if None in tips:
        return tips.index(None)
    tips.append(None)
    return len(tips) - 1
