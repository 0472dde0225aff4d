"""Death at the deadline, whatever the program does and whoever is left to see to it."""

import io
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import docker
import pytest
import requests

from orchestrator import compose, preflight
from orchestrator.cli.setup import prepare_data
from orchestrator.config import Config, load
from orchestrator.errors import EngineUnavailable, LeaseUnavailable, SandboxError
from orchestrator.execution.experiment import ContainerRunner, failure_of
from orchestrator.types import Candidate, Plan, Proposal, Reply, Status
from orchestrator.walls import container_labels
from orchestrator.walls.container import LOOK_S, OUTSIDE
from orchestrator.walls.engine import Engine
from orchestrator.walls.reaper import reap_in_background
from tests.support.boxes import ROOT, Boxes

pytestmark = pytest.mark.engine

UNIFORM = """
import prepare, torch

def load_model(path, device):
    return lambda tokens: torch.zeros(*tokens.shape, prepare.VOCAB_SIZE)

if __name__ == "__main__":
    open("/out/checkpoint.pt", "w").write("nothing")
"""
KNOWN = {"containers", "volumes", "create", "json", "attach", "start", "kill", "exec", "archive", "export", "copy"}
STUBBORN = {
    "spins": "while True: pass",
    "ignores signals": """
        import signal, time
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: time.sleep(1)
    """,
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "moves its clock": "import time\ntime.time = time.monotonic = lambda: 0\nwhile True: pass",
}


@pytest.mark.parametrize("source", STUBBORN.values(), ids=STUBBORN)
def test_killed_at_the_deadline(boxes: Boxes, source: str) -> None:
    """Within two seconds, by the host's clock, and said so."""
    result = boxes.run(source, deadline_s=1.0)

    assert result.timed_out
    assert "deadline" == result.killed_by
    assert result.exit_code is None
    assert 1.0 <= result.duration_s < 3.0


@pytest.mark.parametrize("status", [500, 503])
def test_a_kill_that_fails_is_tried_again(boxes: Boxes, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Whatever the engine said, until it says that the container has ended; told reasons stay told."""
    send, failed = type(boxes.engine._api).send, []

    def failing(self: object, request: requests.PreparedRequest, **how: object) -> requests.Response:
        if not str(request.path_url).split("?")[0].endswith("/kill") or len(failed) == 2:
            return send(self, request, **how)  # type: ignore[arg-type,no-any-return]
        failed.append(status)
        answer = requests.Response()
        answer.status_code, answer.url, answer.raw = status, str(request.url), io.BytesIO(b"cannot kill now")
        return answer

    monkeypatch.setattr(type(boxes.engine._api), "send", failing)
    with boxes.started("while True: pass", deadline_s=1.0) as running:
        result = running.wait()

    assert [status, status] == failed
    assert "deadline" == result.killed_by
    assert result.duration_s < 6


def test_an_engine_that_is_slow_to_look_kills_in_time(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who kills is not the one who looks."""
    inspect = boxes.engine.inspect

    def slow(container_id: str) -> dict[str, Any]:
        time.sleep(4)
        return inspect(container_id)

    with boxes.started("while True: pass", deadline_s=LOOK_S + 1) as running:
        monkeypatch.setattr(boxes.engine, "inspect", slow)
        running.wait()
        ended = inspect(running.id)["State"]

    assert seconds_between(ended["StartedAt"], ended["FinishedAt"]) < LOOK_S + 3


def seconds_between(first: str, last: str) -> float:
    """Of two times as the engine writes them: with nanoseconds."""
    begun, ended = (datetime.fromisoformat(f"{text[:26]}+00:00") for text in (first, last))
    return (ended - begun).total_seconds()


def test_what_it_leaves_behind_dies_with_the_guard(boxes: Boxes) -> None:
    """A double fork in a session of its own does not outlive the program."""
    source = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: time.sleep(0.1)
            os._exit(0)
        time.sleep(0.3)
    """
    with boxes.started(source) as running:
        while running.alive():
            time.sleep(0.05)
        result = running.wait()
        state = boxes.engine.inspect(running.id)["State"]

    assert 0 == result.exit_code
    assert not state["Running"] and 0 == state["Pid"]
    assert result.duration_s < 5


def test_the_guard_ends_it_when_the_host_does_not(boxes: Boxes) -> None:
    """The second killer, for an orchestrator that is gone or hangs."""
    result = boxes.run("while True: pass", deadline_s=20.0, hard_limit_s=1.0)

    assert (OUTSIDE, None) == (result.killed_by, result.exit_code)
    assert 1.0 <= result.duration_s < 3.0


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_codes(boxes: Boxes, code: int) -> None:
    """As the program said."""
    assert code == boxes.run(f"raise SystemExit({code})").exit_code


def test_killed_from_outside_is_our_failure(boxes: Boxes) -> None:
    """As by an engine that is shut down, or by hand: no patch is blamed for it."""
    with boxes.started("import time\ntime.sleep(60)") as running:
        boxes.engine.kill(running.id)
        result = running.wait()

    assert (OUTSIDE, None) == (result.killed_by, result.exit_code)
    assert Status.INFRA is failure_of(result)


@pytest.mark.parametrize("source", ["import os\nos.kill(os.getpid(), 9)", "raise SystemExit(137)"])
def test_killed_by_itself_is_its_own_failure(boxes: Boxes, source: str) -> None:
    """Nothing that a program does looks like an engine that was shut down."""
    result = boxes.run(source)

    assert (None, 137) == (result.killed_by, result.exit_code)
    assert Status.CRASH is failure_of(result)


def test_a_signal_is_an_exit_code_as_a_shell_says_it(boxes: Boxes) -> None:
    """Killed by signal 11 is 139."""
    assert 139 == boxes.run("import os\nos.kill(os.getpid(), 11)").exit_code


@contextmanager
def owned_by_another(boxes: Boxes, *, limit_s: float) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """An orchestrator of its own process with a spinning container; yields it and the container's name."""
    script = f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from orchestrator.walls.engine import Engine
        from tests.support.boxes import Boxes
        boxes = Boxes(engine=Engine.connect(), image_id={boxes.image_id!r},
            seccomp={boxes.seccomp!r}, folder=Path({str(boxes.folder)!r}))
        with boxes.started("while True: pass", deadline_s=60, hard_limit_s={limit_s}) as running:
            print(running.spec.name, flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as loop:
        assert loop.stdout is not None
        yield loop, loop.stdout.readline().strip()
        loop.kill()


def test_the_reaper_removes_what_a_killed_orchestrator_left(boxes: Boxes) -> None:
    """SIGKILL in mid-run: its container is found by its label at the next start; one of a living owner stays."""
    with (
        owned_by_another(boxes, limit_s=60) as (loop, name),
        boxes.started("import time\ntime.sleep(60)", deadline_s=60) as mine,
    ):
        assert name not in boxes.engine.reap()
        loop.kill()
        loop.wait()
        reaped = boxes.engine.reap()
        alive = mine.alive()

    assert name in reaped
    assert mine.spec.name not in reaped
    assert alive


STARTS: dict[str, Callable[[Config], object]] = {
    "loop": lambda config: compose.open_session(config, lambda _: None).__enter__(),
    "warm": lambda config: compose.lease_context(config).__enter__(),
    "confirm, calibrate": compose.make_single_slot,
    "data": lambda config: prepare_data(task=config.root, run=None, runs=config.runs, data=str(config.root / "docs")),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_every_start_reaps_before_it_waits_for_a_device(
    boxes: Boxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[Config], object]
) -> None:
    """A device may be held by nobody but an orphan of ours."""

    def waits(*_: object, **__: object) -> NoReturn:
        raise LeaseUnavailable

    monkeypatch.setattr(compose, "connect_engine", lambda *_: boxes.engine)  # which looks at the config first
    monkeypatch.setattr(preflight, "require_commits", lambda *_: "")  # the checkout may be another user's
    for name in ("open_slots", "make_slot", "lease", "build_execution_context"):
        monkeypatch.setattr(compose, name, waits)
    name, of = (
        tmp_path.name,
        container_labels.owner_labels(tag="test", experiment_id=0, attempt=1, role="volume", dies_in_s=60),
    )
    boxes.engine.volume(name, 4096, of | {"autoresearch.owner": of["autoresearch.owner"] + "0"})
    config = load(ROOT, {"tag": name[:40], "runs": tmp_path, "proposer": "sweep"})
    with pytest.raises(LeaseUnavailable):
        start(config)

    with pytest.raises(docker.errors.NotFound):
        boxes.engine._api.inspect_volume(name)


def test_a_loop_reaps_again_and_again(boxes: Boxes) -> None:
    """What another orchestrator leaves while a loop runs is gone without a new start."""
    with reap_in_background(boxes.engine.reap, every_s=0.2), owned_by_another(boxes, limit_s=60) as (loop, name):
        there = state_of(boxes, name)
        loop.kill()
        loop.wait()
        until = time.monotonic() + 20
        while state_of(boxes, name) is not None and time.monotonic() < until:
            time.sleep(0.1)
        gone = state_of(boxes, name)

    assert there is not None
    assert gone is None


def test_a_reaper_outlives_an_engine_that_fails() -> None:
    """One failure is logged, and the next minute is another try; the start alone must succeed."""
    tried = []

    def fails() -> None:
        tried.append(len(tried))
        if len(tried) > 1:
            raise EngineUnavailable("gone")

    with reap_in_background(fails, every_s=0.01):
        while len(tried) < 4:
            time.sleep(0.01)

    assert len(tried) >= 4
    with pytest.raises(EngineUnavailable), reap_in_background(fails):
        pass


def test_an_orphan_dies_by_its_deadline_although_nobody_comes_back(boxes: Boxes) -> None:
    """The guard inside ends the container of an orchestrator that was killed."""
    with owned_by_another(boxes, limit_s=3) as (loop, name):
        loop.kill()
        loop.wait()
        running = (state_of(boxes, name) or {})["Running"]
        time.sleep(4.5)
        state = state_of(boxes, name) or {}

    boxes.engine.reap()
    assert running
    assert not state["Running"]
    assert 128 + 9 == state["ExitCode"]


def state_of(boxes: Boxes, name: str) -> dict[str, Any] | None:
    """What the engine says of a container, None if there is none."""
    try:
        state: dict[str, Any] = boxes.engine.inspect(name)["State"]
    except SandboxError:
        return None
    return state


def test_every_call_to_the_engine_is_of_a_harmless_kind(
    boxes: Boxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a whole experiment: nothing is executed in, copied from or archived out of a container."""
    calls: list[str] = []
    send = type(boxes.engine._api).send

    def recorded(self: object, request: object, **how: object) -> object:
        calls.append(f"{request.method} {request.path_url.split('?')[0]}")  # type: ignore[attr-defined]
        return send(self, request, **how)

    monkeypatch.setattr(type(boxes.engine._api), "send", recorded)
    config = load(ROOT, {"tag": tmp_path.name[:40], "runs": tmp_path, "profile.cpu.time_budget_s": 20.0})
    place = compose.build_execution_context(config, boxes.engine)
    reply = Reply(proposer="test", model="", prompt="", text="")
    candidate = Candidate(
        proposal=Proposal(hypothesis="uniform"), source=UNIFORM, parent_id=None, parent_source="", reply=reply
    )
    with reap_in_background(boxes.engine.reap):
        trial = ContainerRunner(place=place).run(
            candidate, Plan(train_seed=1, audit_seed=bytes(32)), experiment_id=1, folder=tmp_path, best=None
        )
    kinds = {" ".join((call.split()[0], *(part for part in call.split("/") if part in KNOWN))) for call in calls}

    assert trial.score is not None, trial.message
    assert 0 == sum(any(word in call for word in ("exec", "archive", "export", "copy", "commit")) for call in calls)
    assert kinds <= {
        "POST containers create", "GET containers json", "POST containers attach", "POST containers start",
        "GET json", "GET", "POST containers kill", "DELETE containers", "POST volumes create", "GET volumes",
        "DELETE volumes",
    }  # fmt: skip


def test_an_engine_that_is_not_there_is_named() -> None:
    """With what to type."""
    with pytest.raises(Exception, match="autoresearch start-engine"):
        Engine.connect("unix:///nowhere/docker.sock")


LOST = (
    UNIFORM
    + """
    import time
    while True:
        print("step 1 | loss nan | 5 tok/s", flush=True)
        time.sleep(0.2)
"""
)


def test_a_training_whose_losses_are_no_numbers_ends_early(engine: Engine, tmp_path: Path, unique: str) -> None:
    """Not at its deadline; its own words are what the LLM is told."""
    config = load(ROOT, {"tag": unique, "runs": tmp_path, "profile.cpu.time_budget_s": 50.0})
    place = compose.build_execution_context(config, engine)
    candidate = Candidate(
        proposal=Proposal(hypothesis="lost"),
        source=LOST,
        parent_id=None,
        parent_source="",
        reply=Reply(proposer="test"),
    )
    plan = Plan(train_seed=1, audit_seed=bytes(32))
    trial = ContainerRunner(place=place).run(candidate, plan, experiment_id=1, folder=tmp_path, best=None)

    assert Status.CRASH is trial.failure
    assert trial.message.startswith("train.py was ended early: its last ")
    assert trial.message.endswith("step 1 | loss nan | 5 tok/s")
    assert trial.trainer is not None
    assert trial.trainer.duration_s < 45
