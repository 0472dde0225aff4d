"""The containers of an experiment in a terminal: what is the same in all of them once, then how each ended."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.look.containers import ending
from orchestrator.record.experiment_files import data
from orchestrator.text import sanitise
from orchestrator.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRow:
    """One container."""

    execution: dict[str, Any]
    run: str  # of several with different seeds
    walls: tuple[str, ...]  # in one order; none where the record does not hold them


def containers(folder: Path, finished: dict[str, Any]) -> RenderableType:
    """What all have in common, then a row for each; of several runs, each has a line above its rows."""
    made = dict(_made(folder))
    found = [_ran(execution, made) for execution in finished.get("executions", [])]
    if not found:
        return Text("none ran", "dim")
    common = [
        Counter(same).most_common(1)[0][0] for same in zip(*(one.walls for one in found if one.walls), strict=True)
    ]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("role", no_wrap=True)
    for name in ("peak MiB", "cpu s", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ended")
    runs = list(dict.fromkeys(one.run for one in found))
    for run in runs:
        if len(runs) > 1:
            table.add_row(Text(run, "bold"))
        for one in found:
            if one.run == run:
                table.add_row(*_row(one, common))
    return Group(Text(f"each: {', '.join(common) or 'walls not on record'}"), table)


def _row(one: ContainerRow, common: list[str]) -> tuple[str | Text, ...]:
    """How it lived and ended, and which of its walls is not that of most."""
    execution, peak, cpu_s = one.execution, one.execution["peak_memory_bytes"], one.execution["cpu_s"]
    ended = Text(ending(execution, {})[0])
    odd = [wall for wall in one.walls if wall not in common] if one.walls else ["walls not on record"]
    if common and odd:
        ended.append(f"; {', '.join(odd)}", "bold yellow")
    return (
        str(execution["role"]),
        "?" if peak is None else f"{peak // MIB}",
        "?" if cpu_s is None else f"{cpu_s:.1f}",
        f"{execution['duration_s']:.1f} of {execution['deadline_s']:.0f}",
        ended,
    )


def _made(folder: Path) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    """By container: the run it belongs to, and what the engine said it made."""
    for path in [*folder.glob("*.created.json"), *folder.glob("*/*.created.json")]:
        created = data(path)
        run = "first run" if path.parent == folder else path.parent.name
        yield str(created.get("Id")), (sanitise(run, 40), created)


def _ran(execution: dict[str, Any], made: dict[str, tuple[str, dict[str, Any]]]) -> ContainerRow:
    run, created = made.get(execution["container_id"], ("run not on record", {}))
    return ContainerRow(execution=execution, run=run, walls=_walls(created) if created else ())


def _walls(created: dict[str, Any]) -> tuple[str, ...]:
    host, config = created.get("HostConfig", {}), created.get("Config", {})
    network, image = str(host.get("NetworkMode", "?")), str(created.get("Image", "?"))
    walls = (
        f"image {image.removeprefix('sha256:')[:12]}",
        f"user {config.get('User', '?')}",
        "no network" if network == "none" else f"NETWORK {network}",
        "root read-only" if host.get("ReadonlyRootfs") else "root WRITABLE",
        "no capabilities" if host.get("CapDrop") == ["ALL"] and not host.get("CapAdd") else "SOME CAPABILITIES",
        f"{host.get('Memory', 0) // MIB} MiB of memory",
    )
    return tuple(sanitise(wall, 100) for wall in walls)
