"""The page: one HTML file that needs nothing else, with a policy that lets nothing in it run but our two scripts."""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.look import figures
from orchestrator.look.details import as_block
from orchestrator.look.history import HistoryEntry, RunHistory
from orchestrator.look.lineage import lineage
from orchestrator.look.summary import summary
from orchestrator.text import sanitise

_OWN_SHEETS = re.compile(
    r'document\.getElementById\("([0-9a-f]{64})"\)'
)  # of maps: not brought where it is there already
_KINDS = re.compile(
    r"\.register\(\[(\w+\(\))(?:,\w+\(\))+\]\)"
)  # bars, and 46 others that would take a second to start
SHOWN = 600  # characters of a hypothesis or a rule in the table


def render(night: RunHistory, details: dict[int, str], shared: str, *, live: bool = False) -> str:
    """The whole page; `details` are JSON by experiment, `shared` is what they point at; neither has a `<` in it."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            night=night,
            live=live,
            summary=summary(night),
            lineage=lineage(night),
            rows=[_row(turn) for turn in sorted(night.turns, key=lambda turn: turn.experiment.id)],
            **_head(_asset("report.js")),
            plots=Markup(  # noqa: S704  # escaped by as_block
                as_block({"staircase": figures.draw_best_so_far(night), "outcomes": figures.outcomes(night)})
            ),
            shared=Markup(shared),  # noqa: S704  # escaped by as_block
            details={number: Markup(block) for number, block in details.items()},  # noqa: S704  # escaped by as_block
        )
    )


def comparison(tags: Sequence[str], figures: list[dict[str, Any]], notes: Sequence[str]) -> str:
    """A page of figures side by side, on a phone one below the other, in the same colours and under the same policy."""
    draw = "Plotly.newPlot(`panel${at}`, each.data, each.layout, {responsive: true, displayModeBar: false})"
    script = f"{as_block(figures)}.forEach((each, at) => {draw})"
    return (
        _environment()
        .get_template("compare.html")
        .render(
            tags=tags,
            notes=notes,
            panels=len(figures),
            **_head(script),
        )
    )


def _head(script: str) -> dict[str, Any]:
    """What every page is made of besides its text, and the policy that lets nothing else in; the script is ours."""
    style, plotly = _asset("report.css"), _plotly()
    return {
        "policy": _policy(style=style, scripts=(plotly, script)),
        "style": Markup(style),  # noqa: S704  # ours
        "script": Markup(script),  # noqa: S704  # ours; what it holds is escaped by as_block
        "held": _OWN_SHEETS.findall(plotly),
        "plotly": Markup(plotly),  # noqa: S704  # the installed package's
    }


def _policy(*, style: str, scripts: tuple[str, ...]) -> str:
    """What may run and style: what has these hashes. Nothing is fetched, sent, framed or opened."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_source, scripts))}",
            f"style-src {_source(style)} {_source('')}",  # Plotly fills an empty style sheet, rule by rule
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _row(turn: HistoryEntry) -> dict[str, Any]:
    e = turn.experiment
    return {
        "id": e.id,
        "status": e.status.value,
        "outcome": e.outcome,
        "val_bpb": e.judged_value,
        "delta": turn.delta,
        "level": e.level if e.is_judged else "",
        "duration_s": e.duration_s,
        "cost_usd": e.usage.cost_usd,
        "hypothesis": sanitise(e.hypothesis, SHOWN),
        "rule": sanitise(e.reason, SHOWN),
    }


def _signed(value: float | None, form: str = "+.4f") -> str:
    """A difference with a true minus sign; nothing where there is none."""
    return "" if value is None else format(value, form).replace("-", "\N{MINUS SIGN}")


def _clock(seconds: float) -> str:
    """A duration as one reads it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


FILTERS: dict[str, Callable[..., str]] = {"signed": _signed, "clock": _clock, "sanitise": sanitise}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestrator.look"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


@cache
def _asset(name: str) -> str:
    return (files("orchestrator.look") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Plotly's script as the parser of a page sees it, or its hash is wrong; kinds of plots not used here sleep."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415  # slow to import, and only a page needs it

    script = str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")
    return _KINDS.sub(r".register([\1])", script)
