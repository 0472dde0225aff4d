"""Render a page: one HTML file that needs nothing else, with a policy that lets nothing run but our two scripts."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.look import figures
from orchestrator.look.details import json_block
from orchestrator.look.history import RunHistory
from orchestrator.look.lineage import trace_lineage
from orchestrator.look.summary import summarise
from orchestrator.text import sanitise

# Plotly adds a style sheet for maps unless an element with its id is present.
_OWN_SHEETS = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)')
# Bars, and 46 other kinds of plots that would take a second to start.
_KINDS = re.compile(r"\.register\(\[(\w+\(\))(?:,\w+\(\))+\]\)")
SHOWN = 600  # characters of a hypothesis or a reason in the table


def render_report(history: RunHistory, details: dict[int, str], shared: str, *, live: bool = False) -> Iterator[str]:
    """Yield the page in parts: that of a long run takes twenty megabytes.

    `details` are JSON by experiment, `shared` what they refer to, neither with a `<`.
    """
    plots = {"best": figures.draw_best_so_far(history), "outcomes": figures.draw_outcomes(history)}
    return (
        _environment()
        .get_template("report.html")
        .generate(
            history=history,
            live=live,
            summary=summarise(history),
            lineage=trace_lineage([entry.experiment for entry in history.kept]),
            rows=sorted(history.entries, key=lambda entry: entry.experiment.id),
            shown=SHOWN,
            **_head(_asset("report.js")),
            plots=Markup(json_block(plots)),  # noqa: S704  # escaped by json_block
            shared=Markup(shared),  # noqa: S704  # escaped by json_block
            details=details,
        )
    )


def render_comparison(tags: Sequence[str], panels: list[dict[str, Any]], notes: Sequence[str]) -> str:
    """Return a page of figures side by side, on a phone one below the other, under the same policy."""
    draw = "Plotly.newPlot(`panel${at}`, each.data, each.layout, {responsive: true, displayModeBar: false})"
    script = f"{json_block(panels)}.forEach((each, at) => {draw})"
    template = _environment().get_template("compare.html")
    return template.render(tags=tags, notes=notes, panels=len(panels), **_head(script))


def _head(script: str) -> dict[str, Any]:
    """Return what every page needs besides its text, and the policy that lets nothing else in; the script is ours."""
    style, plotly = _asset("report.css"), _plotly()
    return {
        "policy": _policy(style=style, scripts=(plotly, script)),
        "style": Markup(style),  # noqa: S704  # ours
        "script": Markup(script),  # noqa: S704  # ours; its data is escaped by json_block
        "present": _OWN_SHEETS.findall(plotly),
        "plotly": Markup(plotly),  # noqa: S704  # the installed package's
    }


def _policy(*, style: str, scripts: tuple[str, ...]) -> str:
    """Return the content policy: only what has these hashes runs or styles; nothing is fetched, sent or framed."""
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


def _signed(value: float | None, form: str = "+.4f") -> str:
    """Return a difference with a true minus sign; "" for None."""
    return "" if value is None else format(value, form).replace("-", "\N{MINUS SIGN}")


def _clock(seconds: float) -> str:
    """Format a duration: seconds, minutes or hours."""
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
    """Return Plotly's script as an HTML parser reads it, or its hash is wrong; unused kinds of plots are left out."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415  # slow to import, and only a page needs it

    script = str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")
    return _KINDS.sub(r".register([\1])", script)
