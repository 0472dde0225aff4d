"""Draw the plots as data for Plotly: numbers only. No text of an experiment goes in: Plotly would read it as mark-up.

Colours come from the style sheet, which finds a trace by its `uid`: so one figure serves light, dark and paper.
"""

from itertools import groupby
from statistics import quantiles
from typing import Any

from orchestrator.look.history import HistoryEntry, RunHistory
from orchestrator.policy import STANDARD_ERRORS
from orchestrator.types import Status
from orchestrator.units import SECONDS_PER_HOUR

SYMBOLS = {
    Status.KEEP: "circle", Status.DISCARD: "circle-open", Status.CRASH: "x-thin-open",
    Status.TIMEOUT: "hourglass-open", Status.OOM: "square-open", Status.INVALID: "diamond-open", Status.CHEAT: "star",
    Status.CONTENDED: "triangle-up-open", Status.INFRA: "cross-thin-open",
}  # fmt: skip
SIZES = {Status.KEEP: 11, Status.CHEAT: 10}
MINUTE_S = 60
ROOM = 0.08  # of the height, above and below
FEW_TICKS = 14  # experiments, each with its number
FEW = 4  # scores; with fewer, outliers are not detected


def draw_best_so_far(history: RunHistory) -> dict[str, Any]:
    """Draw the best so far as a line, every experiment as a point, those without a score below."""
    low, high = score_range(history)
    worst = low if history.sign < 0 else high  # the edge at which outliers are drawn
    traces = [*_band(history), _steps(history)]
    for status in Status:
        entries = [entry for entry in history.entries if entry.experiment.status is status]
        scored = [entry for entry in entries if entry.experiment.judged_value is not None]
        unscored = [entry for entry in entries if entry.experiment.judged_value is None]
        if scored:
            traces.append(_points(status, scored, worst, history.sign))
        if unscored:
            traces.append(_strip(status, unscored))
    scores = [e.experiment.judged_value for e in history.entries if e.experiment.judged_value is not None]
    beyond = sum(_is_beyond(score, worst, history.sign) for score in scores)
    return {"data": traces, "layout": {**_layout(low, high, history), "annotations": _beyond(beyond, worst)}}


def score_range(history: RunHistory) -> tuple[float, float]:
    """Return the range of scores that is shown; outliers that are worse are drawn at its edge."""
    low, high = _cost_range(history)
    return (-high, -low) if history.sign < 0 else (low, high)


def _is_beyond(score: float, worst: float, sign: int) -> bool:
    """Return whether a score is worse than the worst that is shown."""
    return sign * score > sign * worst


def _cost_range(history: RunHistory) -> tuple[float, float]:
    sign = history.sign
    values = sorted(sign * t.experiment.judged_value for t in history.entries if t.experiment.judged_value is not None)
    if not values:
        return 0.0, 1.0
    high = values[-1]
    if len(values) >= FEW:
        first, _, third = quantiles(values, n=4)
        usual = third + 1.5 * (third - first)
        best = [sign * entry.after for entry in history.entries if entry.after is not None]
        high = max(v for v in values if v <= max(usual, *best))
    room = (high - values[0]) * ROOM or 0.01
    return values[0] - room, high + room


def _beyond(count: int, high: float) -> list[dict[str, Any]]:
    """Return the note that some marks are off the scale."""
    text = f"\N{WHITE UP-POINTING TRIANGLE} {count} worse than the scale shows"
    at = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "y", "y": high, "yanchor": "bottom", "yshift": 6}
    return [{"text": text, "showarrow": False, **at}] if count else []


def draw_outcomes(history: RunHistory) -> dict[str, Any]:
    """Draw count, device time and cost per status: three rows of bars side by side."""
    outcomes = history.outcomes[::-1]
    names = [outcome.status.value for outcome in outcomes]
    long = max((outcome.device_seconds for outcome in outcomes), default=0) >= SECONDS_PER_HOUR
    unit, unit_s, digits = ("h", SECONDS_PER_HOUR, 2) if long else ("min", MINUTE_S, 1)
    panels = (
        ("", [float(o.count) for o in outcomes], "%{x}"),
        ("2", [o.device_seconds / unit_s for o in outcomes], f"%{{x:.{digits}f}} {unit}"),
        ("3", [o.cost_usd for o in outcomes], "$%{x:.2f}"),
    )
    traces = [
        {
            "type": "bar", "orientation": "h", "uid": f"bars{axis}", "y": names, "x": values, "xaxis": f"x{axis}",
            "texttemplate": form, "textposition": "outside", "cliponaxis": False, "hoverinfo": "none", "width": 0.62,
        }
        for axis, values, form in panels
    ]  # fmt: skip
    bare = {"showgrid": False, "zeroline": False, "showticklabels": False, "fixedrange": True}
    axes = {
        f"xaxis{axis}": {**bare, "domain": domain, "range": [0, (max(values, default=0) or 1) * 2]}
        for (axis, values, _), domain in zip(panels, ([0, 0.28], [0.36, 0.64], [0.72, 1]), strict=True)
    }
    titles = [
        {
            "text": text,
            "x": at,
            "y": 1.0,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "left",
            "yanchor": "bottom",
            "showarrow": False,
        }
        for text, at in (("experiments", 0), ("device time", 0.36), ("cost", 0.72))
    ]
    layout = {
        **base_layout(), **axes, "annotations": titles, "height": 44 + 30 * len(outcomes),
        "yaxis": {"fixedrange": True, "ticklen": 6}, "margin": {"l": 88, "r": 8, "t": 28, "b": 8},
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def _points(status: Status, entries: list[HistoryEntry], worst: float, sign: int) -> dict[str, Any]:
    values = [entry.experiment.judged_value for entry in entries]
    beyond = [value is not None and _is_beyond(value, worst, sign) for value in values]
    symbol = SYMBOLS[status]
    return {
        **_marked(status, entries),
        "y": [worst if out else value for value, out in zip(values, beyond, strict=True)],
        "marker": {
            "symbol": [("triangle-up-open" if sign > 0 else "triangle-down-open") if out else symbol for out in beyond],
            "size": SIZES.get(status, 8), "line": {"width": 1.6}, "opacity": 1,
        },
    }  # fmt: skip


def _strip(status: Status, entries: list[HistoryEntry]) -> dict[str, Any]:
    marker = {"symbol": SYMBOLS[status], "size": SIZES.get(status, 8), "line": {"width": 1.6}, "opacity": 1}
    return {**_marked(status, entries), "y": [0] * len(entries), "yaxis": "y2", "marker": marker}


def _marked(status: Status, entries: list[HistoryEntry]) -> dict[str, Any]:
    ids = [entry.experiment.id for entry in entries]
    return {
        "type": "scatter", "mode": "markers", "uid": status.value, "name": status.value,
        "x": [entry.rank for entry in entries], "customdata": ids,
        "hoverinfo": "none", "cliponaxis": False,
    }  # fmt: skip


def _steps(history: RunHistory) -> dict[str, Any]:
    after = [(entry.rank, entry.after) for entry in history.entries if entry.after is not None]
    corners = [next(group) for _, group in groupby(after, key=lambda pair: pair[1])] + after[-1:]
    return {
        "type": "scatter", "mode": "lines", "uid": "best", "name": "best so far", "hoverinfo": "skip",
        "x": [x for x, _ in corners], "y": [y for _, y in corners], "line": {"shape": "hv", "width": 2},
    }  # fmt: skip


def _band(history: RunHistory) -> list[dict[str, Any]]:
    """Draw the noise band of a single trial around the best."""
    if not history.seed_std:
        return []
    steps, width = _steps(history), STANDARD_ERRORS * history.seed_std
    shared = {**steps, "line": {"shape": "hv", "width": 0}, "name": "noise"}
    return [
        {**shared, "uid": "above", "y": [y + width for y in steps["y"]]},
        {**shared, "uid": "noise", "y": [y - width for y in steps["y"]], "fill": "tonexty"},
    ]


def _layout(low: float, high: float, history: RunHistory) -> dict[str, Any]:
    count = len(history.entries)
    in_order = all(entry.rank == entry.experiment.id for entry in history.entries)
    title = "experiment" if in_order else "experiments in the order they finished"
    strip = any(entry.experiment.judged_value is None for entry in history.entries)
    return {
        **base_layout(), "height": 440, "margin": {"l": 76, "r": 16, "t": 26, "b": 54},
        "hovermode": "closest", "hoverdistance": 24,
        "xaxis": {
            "title": {"text": title, "standoff": 8}, "zeroline": False, "showgrid": False,
            "anchor": "y2" if strip else "y",
            "range": [-max(0.5, count * 0.015), max(count - 0.5, 1) + count * 0.015],
            "tickformat": "d", "nticks": 12, **({"dtick": 1} if count <= FEW_TICKS else {}),
        },
        "yaxis": {
            "title": {"text": plain_name(history.scale), "standoff": 10},
            "zeroline": False,
            "domain": [0.15 if strip else 0, 1],
            "range": [low, high], "nticks": 7,
        },
        "yaxis2": {
            "domain": [0, 0.09], "range": [-1, 1], "tickvals": [0], "ticktext": ["no score"], "zeroline": False,
            "fixedrange": True, "showgrid": False,
        },
    }  # fmt: skip


def plain_name(name: str) -> str:
    """Return a name without anything that Plotly could take for mark-up."""
    return "".join(c for c in name if c.isalnum() or c in "_-., %/()")


def base_layout() -> dict[str, Any]:
    """Return a layout without colours of its own."""
    clear = "rgba(0,0,0,0)"
    return {
        "showlegend": False,
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"size": 13},
        "dragmode": "zoom",
    }
