"""A sweep over the constants of train.py with Optuna's TPE: needs no key, and is a baseline worth beating.

It keeps no state of its own: what it knows is told to Optuna anew from the journal, so a run resumes where it was, and
the same history and seed give the same proposal.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState, create_trial

from orchestrator.errors import PatchRejected, ProposerUnavailable
from orchestrator.propose import tunables as kn
from orchestrator.propose.tunables import Tunable, Value
from orchestrator.types import Context, Edit, Experiment, Proposal, Reply, Status

NAME = "sweep"
TOLD = 500  # newest experiments that the sampler is told
STARTUP = 8  # scored experiments before TPE has something to go by; till then near the best, at random
STARTUP_SPAN = 2.0
MOST_CHANGES = 3  # constants in one proposal
DRAWS = 200  # before the sweep says that it has tried everything
UNTOLD = (Status.INFRA, Status.CONTENDED, Status.INVALID)  # nothing was learned about the point

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(slots=True, kw_only=True)
class SweepProposer:
    """Changes one to three constants of the best file at a time."""

    profile: str
    seed: int = 0
    name: str = NAME
    _points: dict[int, dict[str, Value]] = field(default_factory=dict, repr=False)  # by experiment id, read once

    def ask(self, context: Context) -> Reply:
        """The next point, never one that was tried. Raises ProposerUnavailable when there is none."""
        knobs = kn.find_tunables(context.champion_source, self.profile)
        if not knobs:
            raise ProposerUnavailable(
                "train.py has no UPPER_CASE constants with a number at top level to sweep; use --proposer claude"
            )
        told = [e for e in context.history[-TOLD:] if e.status not in UNTOLD]
        tried = {_key(knobs, self._point(e)) for e in told}
        turn = len(told) + 1000 * len(context.rejected) + 1_000_000 * len(context.in_flight)
        for draw in range(DRAWS):
            values = self._draw(knobs, told, random.Random(f"{self.seed}/{turn}/{draw}"))  # noqa: S311 - no secret
            hypothesis = _words(knobs, values)
            if values and hypothesis not in context.in_flight and _key(knobs, values) not in tried:
                return self._reply(context, knobs, values, hypothesis)
        raise ProposerUnavailable(
            f"the sweep has tried every value near the best: {', '.join(knobs)}; use --proposer claude"
        )

    def read(self, reply: Reply) -> Proposal:
        """Parse what `ask` wrote. Raises PatchRejected."""
        return read(reply)

    def _draw(
        self, knobs: Mapping[str, Tunable], told: Sequence[Experiment], chance: random.Random
    ) -> dict[str, Value]:
        """New values for a few constants, those that would not change left out."""
        chosen = chance.sample(sorted(knobs), min(len(knobs), chance.choice((1, 1, 2, MOST_CHANGES))))
        started = sum(e.value is not None for e in told) >= STARTUP
        seed = chance.randrange(2**31)
        sampler = optuna.samplers.TPESampler(seed=seed) if started else optuna.samplers.RandomSampler(seed=seed)
        study = optuna.create_study(sampler=sampler)
        space = {name: knobs[name].distribution(kn.SPAN if started else STARTUP_SPAN) for name in chosen}
        if started:
            study.add_trials([trial for e in told if (trial := self._trial(knobs, space, e)) is not None])
        drawn = study.ask(fixed_distributions=space).params
        values = {name: knobs[name].to_value(drawn[name]) for name in chosen}
        return {name: value for name, value in values.items() if value != knobs[name].value}

    def _trial(
        self, knobs: Mapping[str, Tunable], space: Mapping[str, optuna.distributions.BaseDistribution], e: Experiment
    ) -> optuna.trial.FrozenTrial | None:
        """One experiment as Optuna has it; constants out of today's range say nothing about it."""
        point = self._point(e)
        inside = {}
        for name, distribution in space.items():
            if name in point:
                drawn = knobs[name].from_value(point[name])
                if not distribution.single() and _holds(distribution, drawn):
                    inside[name] = drawn
        if not inside:
            return None
        scored = e.value is not None
        return create_trial(
            state=TrialState.COMPLETE if scored else TrialState.FAIL,
            value=e.value if scored else None,
            params=inside,
            distributions={name: space[name] for name in inside},
        )

    def _point(self, e: Experiment) -> dict[str, Value]:
        """The constants that an experiment ran with, from its recorded source."""
        if e.id not in self._points:
            try:
                found = kn.find_tunables((e.folder / "train.py").read_text(encoding="utf-8"), self.profile)
            except (OSError, SyntaxError, ValueError):
                found = {}  # its folder was cleaned up; nothing is learned from it
            self._points[e.id] = {name: knob.value for name, knob in found.items()}
        return self._points[e.id]

    def _reply(
        self, context: Context, knobs: Mapping[str, Tunable], values: Mapping[str, Value], hypothesis: str
    ) -> Reply:
        text = json.dumps(
            {
                "hypothesis": hypothesis,
                "expected_effect": f"below {context.champion.value}",
                "params": dict(values),
                "edits": [
                    {"search": edit.search, "replace": edit.replace}
                    for edit in kn.edits_for(context.champion_source, knobs, values)
                ],
            },
            indent=1,
        )
        prompt = f"sweep of {len(knobs)} constants, seed {self.seed}, best so far is experiment {context.champion.id}"
        return Reply(proposer=self.name, model=f"optuna {optuna.__version__} TPE", prompt=prompt, text=text)


def read(reply: Reply) -> Proposal:
    """A proposal from a sweep's reply. Raises PatchRejected."""
    try:
        data = json.loads(reply.text)
        return Proposal(
            hypothesis=str(data["hypothesis"]),
            expected_effect=str(data["expected_effect"]),
            edits=tuple(Edit(search=str(edit["search"]), replace=str(edit["replace"])) for edit in data["edits"]),
            retry_rationale="a sweep measures neighbours",
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PatchRejected(f"this is no reply of a sweep: {error!r}") from error


def _holds(distribution: optuna.distributions.BaseDistribution, drawn: Value) -> bool:
    match distribution:
        case optuna.distributions.CategoricalDistribution():
            return drawn in distribution.choices
        case optuna.distributions.FloatDistribution() | optuna.distributions.IntDistribution():
            return bool(distribution.low <= drawn <= distribution.high)
    return False


def _key(knobs: Mapping[str, Tunable], values: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """A point: every knob's value, the best's where it is not changed."""
    return tuple((name, values.get(name, knob.value)) for name, knob in sorted(knobs.items()))


def _words(knobs: Mapping[str, Tunable], values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {knobs[name].value} → {values[name]}" for name in sorted(values))
