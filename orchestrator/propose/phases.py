"""Which kind of idea to request, and from which proposer: rules by the progress of a run. Pure.

Setting several constants at once is the fastest start that has been measured for LLMs; code changes overtake it later;
a sampler of constants next to the LLM makes the best hybrid. Small steps stop helping eventually: then another parent,
or another kind of idea, is worth more than one more of the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CONSTANTS_FIRST = 8  # ideas of the LLM after the baseline that should set several constants at once
STRUCTURE_EVERY = 3  # of the later ideas, one has to change the structure
KINDS = (
    "Propose a different kind of idea from those listed: change the architecture rather than a number.",
    "Propose a different kind of idea from those listed: change how the data is ordered, batched or repeated.",
    "Propose a different kind of idea from those listed: remove something, and use the time saved for more steps.",
    "Propose a different kind of idea from those listed: change the optimiser, its schedule, or weight averaging.",
    "Combine two near misses that change different lines, and say why their gains should add up.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What the next proposal should be."""

    request: str = ""  # in words; "" for none
    parent_id: int | None = None  # an earlier kept experiment that is offered to start from


def next_phase(
    *,
    ideas: int,
    since_improvement: int,
    stagnation_after: int,
    constants_first: int = CONSTANTS_FIRST,
    earlier_kept: Sequence[int] = (),
) -> Phase:
    """Return the phase of the next idea.

    `ideas` were judged so far, `since_improvement` of them since the last one was kept; `earlier_kept` are the ids of
    kept experiments besides the best, oldest first.
    """
    if since_improvement >= stagnation_after:
        return _plateau(since_improvement, stagnation_after, earlier_kept)
    if ideas < constants_first:
        return Phase(
            request="It is early: set several constants at once (learning rates, batch size, width, depth, schedule) to"
            " values that suit this budget, rather than only one of them or new code."
        )
    if ideas % STRUCTURE_EVERY == 0:
        return Phase(
            request="This proposal should change the structure of the model, the optimiser or the data pipeline."
        )
    return Phase()


def _plateau(since: int, stagnation_after: int, earlier_kept: Sequence[int]) -> Phase:
    """Request another kind of idea, and every second time offer another parent."""
    i = since - stagnation_after
    request = f"The last {since} experiments brought no improvement. {KINDS[i % len(KINDS)]}"
    if i % 2 == 0 or not earlier_kept:
        return Phase(request=request)
    return Phase(request=request, parent_id=earlier_kept[-1 - (i // 2) % len(earlier_kept)])


def is_llms_turn(ideas: int, share: float) -> bool:
    """Return True if the LLM proposes the next idea of a mix: its share, evenly spread, beginning with the first."""
    return int((ideas + 1) * share + 1e-9) > int(ideas * share + 1e-9) if ideas else share > 0
