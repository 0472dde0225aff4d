"""Where a run ends. Pure: what was spent against what is allowed."""

from orchestrator.settings import Limits
from orchestrator.text import counted
from orchestrator.types import Spent
from orchestrator.units import SECONDS_PER_HOUR


def reached(limits: Limits, spent: Spent, elapsed_s: float) -> str | None:
    """The first limit that is met, in words, or None. `elapsed_s` is this session's wall clock."""
    tokens = spent.usage.total_tokens
    if limits.experiments and spent.experiments >= limits.experiments:
        return f"{counted(spent.experiments, 'experiment')} done"
    if limits.hours and elapsed_s >= limits.hours * SECONDS_PER_HOUR:
        return f"{limits.hours:g} hours are over"
    if limits.max_usd and spent.usage.cost_usd >= limits.max_usd:
        return f"${spent.usage.cost_usd:.2f} spent"
    if limits.max_tokens and tokens >= limits.max_tokens:
        return f"{tokens} tokens used"
    return None


def minutes_left(limits: Limits, elapsed_s: float) -> float | None:
    """Return what is left of this session, None where it may take as long as it likes."""
    return max(0.0, limits.hours * 60 - elapsed_s / 60) if limits.hours else None


def gave_up(limits: Limits, spent: Spent) -> bool:
    """Whether the sandbox failed so often in a row that it is no accident."""
    return spent.consecutive_infra >= limits.consecutive_infra
