"""What kind of idea is asked for, and by whom: by how far a run has come."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator import propose
from orchestrator.errors import PatchRejected, ProposerUnavailable
from orchestrator.propose.mix import MixProposer
from orchestrator.propose.phases import CONSTANTS_FIRST, KINDS, is_llms_turn, next_phase
from orchestrator.record.journal import Journal
from orchestrator.types import Context, Proposal, Reply, Spent
from tests.propose.test_claude import context
from tests.propose.test_night import task
from tests.support.fake_messages_api import KEY, FakeMessagesApi


def phase(ideas: int, since: int = 0, **more: object) -> str:
    """The request of a phase."""
    return next_phase(ideas=ideas, since_improvement=since, stagnation_after=8, **more).request  # type: ignore[arg-type]


def test_a_run_begins_with_several_constants_at_once() -> None:
    """Then code, and every third idea structure."""
    early = [phase(ideas) for ideas in range(CONSTANTS_FIRST)]
    later = [phase(ideas) for ideas in range(CONSTANTS_FIRST, CONSTANTS_FIRST + 6)]

    assert all("several constants at once" in text for text in early)
    assert 2 == sum("change the structure" in text for text in later)
    assert 4 == later.count("")
    assert "several constants" not in phase(0, constants_first=0)


def test_a_plateau_asks_for_another_kind_and_now_and_then_for_another_parent() -> None:
    """From the newest earlier kept one backwards, round and round."""
    phases = [
        next_phase(ideas=30, since_improvement=8 + i, stagnation_after=8, earlier_kept=(0, 4, 7)) for i in range(8)
    ]

    assert [None, 7, None, 4, None, 0, None, 7] == [phase.parent_id for phase in phases]
    assert list(KINDS) == [phase.request.partition("improvement. ")[2] for phase in phases[: len(KINDS)]]
    assert next_phase(ideas=30, since_improvement=9, stagnation_after=8).parent_id is None


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_the_llm_has_its_share_evenly(share: float) -> None:
    """It begins, and no tenth of a run goes without it."""
    turns = [is_llms_turn(ideas, share) for ideas in range(100)]

    assert turns[0]
    assert abs(sum(turns) - 100 * share) <= 1
    assert all(any(turns[at : at + round(1 / share) + 1]) for at in range(90))


@dataclass(slots=True)
class Voice:
    """A proposer that only says its name."""

    name: str
    gone: bool = False
    asked: list[int] = field(default_factory=list)

    def ask(self, context: Context) -> Reply:
        """Its name."""
        if self.gone:
            raise ProposerUnavailable(self.name)
        self.asked.append(context.spent.experiments)
        return Reply(proposer=self.name, model="", prompt="", text=self.name)

    def read(self, reply: Reply) -> Proposal:
        """Its own words only."""
        if reply.text != self.name:
            raise PatchRejected("not mine")
        return Proposal(hypothesis=self.name)


def test_a_mix_asks_in_turns_and_reads_what_each_said() -> None:
    """Whoever was refused answers for it; the LLM takes over where the sweep has tried everything."""
    llm, sweep = Voice("claude"), Voice("sweep")
    mix = MixProposer(llm=llm, sweep=sweep, llm_share=0.25)
    replies = [mix.ask(context(spent=Spent(experiments=n))) for n in range(8)]

    assert [0, 3, 7] == llm.asked
    assert [reply.proposer for reply in replies] == [mix.read(reply).hypothesis for reply in replies]
    again = context(spent=Spent(experiments=1), rejected=((replies[0], "no"),))
    assert "claude" == mix.ask(again).proposer
    sweep.gone = True
    assert "claude" == mix.ask(context(spent=Spent(experiments=1))).proposer
    mix.stop()


def test_a_mix_is_built_of_both(tmp_path: Path) -> None:
    """The LLM is asked for code from the start: the sweep sets the constants."""
    with FakeMessagesApi() as api, Journal.open(tmp_path / "runs" / "t") as journal:
        config = task(tmp_path, api, proposer="mix", **{"mix.llm_share": 0.2})
        mix = propose.build(config, journal, {"ANTHROPIC_API_KEY": KEY})

    assert isinstance(mix, MixProposer)
    assert ("claude", "sweep", 0.2) == (mix.llm.name, mix.sweep.name, mix.llm_share)
    assert 1 == len(api.checks)
    assert config.asks_ahead
    assert 0 == propose.prompts(config).constants_first


def contract_of(tmp_path: Path, **flags: object) -> dict[str, str]:
    """What the host demands, for a task whose training set has 1,234,567 tokens."""
    with FakeMessagesApi() as api:
        config = task(tmp_path, api, **flags)
    folder = config.data_path / "train"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"tokens": 1234567}')
    return propose.contract(config)


def test_the_contract_is_told_in_numbers(tmp_path: Path) -> None:
    """Those of the profile that is used; processor features only where processors are what trains."""
    found = contract_of(tmp_path)

    assert "25 s of wall clock from start to end, 4 GB of memory, 2 CPUs" == found["resources per experiment"]
    assert "256 MB" == found["maximum checkpoint size"]
    assert "val_bpb in bits/byte, lower is better" == found["score"]
    assert "3 s, plus the unused part of the training time" == found["time for load_model and its first prediction"]
    assert found["scorer requests"].startswith("32 rows at a time")
    assert "1,234,567 tokens" == found["training set"]
    there = subprocess.run(["grep", "-m1", "^flags", "/proc/cpuinfo"], capture_output=True, text=True, check=False)
    assert ("avx2" in there.stdout.split()) == ("avx2" in found.get("CPU features", ""))


def test_a_gpu_profile_says_nothing_of_processors(tmp_path: Path) -> None:
    """Nor of the other profile's budget."""
    found = contract_of(tmp_path, profile_name="gpu")

    assert "CPU features" not in found
    assert found["resources per experiment"].startswith("300 s")
