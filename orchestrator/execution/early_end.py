"""When a training is ended before its time: it is lost, by its own words or because it does nothing. Pure: no clock.

What a script prints is its own word, so it may only cost the script its own trial. A script that prints no losses, or
prints them in a form that is not known here, is never ended by them.
"""

import re
from dataclasses import dataclass

LEAST_LOSSES = 3  # in a row that are no numbers
LEAST_SHARE = 0.1  # of the time budget that they must span: a loss that recovers is no reason
IDLE_S, IDLE_SHARE = 60.0, 0.2  # without output, and with hardly any processor time, the longer of both
IDLE_CPU_SHARE = 0.01  # of one processor
LINE_CHARS = 2000  # of a line are looked at

_LOSS = re.compile(
    r"(?:^|[^a-z])loss[\"']?\s*[:=]?\s*(?:tensor\()?"
    r"(?P<value>[-+]?(?:nan|inf(?:inity)?)(?![a-z])|[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)


def read_losses(line: str) -> list[float]:
    """Return the losses in a line that a script printed: `loss 3.41`, `train_loss: nan`, `"loss": Infinity`."""
    return [float(found["value"]) for found in _LOSS.finditer(line[:LINE_CHARS])]


@dataclass(slots=True, kw_only=True)
class TrainingWatch:
    """Judges a training while it runs; times are seconds on one monotonic clock."""

    time_budget_s: float
    sees_idle: bool  # processor time tells whether it works: not where a GPU does the work
    _lost_since: float | None = None
    _lost: int = 0
    _busy_at: float | None = None  # when it last printed something or used a processor
    _cpu_s: float = 0.0  # by then

    @property
    def last_loss_was_lost(self) -> bool:
        """Return whether the last loss that was printed is NaN or infinite."""
        return self._lost > 0

    def hear(self, line: str, now: float) -> str:
        """Return why the training is lost after this line, "" if it may go on."""
        self._busy_at = now
        losses = read_losses(line)
        if not losses:
            return ""
        if any(abs(loss) < float("inf") for loss in losses):  # false for NaN too
            self._lost_since, self._lost = None, 0
            return ""
        self._lost += 1
        self._lost_since = now if self._lost_since is None else self._lost_since
        lost_s = now - self._lost_since
        if self._lost < LEAST_LOSSES or lost_s < LEAST_SHARE * self.time_budget_s:
            return ""
        return f"its last {self._lost} printed losses, over {lost_s:.0f} s, were NaN or infinite"

    def look(self, cpu_s: float | None, now: float) -> str:
        """Return why the training is lost, by the processor time that it used so far; "" if it may go on."""
        if cpu_s is None or not self.sees_idle:
            return ""
        if self._busy_at is None or cpu_s - self._cpu_s > IDLE_CPU_SHARE * max(now - self._busy_at, 1.0):
            self._busy_at, self._cpu_s = now, cpu_s
            return ""
        idle_s = now - self._busy_at
        if idle_s < max(IDLE_S, IDLE_SHARE * self.time_budget_s):
            return ""
        return f"it printed nothing and used no processor for {idle_s:.0f} s"
