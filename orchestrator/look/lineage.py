"""Show which kept change descends from which: as lanes for a page, as a tree for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from rich.tree import Tree

from orchestrator.record.claims import find_doubtful, find_refuted
from orchestrator.record.journal import Journal
from orchestrator.text import sanitise
from orchestrator.types import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageNode:
    """One kept experiment: the lane of its point, and the lanes that pass it."""

    experiment: Experiment
    lane: int
    parent_lane: int | None
    passing: tuple[int, ...]  # lanes of others that continue below
    ends: bool  # nothing kept descends from it
    gain: float | None  # over its parent


def trace_lineage(kept: Sequence[Experiment]) -> list[LineageNode]:
    """Return a node for each kept experiment, oldest first; a second child of a parent opens a lane of its own."""
    by_id = {experiment.id: experiment for experiment in kept}
    last_child = {e.parent_id: e.id for e in kept if e.parent_id in by_id}
    lanes: dict[int, int] = {}
    tips: list[int | None] = []  # the newest experiment of each lane
    nodes = []
    for experiment in kept:
        parent = by_id.get(-1 if experiment.parent_id is None else experiment.parent_id)
        lane = _choose_lane(tips, parent.id if parent else None)
        lanes[experiment.id] = lane
        for other, tip in enumerate(tips):
            if tip is not None and last_child.get(tip, -1) <= experiment.id and tip != experiment.id:
                tips[other] = None  # it has no further child
        tips[lane] = experiment.id
        nodes.append(
            LineageNode(
                experiment=experiment,
                lane=lane,
                parent_lane=lanes[parent.id] if parent else None,
                passing=tuple(other for other, tip in enumerate(tips) if tip is not None and other != lane),
                ends=experiment.id not in last_child,
                gain=_gain(experiment, parent),
            )
        )
        if experiment.id not in last_child:
            tips[lane] = None
    return nodes


def lineage_tree(journal: Journal) -> Tree:
    """Return kept experiments, each under its parent; one whose parent was not kept is at the top."""
    champion, doubtful, refuted = journal.champion(), find_doubtful(journal), find_refuted(journal)
    metric = sanitise(journal.describe_metric(), limit=100)
    top = Tree(Text.assemble((journal.folder.name, "bold"), (f"  {metric}", "dim")))
    branches: dict[int | None, Tree] = {}
    for node in trace_lineage(journal.kept()):
        e = node.experiment
        is_best = champion is not None and champion.id == e.id
        style = "bold green" if is_best else "green"
        label = Text.assemble(
            (f"{e.id}  ", "bold"), ("" if e.value is None else f"{e.value:.6f}", style),
            ("" if node.gain is None else f" ({node.gain:+.6f})", "dim"), ("  best" if is_best else "", style),
            ("  in doubt" if e.id in doubtful else "  no gain by a duel" if e.id in refuted else "", "yellow"),
            f"  {sanitise(e.hypothesis, limit=120)}",
        )  # fmt: skip
        branches[e.id] = branches.get(e.parent_id, top).add(label)
    return top


def lineage_json(journal: Journal) -> list[dict[str, object]]:
    """Return the same as plain data, oldest first."""
    metric = journal.metric()
    return [
        {"id": e.id, "parent_id": e.parent_id, metric: e.value, "hypothesis": e.hypothesis, "commit": e.commit}
        for e in journal.kept()
    ]


def _gain(experiment: Experiment, parent: Experiment | None) -> float | None:
    if parent is None or parent.value is None or experiment.value is None:
        return None
    return experiment.value - parent.value


def _choose_lane(tips: list[int | None], parent: int | None) -> int:
    """Return the parent's lane if the parent is its newest, else the first free one."""
    if parent is not None and parent in tips:
        return tips.index(parent)
    if None in tips:
        return tips.index(None)
    tips.append(None)
    return len(tips) - 1
