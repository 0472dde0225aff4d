"""The outcome of an experiment as one line of the prompt. Pure but for reading its folder."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.propose import prompt_text
from orchestrator.propose.diagnostics import read_diagnostics
from orchestrator.propose.history import difference_error, subtract_parent
from orchestrator.types import Experiment, Status
from orchestrator.units import MIB

LINE_CHARS = 300
EFFECT_CHARS = 160
DIFF_CHARS = 1500
NOTICEABLE_SHARE = 0.1  # of the leased processors, used by others
MOST_REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Describes outcomes; `trial_std` is the standard deviation of repeated trials of one file, if known."""

    parents: Mapping[int, Experiment]
    trial_std: float | None
    elsewhere: frozenset[int] = frozenset()  # experiments that are told in full in another list
    run: str = ""  # named with each experiment, where those of several runs are told

    def outcome(self, e: Experiment) -> str:
        """Return the score, the status, the idea, and details of the training."""
        status = "kept" if e.status is Status.KEEP else e.status
        name = f"{self.run}/{e.id}" if self.run else e.id
        return f"- {name}: {self.score(e)} {status}: {prompt_text.line(e.hypothesis, LINE_CHARS)}{self._more(e)}"

    def outcome_or_mention(self, e: Experiment) -> str:
        """Return the outcome, or only the status of an experiment that is told in full elsewhere in the prompt."""
        if e.id not in self.elsewhere:
            return self.outcome(e)
        return f"- {e.id}: {'kept' if e.status is Status.KEEP else e.status}, see above"

    def failure(self, e: Experiment) -> str:
        """Return the outcome with the reason of the failure."""
        lines = [text for text in e.message.splitlines() if text.strip()]
        why = f"{lines[0]} … {lines[-1]}" if len(lines) > 1 else "".join(lines)
        return f"{self.outcome(e)} ({prompt_text.line(why, LINE_CHARS)})"

    def owed(self, e: Experiment) -> str:
        """Return the line of an experiment that was not judged and is queued."""
        return f"- {e.id}: not judged ({e.outcome}), will be rerun: {prompt_text.line(e.hypothesis, LINE_CHARS)}"

    def remeasured(self, e: Experiment) -> str:
        """Return the line of a remeasurement of a kept experiment."""
        return f"- {e.id}: experiment {e.remeasures_id} remeasured: {self.score(e)}"

    def score(self, e: Experiment) -> str:
        """Return a score; for a mean over several trials, each of them too."""
        if e.value is None:
            return "none"
        mean = f"{self._round(e.value)}{e.trust_suffix}"
        scores = ", ".join(map(self._round, e.scores))
        return mean if len(e.scores) == 1 else f"{mean} (mean of {len(e.scores)} trials: {scores})"

    def _more(self, e: Experiment) -> str:
        """Return the difference to its parent, the expected effect, and what it printed about its training."""
        parts = [self._difference(e), _estimate(e)]
        parts.append(read_diagnostics(e.folder / "trainer.log").line())
        parts.append(_machine(e))
        if e.score and e.score.parts:
            parts.append(prompt_text.join_parts(e.score.parts))
        if e.score and e.score.reasons:
            reasons = "; ".join(prompt_text.line(reason, LINE_CHARS) for reason in e.score.reasons[:MOST_REASONS])
            parts.append(f"to improve: {reasons}")
        if e.peak_memory_bytes:
            parts.append(f"{e.peak_memory_bytes / MIB:,.0f} MB")
        if e.expected_effect:
            parts.append(f"expected: {prompt_text.line(e.expected_effect, EFFECT_CHARS)}")
        details = "; ".join(part for part in parts if part)
        return f" [{details}]" if details else ""

    def _difference(self, e: Experiment) -> str:
        loss = subtract_parent(e, self.parents)
        if loss is None:
            return f"parent {e.parent_id}" if e.parent_id is not None else ""
        error = difference_error(e, self.parents, self.trial_std)
        known = "" if error is None else f" ± {error:.2g}"
        parent = self.parents[e.parent_id] if e.parent_id is not None else None
        score = "" if parent is None or parent.value is None else f" ({self._round(parent.value)})"
        return f"{self._round(loss, sign='+')}{known} against its parent {e.parent_id}{score}"

    def _round(self, value: float, sign: str = "") -> str:
        """Format a number with the significant digits: two of the noise; six decimals if the noise is unknown."""
        digits = min(6, max(2, 1 - math.floor(math.log10(self.trial_std)))) if self.trial_std else 6
        return f"{value:{sign}.{digits}f}"


def _estimate(e: Experiment) -> str:
    """Return its estimated gain over the best of its time, with the probability that it is one."""
    if e.sure is None:
        return ""
    return f"{'a gain' if e.gain is None else f'estimated gain {e.gain:.2g}'} with probability {e.sure:.2f}"


def _machine(e: Experiment) -> str:
    """Return how busy the machine was during the first trial, where others used a noticeable share of it."""
    load = e.loads[0] if e.loads else None
    if load is None or load.others_share is None or load.others_share < NOTICEABLE_SHARE:
        return ""
    waited = "" if load.wait_share is None else f", waited {load.wait_share:.0%} of its time for a processor"
    return f"others used {load.others_share:.0%} of the processors{waited}"


def tell_diff(e: Experiment) -> str:
    """Return an experiment's diff, bounded; "" if its folder was removed."""
    try:
        with (e.folder / "patch.diff").open(encoding="utf-8", errors="replace") as file:
            text = file.read(4 * DIFF_CHARS)
    except OSError:
        return ""
    changed = "\n".join(line for line in text.splitlines() if not line.startswith(("--- ", "+++ ")))
    return f"Experiment {e.id}:\n{prompt_text.fence(changed, DIFF_CHARS, 'diff')}" if changed else ""
