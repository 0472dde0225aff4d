"""What the benchmark of the overhead runs by hand, with an engine's command that only writes down what it is given."""

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import bare_docker
from benchmarks.bare_docker import Cycle, describe, run_script
from orchestrator.config import load
from orchestrator.scoring.thresholds import UNBOUNDED
from orchestrator.types import Plan, Role
from orchestrator.walls.create_body import create_body
from orchestrator.walls.execution_context import ExecutionContext
from orchestrator.walls.experiment_sandbox import SEED, TRAINED, ExperimentSandbox

DOCKER = """#!/bin/bash
all="$*"
echo "${all:0:100} | $(ls {control} | tr '\\n' ' ')" >> {log}  # at once: three run side by side
case "$*" in
    "run --detach "*) ;;
    "run "*) echo "training_seconds: 3.0" ;;
    "logs --follow "*) echo '{"event": "rehearsed"}'; echo '{"event": "claims"}' ;;
    "logs "*) echo '{"event": "{outcome}"}' ;;
esac
"""


@pytest.fixture
def box(tmp_path: Path) -> ExperimentSandbox:
    """The surroundings of an experiment of the cpu profile, on no engine."""
    config = load(Path(__file__).parents[1], {"tag": "t", "runs": tmp_path, "profile_name": "cpu"})
    engine, private = cast("Any", None), tmp_path / "private"
    place = ExecutionContext(
        engine=engine, config=config, image_id=f"sha256:{'a' * 64}", seccomp="{}", thresholds=UNBOUNDED, cpuset="0-1"
    )
    plan = Plan(train_seed=1, audit_seed=bytes(32))
    return ExperimentSandbox(
        place=place, plan=plan, experiment_id=1, attempt=1, folder=tmp_path, private=private, name="bare", hashes={}
    )


def install(box: ExperimentSandbox, monkeypatch: pytest.MonkeyPatch, outcome: str = "score") -> Path:
    """Put the command first on the path; return where it writes down what it is given."""
    docker, log = box.folder / "bin" / "docker", box.folder / "calls"
    docker.parent.mkdir()
    text = DOCKER.replace("{control}", str(box.private / "control")).replace("{log}", str(log))
    docker.write_text(text.replace("{outcome}", outcome))
    docker.chmod(0o700)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    return log


def test_the_script_does_what_an_experiment_does(box: ExperimentSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes, three that wait, the trainer; the scorer may begin after it, and gets the seed when A is dead."""
    log = install(box, monkeypatch)

    cycle = run_script(box, box.folder)

    words, given = zip(*(line.split(" | ") for line in log.read_text().splitlines()), strict=True)
    assert ["volume create"] * 5 == [" ".join(one.split()[:2]) for one in words[:5]]
    assert ["run --detach"] * 3 == [" ".join(one.split()[:2]) for one in words[5:8]]
    assert [f"run --read-only|{box.name}-trainer", "logs --follow", f"kill {box.name}-predictor-a"] == [
        f"{words[8][:15]}|{words[8].partition('--name=')[2].split()[0]}", words[9][:13], words[10]
    ]  # fmt: skip
    assert ["wait", "logs", "rm", "volume"] == [one.split()[0] for one in words[11:]]
    assert (False, True) == (TRAINED in given[8], TRAINED in given[9])
    assert (False, True) == (SEED in given[10], SEED in given[11])
    assert (3.0, 4) == (cycle.training_s, len(cycle.parts))
    assert cycle.overhead_s == pytest.approx(sum(cycle.parts), abs=0.5)


def test_each_container_gets_the_flags_of_an_experiment(box: ExperimentSandbox) -> None:
    """As many mounts, limits and variables as the engine is asked for, each by its name and value."""
    for role in (Role.TRAINER, Role.PREDICTOR_A, Role.SCORER):
        spec = box.spec(role, None)
        body, argv = create_body(spec), bare_docker.docker_run(spec, box.folder / "seccomp.json")

        host = body["HostConfig"]
        assert [f"--mount={bare_docker.mount_flag(one)}" for one in host["Mounts"]] == [
            word for word in argv if word.startswith("--mount=")
        ]
        assert body["Env"] == [word.removeprefix("--env=") for word in argv if word.startswith("--env=")]
        assert len(host["Ulimits"]) == len([word for word in argv if word.startswith("--ulimit=")])
        assert body["Cmd"] == argv[-len(body["Cmd"]) :]
        for flag in (
            "--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--cpuset-cpus=0-1",
            f"--memory={host['Memory']}", f"--pids-limit={host['PidsLimit']}", f"--user={spec.user}",
        ):  # fmt: skip
            assert flag in argv


def test_a_script_without_a_score_is_no_round(box: ExperimentSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the benchmark, with what it printed."""
    install(box, monkeypatch, outcome="refused")

    with pytest.raises(SystemExit, match="refused"):
        run_script(box, box.folder)


def test_the_last_line_is_the_median_of_the_rounds() -> None:
    """Each round's overhead as a multiple of that of `docker run` next to it."""
    loop = [Cycle(whole_s=9 + extra, training_s=5, parts=(1.0, 1, 1, 1 + extra)) for extra in (0.0, 0.4, 9)]
    bare = [Cycle(whole_s=9, training_s=5, parts=(1.0, 1, 1, 1))] * 3

    lines = list(describe(loop, bare))

    assert "overhead: 1.10 x bare docker" == lines[-1]
    assert json.loads(f"[{lines[-2].removeprefix('ratios: ').partition(';')[0]}]") == [1.0, 1.1, 3.25]
