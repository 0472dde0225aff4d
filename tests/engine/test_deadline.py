"""Death at the deadline, whatever the program does and whoever is left to see to it."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from orchestrator.containers import Engine
from tests.boxes import ROOT, Boxes

pytestmark = pytest.mark.engine

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

    assert result.killed_by is None
    assert 128 + 9 == result.exit_code
    assert 1.0 <= result.duration_s < 3.0


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_codes(boxes: Boxes, code: int) -> None:
    """As the program said."""
    assert code == boxes.run(f"raise SystemExit({code})").exit_code


def test_a_signal_is_an_exit_code_as_a_shell_says_it(boxes: Boxes) -> None:
    """Killed by signal 11 is 139."""
    assert 139 == boxes.run("import os\nos.kill(os.getpid(), 11)").exit_code


def test_the_reaper_removes_what_a_killed_orchestrator_left(boxes: Boxes, tmp_path: Path) -> None:
    """SIGKILL in mid-run: its container is found by its label at the next start; one of a living owner stays."""
    script = f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from orchestrator.containers import Engine
        from tests.boxes import Boxes
        boxes = Boxes(engine=Engine.connect(), image_id={boxes.image_id!r},
            seccomp={boxes.seccomp!r}, folder=Path({str(tmp_path)!r}))
        with boxes.started("while True: pass", deadline_s=60, hard_limit_s=60) as running:
            print(running.spec.name, flush=True)
            time.sleep(60)
    """
    with (
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as owner,
        boxes.started("import time\ntime.sleep(60)", deadline_s=60) as mine,
    ):
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        assert name not in boxes.engine.reap()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        reaped = boxes.engine.reap()
        alive = mine.alive()

    assert name in reaped
    assert mine.spec.name not in reaped
    assert alive


def test_every_call_to_the_engine_is_of_a_harmless_kind(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is executed in, copied from or archived out of a container that ran untrusted code."""
    calls: list[str] = []
    send = type(boxes.engine._api).send

    def recorded(self: object, request: object, **how: object) -> object:
        calls.append(f"{request.method} {request.path_url.split('?')[0]}")  # type: ignore[attr-defined]
        return send(self, request, **how)

    monkeypatch.setattr(type(boxes.engine._api), "send", recorded)
    boxes.run("print('here')")
    boxes.engine.reap()
    kinds = {
        "/".join(part for part in call.split("/") if len(part) < 32 and not part.startswith("v1.")) for call in calls
    }

    assert "here" in (tmp_log := (boxes.folder / "trainer.log").read_text()), tmp_log
    assert {
        "POST containers/create",
        "GET containers/json",
        "POST containers/attach",
        "POST containers/start",
        "DELETE containers",
        "GET volumes",
    } == {kind.replace(" /", " ") for kind in kinds}


def test_an_engine_that_is_not_there_is_named() -> None:
    """With what to type."""
    with pytest.raises(Exception, match="make engine"):
        Engine.connect("unix:///nowhere/docker.sock")
