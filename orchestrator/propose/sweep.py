"""A sweep over the constants of train.py with Optuna's TPE: needs no key, and is a baseline worth beating.

It is stateless: the history is passed to Optuna from the journal each time, so a run resumes where it stopped, and the
same history and seed give the same proposal.
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
from orchestrator.record.experiment_dir import source_path
from orchestrator.types import Context, Edit, Experiment, Proposal, Reply, Status

NAME = "sweep"
HISTORY_LIMIT = 500  # newest experiments passed to the sampler
STARTUP = 8  # scored experiments before TPE is used; until then random values near the best
STARTUP_SPAN = 2.0
MAX_CHANGES = 3  # constants in one proposal
DRAWS = 200  # before the sweep gives up: everything near the best was tried
UNINFORMATIVE = (Status.INFRA, Status.CONTENDED, Status.INVALID)  # they say nothing about the point

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(slots=True, kw_only=True)
class SweepProposer:
    """Changes one to three constants of the best file at a time."""

    profile: str
    seed: int = 0
    name: str = NAME
    _points: dict[int, dict[str, Value]] = field(default_factory=dict, repr=False)  # by experiment id, read once

    def ask(self, context: Context) -> Reply:
        """Return the next untried point. Raises ProposerUnavailable if none is left."""
        knobs = kn.find_tunables(context.champion_source, self.profile)
        if not knobs:
            raise ProposerUnavailable(
                "the file has no UPPER_CASE constants with a number at top level to sweep; use --proposer claude"
            )
        history = [e for e in context.history[-HISTORY_LIMIT:] if e.status not in UNINFORMATIVE]
        tried = {_key(knobs, self._point(e)) for e in history}
        step = len(history) + 1000 * len(context.rejected) + 1_000_000 * len(context.in_flight)
        for draw in range(DRAWS):
            values = self._draw(knobs, history, random.Random(f"{self.seed}/{step}/{draw}"))  # noqa: S311 - no secret
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
        self, knobs: Mapping[str, Tunable], history: Sequence[Experiment], chance: random.Random
    ) -> dict[str, Value]:
        """Draw new values for a few constants; unchanged ones are omitted."""
        chosen = chance.sample(sorted(knobs), min(len(knobs), chance.choice((1, 1, 2, MAX_CHANGES))))
        started = sum(e.value is not None for e in history) >= STARTUP
        seed = chance.randrange(2**31)
        sampler = optuna.samplers.TPESampler(seed=seed) if started else optuna.samplers.RandomSampler(seed=seed)
        study = optuna.create_study(sampler=sampler)
        space = {name: knobs[name].distribution(kn.SPAN if started else STARTUP_SPAN) for name in chosen}
        if started:
            study.add_trials([trial for e in history if (trial := self._trial(knobs, space, e)) is not None])
        drawn = study.ask(fixed_distributions=space).params
        values = {name: knobs[name].to_value(drawn[name]) for name in chosen}
        return {name: value for name, value in values.items() if value != knobs[name].value}

    def _trial(
        self, knobs: Mapping[str, Tunable], space: Mapping[str, optuna.distributions.BaseDistribution], e: Experiment
    ) -> optuna.trial.FrozenTrial | None:
        """Convert an experiment to an Optuna trial, without constants outside the current range."""
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
            value=e.cost if scored else None,
            params=inside,
            distributions={name: space[name] for name in inside},
        )

    def _point(self, e: Experiment) -> dict[str, Value]:
        """Return the constants that an experiment ran with, from its recorded source."""
        if e.id not in self._points:
            try:
                found = kn.find_tunables(source_path(e.folder).read_text(encoding="utf-8"), self.profile)
            except (OSError, SyntaxError, ValueError):
                found = {}  # its folder was removed
            self._points[e.id] = {name: knob.value for name, knob in found.items()}
        return self._points[e.id]

    def _reply(
        self, context: Context, knobs: Mapping[str, Tunable], values: Mapping[str, Value], hypothesis: str
    ) -> Reply:
        better = "above" if context.champion.experiment.sign < 0 else "below"
        text = json.dumps(
            {
                "hypothesis": hypothesis,
                "expected_effect": f"{better} {context.champion.value:.6g}",
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
    """Parse a sweep's reply. Raises PatchRejected."""
    try:
        data = json.loads(reply.text)
        return Proposal(
            hypothesis=str(data["hypothesis"]),
            expected_effect=str(data["expected_effect"]),
            edits=tuple(Edit(search=str(edit["search"]), replace=str(edit["replace"])) for edit in data["edits"]),
            retry_rationale="a sweep measures neighbours",
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PatchRejected(f"not a reply of the sweep: {error!r}") from error


def _holds(distribution: optuna.distributions.BaseDistribution, drawn: Value) -> bool:
    match distribution:
        case optuna.distributions.CategoricalDistribution():
            return drawn in distribution.choices
        case optuna.distributions.FloatDistribution() | optuna.distributions.IntDistribution():
            return bool(distribution.low <= drawn <= distribution.high)
    return False


def _key(knobs: Mapping[str, Tunable], values: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Return a point as a key: every constant's value, changed or not."""
    return tuple((name, values.get(name, knob.value)) for name, knob in sorted(knobs.items()))


def _words(knobs: Mapping[str, Tunable], values: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {knobs[name].value} → {values[name]}" for name in sorted(values))
