"""The batch script for Slurm, run by bash with a stand-in for the loop; `make test-slurm` runs it in a real Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cluster.slurm import print_script
from orchestrator.config import Config
from orchestrator.errors import ConfigError
from tests.support import sessions

LOOP = """
import json, os, signal, sys, time
from pathlib import Path
from orchestrator.walls.container_labels import owner_labels
note = Path(__file__).parent / sys.argv[3]
if sys.argv[3] == "loop":
    ended = []
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: ended.append(0))
    owner = owner_labels(tag="t", experiment_id=1, attempt=1, role="r", dies_in_s=1.0)["autoresearch.owner"]
    (note.parent / "new").write_text(json.dumps([owner, *sys.argv[4:]]))
    (note.parent / "new").rename(note)
    while not ended and "quick" not in sys.argv:
        time.sleep(0.05)
    sys.exit(4)
note.write_text(json.dumps(sys.argv[4:]))
"""


def config_of(tmp_path: Path, **limits: float) -> Config:
    """A task and the time limit of its job."""
    made = sessions.task(tmp_path)
    return made.model_copy(update={"limits": made.limits.model_copy(update={"hours": 8.0, **limits})})


def start(tmp_path: Path, *words: str, ends: str = "NONE") -> "subprocess.Popen[str]":
    """The script as Slurm starts it; its waits are short."""
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\necho {ends}\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    text = print_script(config_of(tmp_path), words, command=(sys.executable, str(tmp_path / "loop.py")))
    assert text.count("term_s=15 ") == 1
    script = tmp_path / "job.sh"
    script.write_text(text.replace("term_s=15 ", "term_s=1 "))
    environment = {
        **os.environ, "SLURM_JOB_ID": "7", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    return subprocess.Popen(["bash", str(script)], env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(found: Callable[[], bool]) -> None:
    """Wait, for a minute at most."""
    until = time.monotonic() + 60
    while not found():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [(signal.SIGTERM, (), 4), (signal.SIGUSR1, (), 4), (signal.SIGTERM, ("stubborn",), 137)],
)
def test_a_signal_of_slurm_ends_the_loop_and_then_what_its_session_left(
    tmp_path: Path, number: int, words: tuple[str, ...], code: int
) -> None:
    """A loop that does not end in time is killed; the session is named as its containers' label names it."""
    job = start(tmp_path, *words)
    wait_for((tmp_path / "loop").exists)
    job.send_signal(number)
    output, _ = job.communicate(timeout=60)
    owner, *_ = json.loads((tmp_path / "loop").read_text())

    assert [owner] == json.loads((tmp_path / "remove-containers").read_text())
    assert code == job.returncode
    assert f"ended by {'USR1' if number == signal.SIGUSR1 else 'TERM'}" in output


def test_a_loop_that_ends_by_itself_leaves_nothing_either(tmp_path: Path) -> None:
    """It may have been killed by the kernel; its exit code is the job's."""
    job = start(tmp_path, "quick")
    output, _ = job.communicate(timeout=60)

    assert (tmp_path / "remove-containers").exists()
    assert 4 == job.returncode
    assert "ended by" not in output


def test_the_session_ends_before_the_limit_that_slurm_has(tmp_path: Path) -> None:
    """`sbatch --time` may give another than the script's."""
    in_three_hours = datetime.now().astimezone() + timedelta(hours=3)
    start(tmp_path, "quick", ends=f"{in_three_hours:%Y-%m-%dT%H:%M:%S}").communicate(timeout=60)
    _, option, hours, *words = json.loads((tmp_path / "loop").read_text())

    assert "--hours" == option
    assert 2.8 < float(hours) < 3.0
    assert ["quick"] == words


def test_a_job_that_ends_too_soon_for_an_experiment_starts_none(tmp_path: Path) -> None:
    """With what to change."""
    soon = datetime.now().astimezone() + timedelta(seconds=90)
    job = start(tmp_path, ends=f"{soon:%Y-%m-%dT%H:%M:%S}")
    output, _ = job.communicate(timeout=60)

    assert 1 == job.returncode
    assert "give it more --time" in output
    assert not (tmp_path / "loop").exists()


def test_the_job_asks_for_what_its_slots_use(tmp_path: Path) -> None:
    """Processors and memory of every slot; GPUs only where there are any."""
    config = config_of(tmp_path).with_profile(cpus=1.5, memory_gb=3.0).model_copy(update={"parallel": 2})

    on_cpus = print_script(config, ())
    on_gpus = print_script(
        config.model_copy(update={"profile": {"gpu": config.active_profile}, "profile_name": "gpu"}), ()
    )

    assert "#SBATCH --cpus-per-task=4\n#SBATCH --mem=8192M\n#SBATCH --signal=B:USR1@120\n" in on_cpus
    assert "--gres" not in on_cpus
    assert "#SBATCH --gres=gpu:2\n" in on_gpus


def test_a_limit_that_leaves_no_time_is_refused(tmp_path: Path) -> None:
    """Before anything waits in a queue."""
    with pytest.raises(ConfigError, match=r"--hours 0.01: .* at least 0\.\d$"):
        print_script(config_of(tmp_path, hours=0.01), ())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--", "--hours", "3"), "--hours: the script sets it itself"),
        (("--", "--propose", "sweep"), "No such option: --propose"),
        (("--run", "a b"), "--run 'a b'"),
    ],
)
def test_words_that_the_loop_would_refuse_are_refused_at_once(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    """Not after hours in a queue."""
    sessions.task(tmp_path)
    done = CliRunner().invoke(app, ["slurm-script", "--task", str(tmp_path), *words])

    assert 0 != done.exit_code
    assert why in f"{done.output}{done.exception}"


def test_odd_names_are_one_word_of_the_shell(tmp_path: Path) -> None:
    """Whatever is in them, nothing of it is run."""
    folder = tmp_path / "a 'b' $(touch oops) @RUN@"
    folder.mkdir()
    script = tmp_path / "job.sh"
    script.write_text(print_script(config_of(folder), ("--model", "m; touch oops"), command=("echo",)))
    environment = {"SLURM_JOB_ID": "7", "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)

    assert "--model m; touch oops" in done.stdout
    assert not list(tmp_path.rglob("oops"))
