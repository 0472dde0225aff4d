"""`make test-gpu`, and make where nvidia-smi fails: each reason why nothing can be tested is told apart."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_day import contained, machine
from gpu_day.direct import Direct, answered, leased, prepared, read_message, read_messages, trained
from gpu_day.record import TrialFailedError
from gpu_day.watch import Watch
from orchestrator.scoring.messages import CheckpointMessage, ClaimsMessage, RehearsedMessage, ScoreMessage
from orchestrator.walls import nvidia
from tests.support.boxes import ROOT
from tests.support.fake_nvml import Machine

MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH to put programs on; `make` finds its own besides."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("PROFILE", raising=False)
    return folder


def says(folder: Path, name: str, text: str, code: int = 0) -> None:
    """A program that prints a text."""
    (folder / name).write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    (folder / name).chmod(0o755)


def make(commands: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """What make would do, or says."""
    path = f"{commands}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return subprocess.run(
        ["/usr/bin/make", *words], cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def direct(tmp_path: Path, **changes: object) -> Direct:
    """The direct way on the cpu profile."""
    return replace(Direct(profile="cpu", folder=tmp_path, seconds=1.0), **changes)  # type: ignore[arg-type]


def test_a_driver_that_fails_is_no_machine_without_a_gpu(commands: Path) -> None:
    """Make stops with what nvidia-smi said, and goes on if the profile was given; without nvidia-smi it is cpu."""
    says(commands, "nvidia-smi", MISMATCH, 18)
    stopped, given = make(commands, "profile"), make(commands, "profile", "PROFILE=gpu")
    (commands / "nvidia-smi").unlink()
    without = make(commands, "-n", "cost")
    says(commands, "nvidia-smi", "GPU 0: NVIDIA H100")
    found = make(commands, "-n", "cost")

    assert 0 != stopped.returncode
    assert f"nvidia-smi is here, but fails: {MISMATCH}; fix the driver" in stopped.stderr
    assert 0 == given.returncode, given.stderr
    assert "--profile 'cpu'" in without.stdout
    assert "--profile 'gpu'" in found.stdout


def test_an_engine_that_hands_out_no_gpu_is_named_before_an_image_is_built(commands: Path) -> None:
    """It would be minutes of building for nothing."""
    planned = make(commands, "-n", "loop", "PROFILE=gpu").stdout

    assert planned.index("-m orchestrator.walls.nvidia") < planned.index("autoresearch loop")  # which builds it


def test_a_fresh_clone_with_the_image_gets_what_its_containers_are_started_with(commands: Path) -> None:
    """`make image PROFILE=gpu && make test-gpu` makes the virtual environment; without an engine none is needed."""
    says(commands, "docker", "[]")
    with_image = make(commands, "-n", "test-gpu", "BIN=/nowhere")
    says(commands, "docker", "no such image", 1)
    ran = make(commands, "test-gpu", "BIN=/nowhere")

    assert "-s setup" in with_image.stdout
    assert "setup:" not in ran.stdout + ran.stderr
    assert "there is no NVIDIA GPU to use here" in ran.stderr


@pytest.mark.parametrize(
    ("code", "said"), [(None, "neither nvidia-smi nor torch knows one"), (18, f"nvidia-smi fails: {MISMATCH}; fix")]
)
def test_why_there_is_no_gpu_is_said(commands: Path, code: int | None, said: str) -> None:
    """A broken driver is not a machine without one."""
    if code is not None:
        says(commands, "nvidia-smi", MISMATCH, code)
    with pytest.raises(TrialFailedError, match=said):
        machine.gpus()


def test_the_walls_are_left_out_only_where_there_can_be_none(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not because an image is missing: that has a fix."""
    nothing = contained.why_not()
    says(commands, "docker", "Cannot connect to the Docker daemon", 1)
    silent = contained.why_not()
    (commands / "docker").write_text('#!/bin/sh\n[ "$1" = version ] && echo 29.7.1\n')
    with pytest.raises(
        TrialFailedError, match=r"autoresearch-sandbox:gpu is not there: make image PROFILE=gpu; or --direct"
    ):
        contained.why_not()
    says(commands, "docker", "[]")

    assert ("there is no docker command", "no engine answers: ") == (nothing, silent)
    assert "" == contained.why_not()
    monkeypatch.setattr(nvidia, "is_missing", lambda info: info == {"Name": "here"})
    says(commands, "docker", '{"Name": "here"}')

    assert "the engine hands out no NVIDIA GPU" in contained.why_not()


def test_a_run_in_containers_is_what_its_record_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures; a loop that fails, or a baseline without a score, ends with one line."""
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    monkeypatch.setattr(contained, "OWN", python)
    record = tmp_path / "test-gpu/0000"
    record.mkdir(parents=True)
    ended = '"executions":[{"role":"trainer","ended_s":240.0},{"role":"scorer","ended_s":249.0}]'
    told = '"self_reported":{"tokens_per_second":5.0}'
    check = direct(tmp_path, profile="gpu", seconds=240.0, small_audit=True)

    def loop(score: str, code: int = 0) -> None:
        result = f'{{"experiment":{{"score":{score},"status":"oom","reason":"killed for memory"}},{ended},{told}}}'
        (record / "result.json").write_text(result)
        says(python.parent, "python", '"$AUTORESEARCH_PROFILE__GPU__LARGE_K"', code)

    loop('{"value":1.5,"level":"L2"}')
    trial = contained.baseline(check)
    assert {"val_bpb": 1.5, "scoring_seconds": 9.0, "tokens_per_second": 5.0} == trial.figures
    assert ("L2", 240.0) == (trial.level, trial.budget_s)
    loop("null")
    with pytest.raises(TrialFailedError, match="the baseline has no score: oom: killed for memory"):
        contained.baseline(check)
    loop("null", 3)
    with pytest.raises(TrialFailedError, match="`autoresearch prepare-data` ended with exit code 3, see above"):
        contained.baseline(check)


def test_what_the_caller_brought_along_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own files come first, and prepared data is taken as it is."""
    monkeypatch.setenv("PYTHONPATH", "/carried/packages")
    check = direct(tmp_path, data=ROOT / "data" / "cpu-python")

    assert f"{ROOT}/locked:{ROOT}/orchestrator/runtime:/carried/packages" == check.environment()["PYTHONPATH"]
    assert ROOT / "data" / "cpu-python" == prepared(check, {})
    with pytest.raises(TrialFailedError, match="holds no prepared data; name a folder with tokenizer, train"):
        prepared(replace(check, data=tmp_path), {})


def test_a_small_audit_is_that_of_any_experiment(tmp_path: Path) -> None:
    """So that it all fits into ten minutes."""
    assert (512, 32768) == (
        direct(tmp_path, profile="gpu", small_audit=True).box()["large_k"],
        direct(tmp_path, profile="gpu").box()["large_k"],
    )


def test_a_gpu_that_cannot_be_leased_ends_it_with_one_line(tmp_path: Path) -> None:
    """And says how to do without on a machine of one's own."""
    Machine(tmp_path, init=18)
    expected = r"driver and library versions differ.* --no-lease does without"
    with pytest.raises(TrialFailedError, match=expected), leased("gpu"):
        pass
    with leased("gpu", wanted=False) as device:
        assert device is None


def test_a_training_that_outlives_its_deadline_has_been_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each line as it comes; what the training started holds nothing up."""
    monkeypatch.setattr("gpu_day.direct.TRAIN", "import runpy; runpy.run_path(sys.argv[3])")
    train = tmp_path / "train.py"
    train.write_text(
        "import subprocess, time\nprint('step 1', flush=True)\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)\n"
    )
    check, box = direct(tmp_path, train=train), {"time_budget_s": 1.0, "grace_s": 0.5, "score_budget_s": 1.0}
    began = time.monotonic()
    with pytest.raises(TrialFailedError, match=r"still running at its deadline, 1\.5 s"):
        trained(check, tmp_path, tmp_path, box, check.environment(), Watch())
    train.write_text("print('no such shape')\nraise SystemExit(3)\n")
    with pytest.raises(TrialFailedError, match="ended with exit code 3: no such shape"):
        trained(check, tmp_path, tmp_path, box, check.environment(), Watch())

    assert time.monotonic() - began < 20
    assert "step 1" in (heard := capfd.readouterr().out)
    assert "no such shape" in heard


def test_a_predictor_that_dies_ends_the_scoring(tmp_path: Path) -> None:
    """At once, and not when the scorer has waited for it long enough."""
    for name in ("control", "data", "ask-a", "ask-b", "answer-a", "answer-b"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "val").symlink_to(ROOT / "data" / "cpu-python" / "val")
    check, began = direct(tmp_path), time.monotonic()
    waiting = {name: subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) for name in "ab"}
    output = answered(tmp_path, waiting, check.box(), check.environment(), 60.0)
    for predictor in waiting.values():
        predictor.wait()

    assert "val_bpb" not in output
    assert time.monotonic() - began < 30


def test_the_scorer_is_read_as_the_host_reads_it() -> None:
    """The figures of its messages under the record's names; two scores are none, and log text means nothing."""
    score = ScoreMessage(
        event="score", metric="val_bpb", value=1.0123456789, level="L2", standard_error=1e-6, audited_positions=512,
        max_difference=0.02, mean_difference=-1e-4,
    )  # fmt: skip
    claims = ClaimsMessage(event="claims", sha256="ab" * 32)
    messages = [
        CheckpointMessage(event="checkpoint", sha256="cd" * 32, bytes=7),
        RehearsedMessage(event="rehearsed", predictor="a", load_seconds=1.5),
        RehearsedMessage(event="rehearsed", predictor="b", load_seconds=2.5),
        claims,
        score,
    ]
    lines = ["2097152 tokens, 8388608 bytes to score on", "[1]", *(m.model_dump_json() for m in messages)]
    loaded = {"checkpoint_bytes": 7, "load_seconds_a": 1.5, "load_seconds_b": 2.5}

    assert loaded | {
        "val_bpb": 1.0123456789, "standard_error": 1e-6, "audited_positions": 512, "max_difference_nats": 0.02,
        "mean_difference_nats": -1e-4,
    } == read_messages("\n".join(lines))  # fmt: skip
    assert loaded == read_messages("\n".join([*lines, score.model_dump_json()]))
    assert "claims" == read_message(claims.model_dump_json() + "\n")["event"]
