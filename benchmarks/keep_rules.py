"""Which rule of keeping makes most of a night? Thousands of simulated nights; no GPU, no container.

    .venv/bin/python -m benchmarks.keep_rules [NIGHTS]

A night is 100 trials. An idea changes nothing (15 %), is worse (exponential, on average by 2 units), or better (with
probability p, exponential, on average by g units); a unit is the standard deviation of one trial. The machine's drift
is drawn in blocks from recorded traces (noise_trace.json), or is that of a GPU. Three rules: `lowest` keeps what is
below the lowest score, as upstream does; `gate` is the rule of this project until November 2026 (a spread from three
baseline runs, gains within it run twice more); `ours` is orchestrator.estimates, orchestrator.policy and
orchestrator.duels themselves, claims included, in the same 100 trials.

Per scenario: the true gain of the last champion by each rule, and ours over the better of the others; for ours the
changes in the champion, those that the views call in doubt, those that are worse than what they replaced, in all and
without a mark; the share of nights whose headline interval holds the truth; the share of trials spent on repeats and on
claims.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator import duels, estimates, policy
from orchestrator.estimates import CHALLENGER, KEPT_SLOTS, Array, Mask

TRACES = json.loads(Path(__file__).with_name("noise_trace.json").read_text(encoding="utf-8"))
TRIALS = 100
BLOCK = 5  # trials of a trace in a row
NULL_SHARE, WORSE_BY = 0.15, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A machine and a stream of ideas."""

    name: str
    machine: str  # a trace, or gpu
    better: float  # the share of ideas
    by: float  # units, on average
    sees_others: bool = True
    base: float = 2.0  # the baseline's score, by which the first guess of the noise goes
    fades: bool = False  # gains halve over the night
    nulls: bool = False  # no idea changes anything


SIZES = ((0.3, 1.0), (0.15, 1.0), (0.15, 0.4), (0.05, 1.0))
SCENARIOS = (
    *(Scenario(name=name, machine=name, better=p, by=g) for name in ("busy", "quiet", "gpu") for p, g in SIZES),
    Scenario(name="busy, blind", machine="busy", better=0.15, by=1.0, sees_others=False),
    Scenario(name="gpu, fading", machine="gpu", better=0.3, by=1.0, fades=True),
    Scenario(name="gpu, prior /50", machine="gpu", better=0.15, by=1.0, base=0.008),
    Scenario(name="gpu, prior x50", machine="gpu", better=0.15, by=1.0, base=20.0),
    Scenario(name="busy, nothing helps", machine="busy", better=0.0, by=1.0, nulls=True),
    Scenario(name="gpu, nothing helps", machine="gpu", better=0.0, by=1.0, nulls=True),
)


class Machines:
    """Many machines that drift, each with its own night; a trial costs one of its trials."""

    def __init__(self, scenario: Scenario, nights: int, rng: np.random.Generator) -> None:
        """Start each night somewhere in the drift."""
        self.scenario, self.rng, self.nights = scenario, rng, nights
        self.spent = np.zeros(nights, dtype=np.int64)
        trace = TRACES.get(scenario.machine)
        if trace is None:
            self.seed_sd, self.drift_sd, self.rho = 0.0012, 0.0008, 0.95
            self.drift = rng.normal(0, self.drift_sd, nights)
            self.unit = math.hypot(self.seed_sd, self.drift_sd)
        else:
            self.trace = np.array([[row["others"], row["cost"], row["rest"]] for row in trace])
            self.at = rng.integers(len(trace), size=nights)
            self.unit = float(np.std(self.trace[:, 1] + self.trace[:, 2], ddof=1))
        self.drawn = 0

    def trial(self, truth: Array, where: Mask) -> tuple[Array, Array]:
        """Return the scores of one trial of each truth, and the share that others took."""
        self.spent += where
        if self.scenario.machine == "gpu":
            moved = self.rho * self.drift + self.rng.normal(0, math.sqrt(1 - self.rho**2) * self.drift_sd, self.nights)
            self.drift = np.where(where, moved, self.drift)
            return truth + self.drift + self.rng.normal(0, self.seed_sd, self.nights), np.zeros(self.nights)
        jump = self.rng.random(self.nights) < 1 / BLOCK
        fresh = self.rng.integers(len(self.trace), size=self.nights)
        self.at = np.where(where, np.where(jump, fresh, (self.at + 1) % len(self.trace)), self.at)
        others, cost, rest = self.trace[self.at].T
        return truth + cost + rest, others if self.scenario.sees_others else np.zeros(self.nights)

    def ideas(self) -> Array:
        """Return the true gain of an idea for each night."""
        scenario, u = self.scenario, self.rng.random(self.nights)
        if scenario.nulls:
            return np.zeros(self.nights)
        better = self.rng.exponential(scenario.by, self.nights)
        if scenario.fades:
            better *= 2.0 ** (-2 * self.spent / TRIALS)
        worse = -self.rng.exponential(WORSE_BY, self.nights)
        gain = np.where(u < NULL_SHARE, 0.0, np.where(u < 1 - scenario.better, worse, better))
        return gain * self.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """What a rule made of the nights; arrays of (nights,)."""

    gain: Array  # of the champion, true, in units
    harmful: Array  # changes in it that are worse than what they replaced
    unmarked: Array  # of those, the ones that no view calls in doubt
    keeps: Array  # changes in it
    marked: Array  # of those, the ones in doubt
    repeats: Array
    claims: Array  # trials
    covered: Array  # 1 if the headline's interval contains the truth, 0 if not, NaN without an interval
    claimed: Array  # 1: a gain is claimed


def plain(gain: Array, harmful: Array) -> Nights:
    """Return nights of a rule without claims."""
    zero = np.zeros(len(gain))
    return Nights(
        gain=gain, harmful=harmful, unmarked=harmful, keeps=zero, marked=zero, repeats=zero, claims=zero,
        covered=np.full(len(gain), np.nan), claimed=zero,
    )  # fmt: skip


def lowest(scenario: Scenario, nights: int, rng: np.random.Generator) -> Nights:
    """Keep what is below the lowest score so far."""
    machines, everywhere = Machines(scenario, nights, rng), np.ones(nights, dtype=bool)
    truth = np.full(nights, scenario.base)
    best, _ = machines.trial(truth, everywhere)
    harmful = np.zeros(nights)
    for _ in range(TRIALS - 1):
        gain = machines.ideas()
        score, _ = machines.trial(truth - gain, everywhere)
        kept = score < best
        best, truth = np.where(kept, score, best), np.where(kept, truth - gain, truth)
        harmful += kept & (gain < 0)
    return plain((scenario.base - truth) / machines.unit, harmful)


def gate(scenario: Scenario, nights: int, rng: np.random.Generator) -> Nights:
    """Keep what is better by more than twice a spread, or in two more trials too."""
    machines, on = Machines(scenario, nights, rng), np.ones(nights, dtype=bool)
    truth, harmful = np.full(nights, scenario.base), np.zeros(nights)
    first = np.array([machines.trial(truth, on)[0] for _ in range(3)])
    best, spread, count = first.mean(axis=0), first.std(axis=0, ddof=1), np.full(nights, 3.0)
    while (on := machines.spent < TRIALS).any():
        gain = machines.ideas()
        score, _ = machines.trial(truth - gain, on)
        sure = on & (best - score > 2 * spread * np.sqrt(1 + 1 / count))
        perhaps = on & (score < best) & ~sure
        second, third = (machines.trial(truth - gain, perhaps)[0] for _ in range(2))
        mean = (score + second + third) / 3
        again = perhaps & ((second + third) / 2 < best) & (mean < best)
        kept = sure | again
        best = np.where(sure, score, np.where(again, mean, best))
        count = np.where(sure, 1.0, np.where(again, 3.0, count))
        truth = np.where(kept, truth - gain, truth)
        harmful += kept & (gain < 0)
    return plain((scenario.base - truth) / machines.unit, harmful)


class Line:
    """The changes that led to each kept source: a table of (nights, slots, changes)."""

    def __init__(self, nights: int) -> None:
        """Begin with the baseline in slot 0."""
        shape = nights, KEPT_SLOTS, TRIALS
        self.true, self.mean, self.sd = np.zeros(shape), np.zeros(shape), np.ones(shape)
        self.length = np.zeros((nights, KEPT_SLOTS), dtype=np.int64)

    def grow(self, night: int, parent: int, slot: int, change: tuple[float, float, float]) -> None:
        """Put a child of a source into a slot: its true gain, and the estimate of it."""
        for table, value in zip((self.true, self.mean, self.sd), change, strict=True):
            table[night, slot] = table[night, parent]
            table[night, slot, self.length[night, parent]] = value
        self.length[night, slot] = self.length[night, parent] + 1


def ours(scenario: Scenario, nights: int, rng: np.random.Generator) -> Nights:
    """Steer by estimates, claim by duels."""
    machines, run = Machines(scenario, nights, rng), np.arange(nights)
    everywhere, challenger = np.ones(nights, dtype=bool), np.full(nights, CHALLENGER)
    truth = np.full((nights, KEPT_SLOTS), scenario.base)
    used, ages = np.zeros((nights, KEPT_SLOTS), dtype=bool), np.zeros((nights, KEPT_SLOTS), dtype=np.int64)
    used[:, 0] = True
    champion, line = np.zeros(nights, dtype=np.int64), Line(nights)
    score, others = machines.trial(truth[:, 0], everywhere)
    beliefs = estimates.begin(score, others)
    gain, trials = np.zeros(nights), np.zeros(nights, dtype=np.int64)
    is_new, repeats = everywhere.copy(), np.zeros(nights)
    reserve = int(TRIALS * duels.CLAIM_SHARE)
    while (on := machines.spent < TRIALS - reserve).any():
        gain = np.where(on & is_new, machines.ideas(), gain)
        beliefs = estimates.branch(beliefs, champion, on & is_new)
        trials = np.where(is_new, 1, trials + 1)
        base = truth[run, champion]
        score, others = machines.trial(base - gain, on)
        beliefs, broken = estimates.observe(beliefs, challenger, score, others, on)
        found = estimates.compare(beliefs, champion, challenger)
        again = (
            on & ~broken & policy.is_worth_repeating(found.worth, estimates.worth_of_idea(beliefs, champion), trials)
        )
        kept = on & ~broken & ~again & policy.is_better(found.probability)
        slot, best = np.zeros(nights, dtype=np.int64), _best(beliefs, used)
        for night in np.flatnonzero(kept):
            known = int(used[night].sum())
            place = estimates.free_slot(tuple(ages[night, :known].tolist()), int(best[night]))
            line.grow(int(night), int(champion[night]), place, (gain[night], found.mean[night], found.sd[night]))
            used[night, place], ages[night, place], slot[night] = True, ages[night].max() + 1, place
            truth[night, place] = base[night] - gain[night]
        beliefs = estimates.settle(beliefs, slot, kept)
        champion = np.where(on & ~again, _best(beliefs, used), champion)
        is_new, repeats = np.where(on, ~again, is_new), repeats + again
    return claim(machines, truth[run, champion], line, champion, repeats)


def _best(beliefs: estimates.Beliefs, used: Mask) -> estimates.Slots:
    best: estimates.Slots = np.where(used, beliefs.levels[:, :KEPT_SLOTS], np.inf).argmin(axis=1)
    return best


def claim(machines: Machines, truth: Array, line: Line, champion: estimates.Slots, repeats: Array) -> Nights:
    """Duel the champion against the baseline, then the doubtful changes, and judge what is left."""
    nights, base, run = machines.nights, machines.scenario.base, np.arange(machines.nights)
    before = machines.spent.copy()
    most = int(TRIALS * duels.CLAIM_SHARE / 2)
    open_, differences = line.length[run, champion] > 0, [list[float]() for _ in range(nights)]
    covered, claimed = np.full(nights, np.nan), np.zeros(nights)
    for _ in range(most):
        if not open_.any():
            break
        turn = machines.rng.random(nights) < 0.5
        first, _ = machines.trial(np.where(turn, truth, base), open_)
        second, _ = machines.trial(np.where(turn, base, truth), open_)
        difference = np.where(turn, second - first, first - second)
        for night in np.flatnonzero(open_):
            differences[night].append(float(difference[night]))
            if (found := duels.conclude(differences[night], most)) is not None:
                open_[night] = False
                covered[night] = found.low <= base - truth[night] <= found.high
                claimed[night] = found.is_shown
    length = line.length[run, champion]
    is_change = np.arange(TRIALS) < length[:, None]
    true, mean, sd = (table[run, champion] for table in (line.true, line.mean, line.sd))
    doubtful = is_change & ~policy.is_sure(estimates.normal_cdf(mean / np.maximum(sd, 1e-12)))
    harmful = is_change & (true < 0)
    return Nights(
        gain=(base - truth) / machines.unit, harmful=harmful.sum(axis=1).astype(float),
        unmarked=(harmful & ~doubtful).sum(axis=1).astype(float), keeps=length.astype(float),
        marked=doubtful.sum(axis=1).astype(float), repeats=repeats,
        claims=(machines.spent - before).astype(float), covered=covered, claimed=claimed,
    )  # fmt: skip


RULES: dict[str, Callable[[Scenario, int, np.random.Generator], Nights]] = {
    "lowest": lowest, "gate": gate, "ours": ours,
}  # fmt: skip


COLUMNS = (
    "lowest", "gate", "ours", "ratio", "changes", "doubtful", "harmful", "unmarked", "covered", "claimed", "repeats",
    "claims",
)  # fmt: skip


def measure(scenario: Scenario, nights: int, seed: int = 1) -> tuple[dict[str, float], Array]:
    """Return the figures of a scenario, and for each headline whether its interval holds the truth."""
    found = {name: rule(scenario, nights, np.random.default_rng(seed)) for name, rule in RULES.items()}
    mine, other = found["ours"], max(found["lowest"].gain.mean(), found["gate"].gain.mean())
    headlines = mine.covered[~np.isnan(mine.covered)]
    values = (
        found["lowest"].gain.mean(), found["gate"].gain.mean(), mine.gain.mean(),
        math.nan if scenario.nulls else mine.gain.mean() / other, mine.keeps.mean(), mine.marked.mean(),
        mine.harmful.mean(), mine.unmarked.mean(), headlines.mean() if len(headlines) else math.nan,
        mine.claimed.mean(), mine.repeats.mean() / TRIALS, mine.claims.mean() / TRIALS,
    )  # fmt: skip
    return dict(zip(COLUMNS, map(float, values), strict=True)), headlines


def run(nights: int, scenarios: tuple[Scenario, ...] = SCENARIOS) -> str:
    """Print a line per scenario, and return the last one."""
    print(f"{'machine':20}{'better':>7}{'by':>5}" + "".join(f"{name:>9}" for name in COLUMNS))
    rows, intervals = [], []
    for scenario in scenarios:
        figures, headlines = measure(scenario, nights)
        cells = "".join(f"{value:9.2f}" for value in figures.values())
        print(f"{scenario.name:20}{scenario.better:7.2f}{scenario.by:5.1f}{cells}", flush=True)
        rows.append(figures)
        intervals.append(headlines)
    ratio, harmful = np.nanmin([row["ratio"] for row in rows]), max(row["unmarked"] for row in rows)
    coverage = np.concatenate(intervals).mean()
    return f"keep-rules: worst ratio {ratio:.2f}, harmful {harmful:.1f} a night, coverage {coverage:.0%}"


if __name__ == "__main__":
    print(run(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
