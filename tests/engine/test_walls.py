"""What a program finds when it looks around inside; one wall per test, on the real engine."""

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import compose
from orchestrator.config import Config, load
from orchestrator.errors import ConfigError, SandboxError
from orchestrator.events import ContainerStarted, Event
from orchestrator.execution.experiment import ContainerRunner
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role, Status
from orchestrator.walls.experiment_sandbox import ExperimentSandbox
from orchestrator.walls.inspect_diff import PODMAN_OWN
from orchestrator.walls.spec import ContainerSpec
from tests.support.boxes import ENVIRONMENT, ROOT, Boxes

GIB = 1 << 30

pytestmark = pytest.mark.engine
UNTRUSTED = (Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B)


def asked(boxes: Boxes, source: str) -> object:
    """What a program prints as JSON."""
    result = boxes.run("import json, os\n" + source)

    assert 0 == result.exit_code, result.log_tail
    return json.loads(result.log_tail.splitlines()[-1])


def candidate_of(source: str) -> Candidate:
    """A train.py, ready to run."""
    reply = Reply(proposer="test", model="", prompt="", text="")
    proposal = Proposal(hypothesis="none")
    return Candidate(proposal=proposal, source=source, parent_id=None, parent_source="", reply=reply)


def test_there_is_no_network(boxes: Boxes) -> None:
    """The loopback interface only, and no route."""
    assert [["lo"], 1] == asked(
        boxes, "print(json.dumps([os.listdir('/sys/class/net'), len(open('/proc/net/route').readlines())]))"
    )


def test_the_root_is_read_only_and_the_mounts_are_the_declared_ones(boxes: Boxes) -> None:
    """What is writable is what the spec declares; only the cache is executable among it."""
    mounts = asked(
        boxes, "print(json.dumps([[word[:60] for word in line.split()[1:4]] for line in open('/proc/mounts')]))"
    )
    assert isinstance(mounts, list)
    of_program = [m for m in mounts if not m[0].startswith(("/proc", "/sys", "/dev"))]
    writable = {where: how for where, _, how in of_program if how.split(",")[0] == "rw"}

    assert {"/tmp", "/cache"} == set(writable)
    assert "noexec" in writable["/tmp"] and "noexec" not in writable["/cache"]
    assert all("nosuid" in how and "nodev" in how for how in writable.values())
    assert {"/", "/locked", "/mutable/train.py"} <= {where for where, _, _ in of_program}


def test_there_are_no_privileges(boxes: Boxes) -> None:
    """No capability in any set, no way to gain one, our own filter, not root."""
    status = asked(
        boxes, "print(json.dumps(dict(l.strip().split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)))"
    )
    assert isinstance(status, dict)

    assert {"0" * 16} == {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert ("1", "2") == (status["NoNewPrivs"], status["Seccomp"])
    assert {"65532"} == set(status["Uid"].split()) | set(status["Gid"].split()) | set(
        status["Groups"].split() or ["65532"]
    )


def test_the_environment_is_the_allowlist(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the host's environment is not in the container's, nor in what the engine was told."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-5f3d2c1b")
    monkeypatch.setenv("HTTPS_PROXY", "http://canary-5f3d2c1b@127.0.0.1:9")
    found = asked(boxes, "print(json.dumps([dict(os.environ), open('/proc/1/cmdline').read()]))")
    files = "".join(path.read_text() for path in boxes.folder.glob("trainer.*"))

    assert "canary-5f3d2c1b" not in json.dumps(found) + files
    assert "AUTORESEARCH_STARTED" in json.dumps(found)


def test_an_image_s_own_variables_are_emptied(boxes: Boxes, image_id: str, unique: str) -> None:
    """Public images set many, so one that does still starts; none reaches a program, and no device with it."""
    source = f"""FROM {image_id}
ENV GPG_KEY=a PYTHON_VERSION=3.11 LD_LIBRARY_PATH=/usr/local/nvidia/lib NVIDIA_VISIBLE_DEVICES=all CUDA_VERSION=13
ENV PYTHONSTARTUP=/tmp/evil.py HTTPS_PROXY=http://127.0.0.1:9
LABEL maintainer=somebody
ENTRYPOINT ["/bin/false"]
CMD ["python3"]
"""
    subprocess.run(["docker", "build", "-q", "-t", unique, "-"], input=source.encode(), check=True, capture_output=True)
    try:
        there = replace(boxes, image_id=boxes.engine.image_id(unique))
        found = asked(there, "print(json.dumps({k: v for k, v in os.environ.items() if v}))")
    finally:
        boxes.engine._api.remove_image(unique)
    assert isinstance(found, dict)

    assert {**ENVIRONMENT, "NVIDIA_VISIBLE_DEVICES": "void"}.items() <= found.items()
    added = {"AUTORESEARCH_STARTED", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", *PODMAN_OWN}
    assert found.keys() <= ENVIRONMENT.keys() | added


def test_the_guard_can_neither_be_killed_nor_stopped_nor_read(boxes: Boxes) -> None:
    """PID 1 is out of reach of what it guards."""
    source = """
import signal
for number in range(1, 65):
    try: os.kill(1, number)
    except OSError: pass
tried = []
for path in ('/proc/1/mem', '/proc/1/environ', '/proc/1/maps', '/proc/1/fd/0'):
    try: open(path, 'rb').read(1); tried.append(path)
    except OSError: pass
print(json.dumps([tried, os.getppid()]))
"""
    assert [[], 1] == asked(boxes, source)


def test_the_scorer_shares_no_file_with_what_is_untrusted(boxes: Boxes, tmp_path: Path) -> None:
    """Not one inode of a mounted file: a page cache that was written to through one would be read through the other."""
    config = load(ROOT, {"tag": tmp_path.name[:40], "runs": tmp_path})
    place = compose.build_execution_context(config, boxes.engine)
    with ExperimentSandbox.open(place, candidate_of("pass"), plan(), experiment_id=1, folder=tmp_path) as box:
        inodes = {role: read_by(box.spec(role, None)) for role in (*UNTRUSTED, Role.SCORER)}

    assert inodes[Role.SCORER]
    assert all(inodes[role] and not inodes[role] & inodes[Role.SCORER] for role in UNTRUSTED)


def test_two_experiments_of_one_tag_and_number_share_no_name(boxes: Boxes, tmp_path: Path) -> None:
    """Two users whose tag is the date: all users of an engine share its names."""
    place = compose.build_execution_context(load(ROOT, {"tag": "nov26", "runs": tmp_path}), boxes.engine)
    names = []
    for folder in (tmp_path / "one", tmp_path / "another"):
        folder.mkdir()
        with ExperimentSandbox.open(place, candidate_of("pass"), plan(), experiment_id=1, folder=folder) as box:
            names.append({*box._volumes(), box.spec(Role.TRAINER, None).name})

    assert not names[0] & names[1]
    assert all(name.startswith(f"autoresearch-{os.getuid()}-nov26-0001-1-") for name in names[0] | names[1])


SLEEPS = "import time\ntime.sleep(60)"


def test_a_locked_file_that_changed_is_a_cheat(boxes: Boxes, tmp_path: Path) -> None:
    """Whatever else came of it: a person should look, and nothing runs it again by itself."""
    config = load(ROOT, {"tag": tmp_path.name[:40], "runs": tmp_path})

    def break_out(event: Event) -> None:  # as a broken kernel would allow
        if isinstance(event, ContainerStarted) and event.role is Role.TRAINER:
            next(tmp_path.glob(".private-*/scorer/locked/score.py")).write_text("print('val_bpb: 0.1')")

    runner = ContainerRunner(place=compose.build_execution_context(config, boxes.engine), record=break_out)
    trial = runner.run(candidate_of("raise SystemExit(1)"), plan(), experiment_id=1, folder=tmp_path, best=None)

    assert Status.CHEAT is trial.failure
    assert "only code that broke out can do: scorer/locked/score.py" in trial.message


@pytest.mark.parametrize("role", [Role.TRAINER, Role.PREDICTOR_A, Role.PREDICTOR_B])
def test_a_run_that_is_ended_early_says_nothing_of_the_patch(boxes: Boxes, tmp_path: Path, role: Role) -> None:
    """At any moment: it was us, at once, and the next run goes on as usual."""
    config, interrupted = load(ROOT, {"tag": tmp_path.name[:40], "runs": tmp_path}), list[Event]()
    runner = ContainerRunner(place=compose.build_execution_context(config, boxes.engine))

    def interrupt(event: Event) -> None:
        if isinstance(event, ContainerStarted) and event.role is role and not interrupted:
            interrupted.append(event)
            runner.end("bob used the device too")

    runner.record, began = interrupt, time.monotonic()
    try:
        ended = runner.run(candidate_of(SLEEPS), plan(), experiment_id=1, folder=tmp_path, best=None)
        said = ended.failure, ended.message
    except SandboxError as error:  # before there was a training
        said = Status.INFRA, str(error)
    took_s = time.monotonic() - began
    usual = runner.run(candidate_of("raise SystemExit(1)"), plan(), experiment_id=2, folder=tmp_path, best=None)

    assert (Status.INFRA, "bob used the device too") == said
    assert took_s < config.active_profile.time_budget_s
    assert Status.CRASH is usual.failure


def test_a_limit_beyond_the_machine_is_refused(boxes: Boxes, tmp_path: Path) -> None:
    """Of one experiment, or of all that would run side by side; what just fits is not."""
    there = boxes.engine.memory_bytes() / GIB

    for parallel, each, said in ((1, there * 1.1, "lower memory_gb"), (4, there * 0.3, "lower either")):
        with pytest.raises(ConfigError, match=rf"memory_gb = .* this machine has \d+\.\d GB; {said}$"):
            compose.build_execution_context(large(tmp_path, parallel, each), boxes.engine)
    compose.build_execution_context(large(tmp_path, 4, there * 0.2), boxes.engine)


def test_more_processors_than_the_machine_has_are_refused(boxes: Boxes, tmp_path: Path) -> None:
    """By the key of task.toml that says so; all of them are not too many."""
    there = boxes.engine.processors()
    wanted = rf"task.toml: \[profile.cpu\] cpus = {there + 1}: this machine has {there}; lower it"
    with pytest.raises(ConfigError, match=wanted):
        compose.build_execution_context(
            load(ROOT, {"tag": "t", "runs": tmp_path, "profile.cpu.cpus": there + 1}), boxes.engine
        )
    compose.build_execution_context(load(ROOT, {"tag": "t", "runs": tmp_path, "profile.cpu.cpus": there}), boxes.engine)


def plan() -> Plan:
    """Seeds that nobody needs to guess."""
    return Plan(train_seed=1, audit_seed=bytes(32))


def large(runs: Path, parallel: int, each: float) -> Config:
    """So many experiments side by side, with so many GB each."""
    return load(ROOT, {"tag": "t", "runs": runs, "parallel": parallel, "profile.cpu.memory_gb": each})


def read_by(spec: ContainerSpec) -> set[tuple[int, int]]:
    """Every file of the host that is mounted into a container."""
    roots = [Path(mount.source) for mount in spec.mounts if not mount.volume]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file()]
    return {(path.stat().st_dev, path.stat().st_ino) for path in files}
