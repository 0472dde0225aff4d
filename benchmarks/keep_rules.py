"""Which rule of keeping makes most of a night? Thousands of simulated nights; no GPU, no container.

    .venv/bin/python -m benchmarks.keep_rules [NIGHTS]

A night is 100 trials. An idea changes nothing (mostly 15 %), is worse (exponential, on average by 2 units), or better
(with probability p, exponential, on average by g units); a unit is the standard deviation of one trial. The machine's
drift is drawn in blocks from recorded traces (noise_trace.json), or is that of a GPU. Three rules: `lowest` keeps what
is below the lowest score, as upstream does; `gate` is the rule of this project until November 2026 (a spread from three
baseline runs, gains within it run twice more); `ours` is orchestrator.estimates, orchestrator.policy and
orchestrator.duels themselves, claims included, in the same 100 trials. Two more know what no rule can: `oracle` each
idea's true gain at once; `informed` the champion's level, the drift (not where it is `blind`), and the best bar for
what is left. Ideas and noise are the same for every rule of a scenario.

Per scenario: the true gain of the last champion by the three rules, then ours, `informed` and `oracle` over the better
of `lowest` and `gate`; for ours the changes in the champion, those that the views call in doubt, those that are worse
than what they replaced, in all and without a mark; the share of nights whose headline interval holds the truth; the
share of trials spent on repeats and on claims.
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
WORSE_BY = 2.0  # units, on average
SEED_SD, DRIFT_SD, DRIFT_RHO = 0.0012, 0.0008, 0.95  # of a GPU
OVERTIME = 3  # trials that a rule may begin in the last one


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
    unchanged: float = 0.15  # the share of ideas that change nothing
    heavy: bool = False  # gains have a heavy tail: most are tiny, few are large


SIZES = ((0.3, 1.0), (0.15, 1.0), (0.15, 0.4), (0.05, 1.0))
SCENARIOS = (
    *(Scenario(name=name, machine=name, better=p, by=g) for name in ("busy", "quiet", "gpu") for p, g in SIZES),
    Scenario(name="busy, blind", machine="busy", better=0.15, by=1.0, sees_others=False),
    Scenario(name="gpu, fading", machine="gpu", better=0.3, by=1.0, fades=True),
    Scenario(name="gpu, prior /50", machine="gpu", better=0.15, by=1.0, base=0.008),
    Scenario(name="gpu, prior x50", machine="gpu", better=0.15, by=1.0, base=20.0),
    Scenario(name="gpu, heavy tail", machine="gpu", better=0.15, by=1.0, heavy=True),
    Scenario(name="quiet, half nothing", machine="quiet", better=0.15, by=1.0, unchanged=0.5),
    Scenario(name="busy, nothing helps", machine="busy", better=0.0, by=1.0, unchanged=1.0),
    Scenario(name="gpu, nothing helps", machine="gpu", better=0.0, by=1.0, unchanged=1.0),
)


class Machines:
    """Many machines that drift, each with its own night; a trial costs one of its trials.

    What a trial adds to the truth, and the idea that may be tried in it, are drawn beforehand: the same for every rule.
    """

    def __init__(self, scenario: Scenario, nights: int, rng: np.random.Generator) -> None:
        """Draw the nights; each starts somewhere in the drift."""
        self.scenario, self.rng, self.nights = scenario, rng, nights
        self.spent, self.run = np.zeros(nights, dtype=np.int64), np.arange(nights)
        trace, size = TRACES.get(scenario.machine), (nights, TRIALS + OVERTIME)
        if trace is None:
            drift, self.noise = _walk(rng, size), rng.normal(0, SEED_SD, size)
            self.others, self.unit = np.zeros(size), math.hypot(SEED_SD, DRIFT_SD)
        else:
            columns = np.array([[row["others"], row["cost"], row["rest"]] for row in trace])
            self.others, drift, self.noise = np.moveaxis(columns[_resample(rng, len(trace), size)], 2, 0)
            self.unit = float(np.std(columns[:, 1] + columns[:, 2], ddof=1))
        self.scores = drift + self.noise
        if not scenario.sees_others:
            self.others, self.noise = np.zeros(size), self.scores
        self.gains = self._draw_ideas(size)

    def trial(self, truth: Array, where: Mask) -> tuple[Array, Array]:
        """Return the scores of one trial of each truth, and the share that others took."""
        at = self.spent.copy()
        self.spent += where
        return truth + self.scores[self.run, at], self.others[self.run, at]

    def ideas(self) -> Array:
        """Return the true gain of the idea for each night's next trial."""
        ideas: Array = self.gains[self.run, self.spent]
        return ideas

    def _draw_ideas(self, size: tuple[int, int]) -> Array:
        scenario, u = self.scenario, self.rng.random(size)
        better = self.rng.exponential(scenario.by, size)
        if scenario.heavy:
            better *= better / (2 * scenario.by)
        if scenario.fades:
            better *= 2.0 ** (-2 * np.arange(size[1]) / TRIALS)
        worse = -self.rng.exponential(WORSE_BY, size)
        gain = np.where(u < scenario.unchanged, 0.0, np.where(u < 1 - scenario.better, worse, better))
        return gain * self.unit


def _walk(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Return drifts that return to their mean: the steps of each night, one after the other."""
    drift = rng.normal(0, DRIFT_SD, size)
    for step in range(1, size[1]):
        drift[:, step] = DRIFT_RHO * drift[:, step - 1] + math.sqrt(1 - DRIFT_RHO**2) * drift[:, step]
    return drift


def _resample(rng: np.random.Generator, length: int, size: tuple[int, int]) -> estimates.Slots:
    """Return places in a trace, in blocks of BLOCK on average."""
    at, jumps = rng.integers(length, size=size), rng.random(size) < 1 / BLOCK
    for step in range(1, size[1]):
        at[:, step] = np.where(jumps[:, step], at[:, step], (at[:, step - 1] + 1) % length)
    return at


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


def oracle(scenario: Scenario, nights: int, rng: np.random.Generator) -> Nights:
    """Know the true gain of each idea at once, and keep every better one: no rule can gain more."""
    machines = Machines(scenario, nights, rng)
    return plain(np.maximum(machines.gains[:, 1:TRIALS], 0).sum(axis=1) / machines.unit, np.zeros(nights))


def informed(scenario: Scenario, nights: int, rng: np.random.Generator) -> Nights:
    """Know the champion's level, what drift can be seen and the best bar for these ideas, each tried once."""
    machines = Machines(scenario, nights, rng)
    gains, seen = (table[:, 1:TRIALS] for table in (machines.gains, machines.gains - machines.noise))
    order = seen.argsort(axis=None)[::-1]
    kept = seen >= seen.flat[order[gains.flat[order].cumsum().argmax()]]
    harmful = (kept & (gains < 0)).sum(axis=1).astype(float)
    return plain((gains * kept).sum(axis=1) / machines.unit, harmful)


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
    "lowest": lowest, "gate": gate, "ours": ours, "informed": informed, "oracle": oracle,
}  # fmt: skip


COLUMNS = (
    "lowest", "gate", "ours", "ratio", "informed", "oracle", "changes", "doubtful", "harmful", "unmarked", "covered",
    "claimed", "repeats", "claims",
)  # fmt: skip


def measure(scenario: Scenario, nights: int, seed: int = 1) -> tuple[dict[str, float], Array]:
    """Return the figures of a scenario, and for each headline whether its interval holds the truth."""
    found = {name: rule(scenario, nights, np.random.default_rng(seed)) for name, rule in RULES.items()}
    mine, gains = found["ours"], {name: float(night.gain.mean()) for name, night in found.items()}
    other = math.nan if scenario.better == 0 else max(gains["lowest"], gains["gate"])
    headlines = mine.covered[~np.isnan(mine.covered)]
    values = (
        gains["lowest"], gains["gate"], gains["ours"], gains["ours"] / other, gains["informed"] / other,
        gains["oracle"] / other, mine.keeps.mean(), mine.marked.mean(), mine.harmful.mean(), mine.unmarked.mean(),
        headlines.mean() if len(headlines) else math.nan, mine.claimed.mean(), mine.repeats.mean() / TRIALS,
        mine.claims.mean() / TRIALS,
    )  # fmt: skip
    return dict(zip(COLUMNS, map(float, values), strict=True)), headlines


def run(nights: int, scenarios: tuple[Scenario, ...] = SCENARIOS) -> str:
    """Print a line per scenario, and return the last one."""
    print(f"{'machine':20}{'better':>7}{'by':>5}" + "".join(f"{name:>9}" for name in COLUMNS))
    rows, intervals = [], []
    for seed, scenario in enumerate(scenarios, 1):
        figures, headlines = measure(scenario, nights, seed)
        cells = "".join(f"{value:9.2f}" for value in figures.values())
        print(f"{scenario.name:20}{scenario.better:7.2f}{scenario.by:5.1f}{cells}", flush=True)
        rows.append(figures)
        intervals.append(headlines)
    ratio, harmful = np.nanmin([row["ratio"] for row in rows]), max(row["unmarked"] for row in rows)
    coverage = np.concatenate(intervals).mean()
    return f"keep-rules: worst ratio {ratio:.2f}, harmful {harmful:.1f} a night, coverage {coverage:.0%}"


if __name__ == "__main__":
    print(run(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
