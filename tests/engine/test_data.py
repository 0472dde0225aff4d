"""Data that an engine's own container prepared belongs to you, and an experiment's containers can read it."""

import gzip
import json
import os
import shutil
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attacks.walls.own_engine import own_engine
from orchestrator import compose
from orchestrator.cli.setup import prepare_data
from orchestrator.config import load
from orchestrator.errors import ConfigError, SpecRefused
from orchestrator.execution.experiment import ContainerRunner
from orchestrator.host.data import prepare
from orchestrator.host.source import is_ready, name_corpus
from orchestrator.types import Candidate, Plan, Proposal, Reply, Role
from orchestrator.units import MIB
from orchestrator.walls.container import start
from orchestrator.walls.engine import Engine
from orchestrator.walls.spec import ContainerSpec, Mount
from tests.engine.test_deadline import UNIFORM
from tests.engine.test_engine_restart import load_image, sleeper

ROOT = Path(__file__).parents[2]
REMAPPED = "arremapped"
WRITES = (
    "#include <fcntl.h>\nint main(int n, char **words) { return open(words[n - 1], O_CREAT | O_WRONLY, 0644) < 0; }\n"
)
pytestmark = pytest.mark.engine


def test_what_is_prepared_is_yours_and_an_experiment_reads_it(tmp_path: Path, engine: Engine, unique: str) -> None:
    """On any engine: whoever it takes you for, you can remove the data again."""
    for name in ("locked", "mutable"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", tmp_path / "task.toml")
    corpus = corpus_of_sources(tmp_path / "corpus")
    changed = {"tag": unique, "runs": tmp_path / "runs", "corpus": name_corpus(str(corpus))}
    config = load(tmp_path, {**changed, "profile.cpu.time_budget_s": 60.0})
    place = compose.build_execution_context(config, engine)
    made = prepare(place, str(corpus), place.image_id, lambda _: None)
    owners = {path.stat().st_uid for path in (made, *made.rglob("*"))}
    reply = Reply(proposer="test", model="", prompt="", text="")
    candidate = Candidate(
        proposal=Proposal(hypothesis="uniform"), source=UNIFORM, parent_id=None, parent_source="", reply=reply
    )
    plan = Plan(train_seed=1, audit_seed=bytes(32))
    (tmp_path / "record").mkdir()
    trial = ContainerRunner(place=place).run(candidate, plan, experiment_id=1, folder=tmp_path / "record", best=None)

    assert trial.score is not None, trial.message
    assert 1 == len(owners)
    shutil.rmtree(made)


def test_data_for_a_larger_machine_is_prepared_on_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the processors that there are: who trains on it may have more."""
    shutil.copytree(ROOT / "locked", tmp_path / "locked", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", tmp_path / "task.toml")
    monkeypatch.setenv("AUTORESEARCH_PROFILE__CPU__CPUS", "4096")
    corpus = str(corpus_of_sources(tmp_path / "corpus"))
    prepare_data(task=tmp_path, run="", runs=None, profile="cpu", data=corpus, accept_risk=None)

    assert is_ready(tmp_path / "data" / f"cpu-{name_corpus(corpus)}")


def test_texts_as_people_have_them_are_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parquet, compressed and linked files; what is left out, has changed or is wrong is said once."""
    shutil.copytree(ROOT / "locked", tmp_path / "locked", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "task.toml", tmp_path / "task.toml")
    corpus = corpus_of_sources(tmp_path / "my texts")
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus.glob("*.txt"))]
    shutil.rmtree(corpus)
    (blobs := tmp_path / "blobs").mkdir()
    corpus.mkdir()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), corpus / "a.parquet")
    lines = "".join(json.dumps({"text": f"# {text}"}) + "\n" for text in texts).encode()
    (corpus / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (blobs / "0123").write_bytes(pa.compress(lines.replace(b"# ", b"## "), codec="zstd", asbytes=True))
    (corpus / "c.jsonl.zst").symlink_to(blobs / "0123")
    (corpus / "d.md").write_text("not read")
    options = {"task": tmp_path, "run": "", "runs": None, "profile": "cpu", "data": str(corpus), "accept_risk": None}
    prepare_data(**options)
    first = capsys.readouterr().out
    prepare_data(**options)
    again = capsys.readouterr().out
    (corpus / "e.jsonl").write_text('{"text": "x"}\n{"text"\n')

    assert is_ready(tmp_path / "data" / f"cpu-{name_corpus(str(corpus))}")
    assert (
        "data: left out: 1 file (1 .md): only .txt, .jsonl (also as .gz or .zst) and .parquet files are read" in first
    )
    assert "" == again
    with pytest.raises(ConfigError) as caught:
        prepare_data(**options)
    assert f"--data: {corpus}/e.jsonl line 2 is no JSON object: fix or remove it" == str(caught.value)
    out = capsys.readouterr().out
    assert "is not what was prepared (1 file added: e.jsonl): preparing it anew" in out
    assert "line 2" not in out
    assert is_ready(tmp_path / "data" / f"cpu-{name_corpus(str(corpus))}")


def corpus_of_sources(folder: Path) -> Path:
    """This project's own sources as texts."""
    folder.mkdir()
    for number, path in enumerate(sorted([*ROOT.glob("*/*.py"), *ROOT.glob("*/*/*.py"), *ROOT.glob("*/*.md")])):
        if ".venv" not in path.parts:
            (folder / f"{number}.txt").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def test_an_engine_that_remaps_users_writes_its_volumes_and_your_files(
    tmp_path: Path, seccomp: str, unique: str
) -> None:
    """As `userns-remap`: what writes files of yours is no user of the map; a volume is for one who is."""
    subprocess.run(["useradd", "--system", REMAPPED], check=False, capture_output=True)
    for name in ("subuid", "subgid"):
        path = Path("/etc", name)
        if REMAPPED not in path.read_text(encoding="utf-8"):
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{REMAPPED}:300000:65536\n")
    staging = tmp_path / "staging"
    staging.mkdir(mode=0o700)
    with own_engine(settings={"userns-remap": REMAPPED}) as address, closing(Engine.connect(address)) as engine:
        user, userns = engine.host_user_mapping()
        os.chown(staging, *map(int, user.split(":")))
        base = sleeper(load_image(address, tmp_path, WRITES), seccomp, unique)
        engine.volume(unique, MIB, base.labels)
        out = Mount(source=unique, target="/out", volume=True, writable=True)
        yours = Mount(source=str(staging), target="/staging", writable=True)
        specs = (
            replace(base, mounts=(out,), program=("/out/here",)),
            replace(base, mounts=(yours,), program=("/staging/here",), role=Role.PREPARE, user=user, userns=userns),
        )
        codes = [ran(engine, spec, tmp_path) for spec in specs]

    assert [0, 0] == codes
    assert staging.stat().st_uid == (staging / "here").stat().st_uid


def ran(engine: Engine, spec: ContainerSpec, folder: Path) -> int | None:
    """The exit code of a container."""
    with start(engine, spec, deadline_s=30.0, folder=folder) as running:
        return running.wait().exit_code


def test_nobody_is_root_where_root_is_root(engine: Engine, seccomp: str, image_id: str, tmp_path: Path) -> None:
    """Root inside is you outside only where the engine itself is."""
    root = replace(sleeper(image_id, seccomp, "root"), role=Role.PREPARE, user="0:0")
    rootful = Engine(engine._api, engine.describe() | {"security": "name=seccomp"})  # whatever this one is

    with pytest.raises(SpecRefused, match="root on an engine that is not rootless"):
        start(rootful, root, deadline_s=30.0, folder=tmp_path)
