"""The constants of a train.py that a sweep can change: found by syntax, changed by edits. Pure.

A tunable is an UPPER_CASE name with a number or bool as its literal value, assigned once at top level or in the branch
of `if prepare.PROFILE == "cpu":` that this profile takes.
"""

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from optuna import distributions as od

from orchestrator.patch import as_shown
from orchestrator.types import Edit

SPAN = 4.0  # the search range is from a quarter of the value to four times the value
DIGITS = 3  # significant ones: more is noise, and reads badly
SMALL_INT = 16  # from here on a power of two stays one
ZERO_CHOICES = (0.0, 0.003, 0.01, 0.03, 0.1)
UNTOUCHED = ("SEED", "_SECONDS")  # a lucky seed is not a finding, and reserves of time are deliberate

Value = bool | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunable:
    """One constant and its location: a line (from 1) and a range of bytes in it."""

    name: str
    value: Value
    line: int
    start: int
    end: int

    def distribution(self, span: float = SPAN) -> od.BaseDistribution:
        """Return the distribution that Optuna draws from; `to_value` converts a draw to a value."""
        value = self.value
        if isinstance(value, bool):
            return od.CategoricalDistribution((False, True))
        if value == 0:
            return od.CategoricalDistribution(ZERO_CHOICES)
        if self._is_share():
            rest = 1 - value
            return od.FloatDistribution(rest / span, min(rest * span, 0.95), log=True)
        if isinstance(value, float):
            return od.FloatDistribution(value / span, value * span, log=True)
        if self._is_power():
            steps = round(math.log2(span))
            return od.IntDistribution(value.bit_length() - 1 - steps, value.bit_length() - 1 + steps)
        step = self._step()
        return od.IntDistribution(max(1, math.ceil(value / span / step)), max(2, math.floor(value * span / step)))

    def to_value(self, drawn: Value) -> Value:
        """Convert a draw to the constant's new value."""
        if isinstance(self.value, bool) or self.value == 0:
            return drawn
        if isinstance(self.value, float):
            return float(f"{1 - drawn if self._is_share() else drawn:.{DIGITS}g}")
        return 2 ** int(drawn) if self._is_power() else int(drawn) * self._step()

    def from_value(self, value: Value) -> Value:
        """Convert a value to the draw that gives it."""
        if isinstance(self.value, bool) or self.value == 0:
            return value
        if isinstance(self.value, float):
            return 1 - value if self._is_share() else float(value)
        if self._is_power():
            return max(1, int(value)).bit_length() - 1
        return round(value / self._step())

    def _is_share(self) -> bool:
        """Return True for a fraction like 0.95, whose distance from 1 is what matters."""
        return isinstance(self.value, float) and 0.5 <= self.value < 1  # noqa: PLR2004

    def _is_power(self) -> bool:
        return self.value >= SMALL_INT and int(self.value).bit_count() == 1

    def _step(self) -> int:
        """Return the step: the largest power of two in a large integer, so that dimensions still divide each other."""
        value = int(self.value)
        return value & -value if value >= SMALL_INT else 1


def find_tunables(source: str, profile: str) -> dict[str, Tunable]:
    """Return the tunables of a file that parses, by name; a name assigned more than once does not count."""
    found: dict[str, Tunable] = {}
    seen: set[str] = set()
    for name, node in _assignments(ast.parse(as_shown(source)).body, profile):
        if name in seen:
            found.pop(name, None)
        elif (knob := _knob(name, node)) is not None:
            found[name] = knob
        seen.add(name)
    return found


def _assignments(body: list[ast.stmt], profile: str) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value
        elif isinstance(node, ast.If) and (taken := _taken(node, profile)) is not None:
            yield from _assignments(taken, profile)


def _taken(node: ast.If, profile: str) -> list[ast.stmt] | None:
    """Return the branch that the profile takes; None if the condition does not test the profile."""
    match node.test:
        case ast.Compare(
            left=ast.Attribute(attr="PROFILE") | ast.Name(id="PROFILE"),
            ops=[ast.Eq()],
            comparators=[ast.Constant(value=str(wanted))],
        ):
            return node.body if wanted == profile else node.orelse
    return None


def _knob(name: str, node: ast.expr) -> Tunable | None:
    value = node.value if isinstance(node, ast.Constant) else None
    if not isinstance(value, bool | int | float) or not name.isupper() or name.endswith(UNTOUCHED):
        return None
    usable = (
        isinstance(value, bool) or (value > 0 and math.isfinite(value)) or (isinstance(value, float) and value == 0)
    )
    if not usable or node.end_lineno != node.lineno or node.end_col_offset is None:
        return None
    return Tunable(name=name, value=value, line=node.lineno, start=node.col_offset, end=node.end_col_offset)


def edits_for(source: str, knobs: Mapping[str, Tunable], values: Mapping[str, Value]) -> tuple[Edit, ...]:
    """Return edits that set the constants to new values: whole lines, as many as needed to be unique."""
    old = source.split("\n")
    new = list(old)
    for name, value in values.items():
        knob = knobs[name]
        line = new[knob.line - 1].encode()
        new[knob.line - 1] = (line[: knob.start] + repr(value).encode() + line[knob.end :]).decode()
    spans: list[list[int]] = []
    for at in sorted({knobs[name].line - 1 for name in values}):
        first, last = _unique(source, old, at)
        if spans and first <= spans[-1][1]:
            spans[-1][1] = max(last, spans[-1][1])
        else:
            spans.append([first, last])
    return tuple(
        Edit(search="\n".join(old[first : last + 1]), replace="\n".join(new[first : last + 1])) for first, last in spans
    )


def _unique(source: str, lines: list[str], at: int) -> tuple[int, int]:
    """Return the smallest range of lines around `at` whose text occurs only once in the source."""
    first = last = at
    while source.count("\n".join(lines[first : last + 1])) > 1:
        grow_down = last + 1 < len(lines) and (last - at <= at - first or first == 0)
        first, last = (first, last + 1) if grow_down else (first - 1, last)
    return first, last
