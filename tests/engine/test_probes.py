"""Every attack of `make probes`, one test each; the containers of a group are shared by its tests."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from attacks.walls import faults
from attacks.walls.__main__ import GROUPS
from attacks.walls.arena import Arena
from attacks.walls.base import AttemptResult, Finding, Observation, Outcome, Probe, Verdict, judge
from attacks.walls.look import acquired
from attacks.walls.tiers import explained
from orchestrator.walls.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
ALL = [
    (name, probe) for name, group in GROUPS.items() for probe in group.names if name != faults.NAME
]  # those are tests themselves


@pytest.fixture(scope="session")
def attacked(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Finding]]:
    """What became of the attacks of a group, which is run once."""

    @cache
    def found(name: str) -> dict[str, Finding]:
        scratch = tmp_path_factory.mktemp("probes")
        return {
            finding.probe: finding for finding in GROUPS[name].run(Arena(engine=engine, scratch=scratch, fast=True))
        }

    return found


@pytest.mark.parametrize(("group", "probe"), ALL, ids=[f"{group}: {probe}" for group, probe in ALL])
def test_the_attack_is_blocked(attacked: Callable[[str], dict[str, Finding]], group: str, probe: str) -> None:
    """In the trainer's container, and it succeeds in a weak one; what a machine does not have is named, not counted."""
    finding = attacked(group)[probe]

    assert finding.verdict in (Verdict.BLOCKED, Verdict.NOT_RUN), f"{finding.why} (control: {finding.control})"


@pytest.mark.parametrize(
    ("strict", "weak", "verdict"),
    [
        (AttemptResult.REFUSED, AttemptResult.DID, Verdict.BLOCKED),
        (AttemptResult.KILLED, AttemptResult.DID, Verdict.BLOCKED),
        (AttemptResult.DID, AttemptResult.DID, Verdict.ALLOWED),
        (AttemptResult.REFUSED, AttemptResult.REFUSED, Verdict.VOID),
        (
            AttemptResult.DID,
            AttemptResult.REFUSED,
            Verdict.ALLOWED,
        ),  # the control is at fault, and the attack is none the less one
        (AttemptResult.BROKE, AttemptResult.DID, Verdict.VOID),
        (AttemptResult.HUNG, AttemptResult.DID, Verdict.VOID),
        (None, AttemptResult.DID, Verdict.VOID),
        (AttemptResult.REFUSED, None, Verdict.VOID),
        (AttemptResult.REFUSED, AttemptResult.ABSENT, Verdict.NOT_RUN),
    ],
)
def test_an_attack_that_proves_nothing_is_void(
    strict: AttemptResult | None, weak: AttemptResult | None, verdict: Verdict
) -> None:
    """One that does not succeed where there is no wall, or that never ran, is no sign of a wall."""
    probe = Probe(name="p", source="")

    assert verdict == judge("g", probe, seen(strict), seen(weak)).verdict


def test_a_known_difference_of_a_tier_is_named_and_nothing_else_is_excused() -> None:
    """On gVisor only, for its own list only, and what is blocked there stays so."""
    allowed = Finding(group="g", probe="mark packets", verdict=Verdict.ALLOWED, why="did")

    assert Verdict.DIFFERS == explained(allowed, "runsc").verdict
    assert Verdict.ALLOWED == explained(allowed, "").verdict
    assert Verdict.ALLOWED == explained(replace(allowed, probe="mount a file system"), "runsc").verdict
    assert Verdict.BLOCKED == explained(replace(allowed, verdict=Verdict.BLOCKED), "runsc").verdict


def test_what_even_root_may_not_do_is_no_excuse_for_an_attack_that_succeeds() -> None:
    """Without root's engine there is nothing weaker to compare with; that excuses a void, never a success."""
    void = Finding(group="g", probe="settimeofday", verdict=Verdict.VOID, why="refused")

    assert Verdict.DIFFERS == explained(void, "rootless podman").verdict
    assert Verdict.VOID == explained(void, "").verdict
    assert Verdict.ALLOWED == explained(replace(void, verdict=Verdict.ALLOWED), "rootless podman").verdict


def test_the_host_s_oracle_has_the_last_word() -> None:
    """Whatever the attempt says of itself."""
    probe = Probe(name="p", source="", oracle=lambda seen, _name: "p" in seen.heard)
    heard = seen(AttemptResult.REFUSED)
    heard.heard.add("p")

    assert Verdict.ALLOWED == judge("g", probe, heard, heard).verdict
    assert Verdict.BLOCKED == judge("g", probe, seen(AttemptResult.DID), heard).verdict


def test_what_the_host_sees_outweighs_what_an_attempt_says() -> None:
    """One that says it was refused, and whose process holds what it had not before, was let through."""
    probe = Probe(name="p", source="")
    weak, strict = seen(AttemptResult.DID), seen(AttemptResult.REFUSED)
    for one in (weak, strict):
        one.looks["p", "before"] = {7: frozenset({"namespace uts uts:[1]"})}
        one.looks["p", "after"] = one.looks["p", "before"]

    assert Verdict.BLOCKED == judge("g", probe, strict, weak).verdict
    assert not judge("g", probe, strict, weak).by_host
    weak.looks["p", "after"] = strict.looks["p", "after"] = {7: frozenset({"namespace uts uts:[2]"})}
    assert Verdict.ALLOWED == judge("g", probe, strict, weak).verdict
    assert judge("g", probe, strict, weak).by_host


def test_an_attack_that_lies_is_found_out(engine: Engine, tmp_path: Path) -> None:
    """It took a lower priority, which it may, and says that it was refused; the host looks for itself."""
    liar = Probe(name="p", source="os.setpriority(os.PRIO_PROCESS, 0, 19)\nraise PermissionError('refused')")
    finding = Arena(engine=engine, scratch=tmp_path).shared("g", [liar])[0]

    assert Verdict.ALLOWED == finding.verdict
    assert finding.by_host
    assert "the host sees ['nice 19" in finding.why


def test_what_a_new_process_has_is_gained_only_if_no_other_had_it() -> None:
    """A fork gains nothing by itself; a right that only another process had is acquired by the one that has it now."""
    before = {1: frozenset({"Uid 0"}), 2: frozenset({"Uid 5"})}

    assert [] == acquired(before, {**before, 3: frozenset({"Uid 5"})})
    assert ["Uid 0"] == acquired(before, {1: before[1], 2: frozenset({"Uid 0"})})
    assert [] == acquired(before, {})


def seen(how: AttemptResult | None) -> Observation:
    """A container in which the probe `p` ended so, if it ran at all."""
    return Observation(folder=Path(), private=Path(), outcomes={"p": Outcome(how=how)} if how else {})
