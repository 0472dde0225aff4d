"""The simulator of keep rules: it runs the real rule, and in short what docs/scoring.md says of it."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import keep_rules
from benchmarks.keep_rules import TRIALS, Machines, Scenario
from orchestrator import duels, policy
from orchestrator.policy import History, Rerun, Rules
from orchestrator.settings import Noise
from orchestrator.types import Conditions, MachineLoad, Status, Trial
from tests.support import fakes
from tests.support.journals import kept

RULES = Rules(noise=Noise(), time_budget_s=25.0)
HERE = Conditions()
EVERYWHERE = np.array([True])


def decide_by_policy(scenario: Scenario, seed: int) -> tuple[float, int]:
    """Return the true score of the champion of one night and the repeats, by next_step and learn, trial by trial."""
    machines, past, truths, repeats = Machines(scenario, 1, np.random.default_rng(seed)), History(), {}, 0

    def run(truth: float) -> Trial:
        score, others = machines.trial(np.array([truth]), EVERYWHERE)
        return fakes.scored(
            float(score[0]), load=MachineLoad(others_cpu_s=50 * float(others[0]), cpus=2, duration_s=25.0)
        )

    number, truth, trials, parent = 0, scenario.base, [run(scenario.base)], None
    while True:
        one = policy.Attempt(id=number, trials=tuple(trials), conditions=HERE, parent_id=parent)
        step = policy.next_step(one, past, RULES)
        if isinstance(step, Rerun) and not step.suspicion:
            if machines.spent[0] >= TRIALS * (1 - duels.CLAIM_SHARE):
                break
            trials.append(run(truth))
            repeats += 1
            continue
        status = Status.KEEP if isinstance(step, Rerun) else step.verdict.status  # the simulator doubts nothing
        scores, loads = tuple(t.scores[0] for t in trials), tuple(t.load for t in trials)
        ended = kept(scores[0], id=number, parent_id=parent, status=status, repeat_scores=scores, loads=loads)
        learnt = policy.learn(past.estimates.get(HERE), ended)
        assert learnt is not None
        past = replace(past, kept=(*past.kept, ended) if status is Status.KEEP else past.kept, estimates={HERE: learnt})
        truths[number] = truth
        assert past.champion is not None
        parent = past.champion.id
        if machines.spent[0] >= TRIALS * (1 - duels.CLAIM_SHARE):
            return truths[parent], repeats
        number += 1
        truth = truths[parent] - float(machines.ideas()[0])
        trials = [run(truth)]
    assert parent is not None
    return truths[parent], repeats


@pytest.mark.parametrize("machine", ["busy", "quiet", "gpu"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_simulator_decides_as_the_policy_does(machine: str, seed: int) -> None:
    """The same champion at the end of a night, and as many repeats."""
    scenario = Scenario(name=machine, machine=machine, better=0.15, by=1.0)
    truth, repeats = decide_by_policy(scenario, seed)
    night = keep_rules.ours(scenario, 1, np.random.default_rng(seed))
    unit = Machines(scenario, 1, np.random.default_rng(seed)).unit

    assert (scenario.base - truth) / unit == pytest.approx(night.gain[0], abs=1e-9)
    assert repeats == night.repeats[0]


@pytest.mark.parametrize("scenario", [keep_rules.SCENARIOS[2], keep_rules.SCENARIOS[9]])
def test_our_rule_gains_more_than_the_others(scenario: Scenario) -> None:
    """A short form of `make keep-rules`: no night is given away, and what is claimed is true."""
    figures, headlines = keep_rules.measure(scenario, 60)

    assert figures["ratio"] > 0.9
    assert figures["unmarked"] < 1.0
    assert figures["claims"] <= 0.2
    assert headlines.mean() > 0.85


@pytest.mark.parametrize("scenario", keep_rules.SCENARIOS[8:13])
def test_who_knows_more_gains_more(scenario: Scenario) -> None:
    """The oracle more than the rule that knows all but seed noise, and that one more than any real rule."""
    figures, _ = keep_rules.measure(scenario, 60)

    assert figures["oracle"] > figures["informed"] > max(1.0, figures["ratio"])


def test_every_rule_meets_the_same_ideas_and_noise() -> None:
    """What a trial adds and which idea it may try depends on its number, not on what was tried before."""
    scenario, truth = keep_rules.SCENARIOS[0], np.zeros(2)
    apart, together = (Machines(scenario, 2, np.random.default_rng(1)) for _ in range(2))
    apart.trial(truth, np.array([True, False]))
    second, _ = apart.trial(truth, np.array([True, True]))
    first, _ = together.trial(truth, np.array([True, True]))
    both, _ = together.trial(truth, np.array([True, True]))

    assert [both[0], first[1]] == second.tolist()
    assert [together.gains[0, 2], together.gains[1, 1]] == apart.ideas().tolist()


def test_changes_that_change_nothing_are_hardly_kept_and_never_claimed() -> None:
    """A night of them: fewer keeps than 1 in 20, and claims as rare as 2.5 %."""
    figures, _ = keep_rules.measure(keep_rules.SCENARIOS[-2], 100)

    assert figures["changes"] < 5
    assert figures["claimed"] <= 0.08
