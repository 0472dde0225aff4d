"""How experiments descend from each other: the tree of what was kept, and the difference between any two."""

from rich.text import Text
from rich.tree import Tree

from orchestrator.record.experiment_dir import unified
from orchestrator.record.experiment_files import read
from orchestrator.record.journal import Journal
from orchestrator.text import sanitise
from orchestrator.types import Experiment, Status


def tree(journal: Journal) -> Tree:
    """Kept experiments under the one each was made from; one whose parent was not kept stands at the top."""
    kept, best = journal.experiments("status = ?", Status.KEEP), journal.best()
    top = Tree(Text(journal.folder.name, "bold"))
    branches: dict[int, Tree] = {}
    for experiment in kept:
        parent = branches.get(-1 if experiment.parent_id is None else experiment.parent_id, top)
        branches[experiment.id] = parent.add(_label(experiment, kept, best))
    return top


def as_json(journal: Journal) -> list[dict[str, object]]:
    """The same as plain data, oldest first."""
    return [
        {"id": e.id, "parent_id": e.parent_id, "val_bpb": e.value, "hypothesis": e.hypothesis, "commit": e.commit}
        for e in journal.experiments("status = ?", Status.KEEP)
    ]


def diff(old: Experiment, new: Experiment) -> str:
    """The train.py of one as a unified diff against that of another, in whichever order they ran."""
    before, after = (read(e.folder / "train.py").splitlines(keepends=True) for e in (old, new))
    return unified(before, after, f"{old.id}/train.py", f"{new.id}/train.py")


def _label(experiment: Experiment, kept: list[Experiment], best: Experiment | None) -> Text:
    number = "" if experiment.value is None else f"{experiment.value:.6f}"
    parent = next((e for e in kept if e.id == experiment.parent_id), None)
    gain = ""
    if parent is not None and parent.value is not None and experiment.value is not None:
        gain = f" ({experiment.value - parent.value:+.6f})"
    is_best = best is not None and best.id == experiment.id
    style = "bold green" if is_best else "green"
    return Text.assemble(
        (f"{experiment.id}  ", "bold"), (number, style), (gain, "dim"), ("  best" if is_best else "", style),
        f"  {sanitise(experiment.hypothesis, limit=120)}",
    )  # fmt: skip
