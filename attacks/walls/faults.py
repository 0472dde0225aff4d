"""Faults of the engine and of the orchestrator itself, each by the test that causes it, on engines and loops of its own.

A test has no weak container; each was seen to fail with its wall taken away. Here it is run, and counted.
"""

import os
import subprocess
import sys

from attacks.walls.arena import ROOT, Arena
from attacks.walls.base import Finding, Verdict

NAME = "faults"
FAULTS = {
    "kill -9 of the orchestrator: it goes on where it was": "engine/test_session.py::test_a_killed_session_goes_on_where_it_was",
    "kill -9 of the orchestrator: the next start finds what it left": "engine/test_deadline.py::test_the_reaper_removes_what_a_killed_orchestrator_left",
    "kill -9 of the orchestrator: nothing is alive past its deadline": "engine/test_deadline.py::test_an_orphan_dies_by_its_deadline_although_nobody_comes_back",
    "kill -9 of the orchestrator: the lease is free": "devices/test_lease_storm.py",
    "the engine is killed in mid-run": "engine/test_engine_restart.py",
    "a call to the engine hangs": "walls/test_hung_engine.py",
}


def run(arena: Arena) -> list[Finding]:
    """Run one test after the other; without root and Docker none can run, as each starts an engine."""
    if os.geteuid() != 0 or arena.engine.is_podman:
        return [finding(name, Verdict.NOT_RUN, "it needs root and Docker, for engines of its own") for name in FAULTS]
    return [attempt(name, test) for name, test in FAULTS.items()]


def attempt(name: str, test: str) -> Finding:
    """Run a test; its failure is an attack that succeeded."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{test}"]
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=True)
    said = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
    verdict = {0: Verdict.BLOCKED, 1: Verdict.ALLOWED}.get(done.returncode, Verdict.VOID)
    return finding(name, verdict, said)


def finding(name: str, verdict: Verdict, why: str) -> Finding:
    """Build a finding that rests on what the host itself saw."""
    return Finding(group=NAME, probe=name, verdict=verdict, why=why, control="the test itself", by_host=True)
