"""The search benchmark: its arms in the real loop, its arithmetic, what it reports and what it resumes."""

import ast
import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import search
from benchmarks.search import BUDGETS, FRESH_SEEDS, IdeasProposer, Run
from orchestrator.errors import BudgetExhausted
from orchestrator.propose.tunables import find_tunables
from orchestrator.types import Context, Edit, Spent
from tests.support import fakes
from tests.support.journals import champion

SOURCE = (search.ROOT / "examples" / "code-size" / "mutable" / "train.py").read_text(encoding="utf-8")


class Valley:
    """Scores by one constant, the best being 0.01, with a little noise."""

    def __init__(self) -> None:
        self.scored: list[tuple[str, int]] = []

    def score(self, source: str, seed: int) -> dict[str, object]:
        """Return how far a source is from the best."""
        self.scored.append((source, seed))
        rate = float(find_tunables(source, "cpu")["LEARNING_RATE"].value)
        return {"value": 1.0 + 20 * abs(rate - 0.01) + random.Random(seed).gauss(0, 0.002)}  # noqa: S311


def made(arm: str, seed: int, base: float, best: float) -> Run:
    return Run(
        task="code-size", arm=arm, seed=seed, trials=48, experiments=47, kept=2, failed=1, base=base,
        best=dict.fromkeys(BUDGETS, best),
    )  # fmt: skip


@pytest.mark.parametrize("arm", search.ARMS)
def test_an_arm_uses_its_trainings_and_is_judged_by_seeds_it_never_saw(
    arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm's trainings are counted without the fresh scores, which are of the baseline and of champions alone."""
    monkeypatch.setattr(search, "BUDGETS", (4, 8, 12))
    worker = Valley()
    run = search.search("code-size", arm, 1, worker)
    fresh = [source for source, seed in worker.scored if seed in FRESH_SEEDS]

    assert run.trials == len(worker.scored) - len(fresh)
    assert SOURCE in fresh
    assert 12 <= run.trials <= 12 + 3  # one more experiment may have needed trials
    assert [4, 8, 12] == sorted(run.best)
    assert run.base > 1.1
    assert all(run.gain(budget) > -0.05 for budget in run.best)
    assert arm != "replay" or run.gain(12) > 0.1  # its second idea is the best rate


def test_every_recorded_idea_fits_the_example_and_is_a_program() -> None:
    """The edits of each are found once in train.py as it is, and what they make of it parses."""
    ideas = search.read_ideas("code-size")

    assert 16 == len(ideas)
    for idea in ideas:
        assert all(1 == SOURCE.count(edit["search"]) for edit in idea["edits"])
        ast.parse(search.apply(SOURCE, [Edit(**edit) for edit in idea["edits"]]))


def test_drafts_stand_in_where_no_ideas_were_recorded() -> None:
    """The kernel's ideas are the files of its drafts."""
    assert ["01-smaller-blocks", "02-single-precision"] == [idea["hypothesis"] for idea in search.read_ideas("kernel")][
        :2
    ]


def test_an_idea_that_does_not_fit_the_best_file_is_left_out() -> None:
    """It proposes the next one that fits, and ends after the last one."""
    context = Context(experiment_id=1, champion=champion(), champion_source=fakes.TRAIN_PY, history=(), spent=Spent())
    ideas = [
        {"hypothesis": "lost", "edits": [{"search": "nowhere", "replace": ""}]},
        {"hypothesis": "fits", "edits": [{"search": "LEARNING_RATE = 0.02", "replace": "LEARNING_RATE = 0.03"}]},
    ]
    proposer = IdeasProposer(ideas=ideas)

    assert "fits" == proposer.read(proposer.ask(context)).hypothesis
    with pytest.raises(BudgetExhausted, match="all 2 ideas"):
        proposer.ask(context)


def test_gains_have_an_interval_over_seeds_and_arms_without_runs_are_left_out() -> None:
    """The mean of the differences with its interval; one value has an interval of no width."""
    runs = [made("tpe", seed, 1.0, 0.8 + 0.02 * seed) for seed in range(1, 9)] + [made("random", 1, 1.0, 1.1)]
    low, high = search.interval([run.gain(48) for run in runs if run.arm == "tpe"])
    line = search.last_line(runs)

    assert low < 0.11 < high
    assert 0.06 < low and high < 0.16
    assert (0.5, 0.5) == search.interval([0.5])
    assert "tpe 0.1100" in line and "(8 seeds)" in line and "random -0.1000 [one seed]" in line
    assert "mix" not in line
    assert 4 == len(search.summary(runs))
    assert "nothing has been run" in search.last_line([])


def test_runs_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """A line per run; a file that is not there is no run."""
    path, runs = tmp_path / "runs.jsonl", [made("tpe", 1, 1.0, 0.9), made("mix", 2, 1.0, 0.8)]
    path.write_text("".join(json.dumps(asdict(run)) + "\n" for run in runs), encoding="utf-8")

    assert runs == search.read_runs(path)
    assert [] == search.read_runs(tmp_path / "none.jsonl")


def test_recorded_ideas_are_summed_up_by_what_was_kept(tmp_path: Path) -> None:
    """The best mean of those that were kept, against the baseline's mean; a lower one that was not kept is no best."""
    for number, (status, trials) in enumerate([("keep", [2.0, 2.2]), ("discard", [1.0]), ("keep", [1.8, 1.9])]):
        folder = tmp_path / f"{number:04}"
        folder.mkdir()
        idea = {"id": number, "status": status, "trials": trials}
        (folder / "idea.json").write_text(json.dumps(idea), encoding="utf-8")

    assert "baseline 2.1000, gain after 2 ideas 0.2500" in search.recorded_ideas(tmp_path)
    with pytest.raises(SystemExit, match=r"no \*/idea\.json"):
        search.recorded_ideas(tmp_path / "none")


def test_random_draws_depend_on_the_seed_alone() -> None:
    """The same seed draws the same files, another one others, all of them from the baseline."""
    context = Context(experiment_id=1, champion=champion(), champion_source=fakes.TRAIN_PY, history=(), spent=Spent())
    first, again, other = (search.RandomProposer(profile="cpu", seed=seed) for seed in (1, 1, 2))
    texts = [proposer.ask(context).text for proposer in (first, again, other)]

    assert texts[0] == texts[1] != texts[2]
    assert texts[0] != first.ask(context).text
