"""What became of an experiment, in a line for the prompt. Pure but for reading its folder."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.propose import prompt_text
from orchestrator.propose.diagnostics import read_diagnostics
from orchestrator.propose.history import subtract_parent
from orchestrator.types import Experiment, Status
from orchestrator.units import MIB

LINE_CHARS = 300
EFFECT_CHARS = 160
DIFF_CHARS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Tells what became of experiments; `seed_std` is the standard deviation of trials of one file, if known."""

    parents: Mapping[int, Experiment]
    seed_std: float | None

    def outcome(self, e: Experiment) -> str:
        """Return the score, the status, the idea, and what is known of how it came about."""
        status = "kept" if e.status is Status.KEEP else e.status
        return f"- {e.id}: {self.score(e)} {status}: {prompt_text.line(e.hypothesis, LINE_CHARS)}{self._more(e)}"

    def failure(self, e: Experiment) -> str:
        """Return the same with the reason."""
        lines = [text for text in e.message.splitlines() if text.strip()]
        why = f"{lines[0]} … {lines[-1]}" if len(lines) > 1 else "".join(lines)
        return f"{self.outcome(e)} ({prompt_text.line(why, LINE_CHARS)})"

    def owed(self, e: Experiment) -> str:
        """Return that an experiment was not judged."""
        return f"- {e.id}: not judged ({e.outcome}), it will run again: {prompt_text.line(e.hypothesis, LINE_CHARS)}"

    def remeasured(self, e: Experiment) -> str:
        """Return what a kept experiment scored when it only ran again."""
        return f"- {e.id}: experiment {e.remeasures_id} once more: {self.score(e)}"

    def score(self, e: Experiment) -> str:
        """Return a score; a mean over several trials with all of them."""
        if e.value is None:
            return "none"
        mean = f"{self._round(e.value)}{e.trust_suffix}"
        scores = ", ".join(map(self._round, e.scores))
        return mean if len(e.scores) == 1 else f"{mean} (mean of {len(e.scores)} trials: {scores})"

    def _more(self, e: Experiment) -> str:
        """Return the difference to its parent, what was expected, and what it printed about its training."""
        parts = [self._difference(e), read_diagnostics(e.folder / "trainer.log").line()]
        if e.peak_memory_bytes:
            parts.append(f"{e.peak_memory_bytes / MIB:,.0f} MB")
        if e.expected_effect:
            parts.append(f"expected: {prompt_text.line(e.expected_effect, EFFECT_CHARS)}")
        told = "; ".join(part for part in parts if part)
        return f" [{told}]" if told else ""

    def _difference(self, e: Experiment) -> str:
        loss = subtract_parent(e, self.parents)
        if loss is None:
            return f"parent {e.parent_id}" if e.parent_id is not None else ""
        error = ""
        if self.seed_std is not None and e.parent_id is not None:
            trials = len(self.parents[e.parent_id].scores)
            error = f" ± {self.seed_std * (1 / len(e.scores) + 1 / trials) ** 0.5:.2g}"
        return f"{self._round(loss, sign='+')}{error} against its parent {e.parent_id}"

    def _round(self, value: float, sign: str = "") -> str:
        """Return a number with the digits that mean something: two of the noise; six where that is not known."""
        digits = min(6, max(2, 1 - math.floor(math.log10(self.seed_std)))) if self.seed_std else 6
        return f"{value:{sign}.{digits}f}"


def tell_diff(e: Experiment) -> str:
    """Return what an experiment changed, bounded; "" where its folder was cleaned up."""
    try:
        with (e.folder / "patch.diff").open(encoding="utf-8", errors="replace") as file:
            text = file.read(4 * DIFF_CHARS)
    except OSError:
        return ""
    changed = "\n".join(line for line in text.splitlines() if not line.startswith(("--- ", "+++ ")))
    return f"Experiment {e.id}:\n{prompt_text.fenced(changed, DIFF_CHARS, 'diff')}" if changed else ""
