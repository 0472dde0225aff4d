"""What the commands that look into a record say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.options import Target
from orchestrator.errors import JournalError
from orchestrator.events import SessionStarted
from orchestrator.look.lineage import lineage_tree
from orchestrator.record.journal import Journal
from orchestrator.record.provenance import statement
from orchestrator.types import Environment
from tests.support import fakes
from tests.support.runs import recorded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept 0, 1 and 3; discarded 2. Nothing here changes it."""
    return recorded(tmp_path_factory.mktemp("records"))


def autoresearch(run: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command on that run."""
    command = [sys.executable, "-m", "orchestrator", *arguments, "--runs", str(run.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_kept_experiment_is_attested(run: Path) -> None:
    """In-toto Statement v1, SLSA provenance v1, every field of them that is required, every digest a SHA-256."""
    with Journal.read(run) as journal:
        said = statement(journal, journal.experiment(3))
        begun = journal.begun(3)
        experiment = journal.experiment(3)
    definition, details = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    dependencies = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"]}

    assert {"_type", "subject", "predicateType", "predicate"} == said.keys()
    assert "https://in-toto.io/Statement/v1" == said["_type"]
    assert "https://slsa.dev/provenance/v1" == said["predicateType"]
    assert [{"name": "train.py", "digest": {"sha256": experiment.source_sha256}}] == said["subject"]
    assert {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"} == definition.keys()
    assert begun.files["parent.py"] == dependencies["parent/train.py"]
    assert begun.seeds.train_seed == definition["externalParameters"]["train_seed"]
    assert {"builder", "metadata", "byproducts"} == details.keys()
    assert details["builder"]["id"].startswith("urn:")
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]
    assert details["metadata"]["startedOn"].endswith("Z")
    assert experiment.commit == details["byproducts"][0]["annotations"]["commit"]
    assert "level" not in json.dumps(said["predicate"]).replace('"level": "L2"', "")


def test_only_kept_experiments_are_attested(run: Path) -> None:
    """A discarded one is no product."""
    with Journal.read(run) as journal, pytest.raises(JournalError, match="was not kept"):
        statement(journal, journal.experiment(2))


def test_a_statement_is_canonical_json_on_the_screen_or_in_a_file(run: Path, tmp_path: Path) -> None:
    """The same bytes every time."""
    shown = autoresearch(run, "provenance", "1").stdout
    assert 0 == autoresearch(run, "provenance", "1", "--out", str(tmp_path / "a.json")).returncode
    again = json.dumps(json.loads(shown), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"

    assert shown == again == (tmp_path / "a.json").read_text()


def test_two_experiments_are_compared_in_any_order(run: Path) -> None:
    """Not only a child with its parent; raw for pipes."""
    forth = autoresearch(run, "diff", "1", "3", "--raw").stdout.splitlines()
    back = autoresearch(run, "diff", "3", "1", "--raw").stdout.splitlines()

    assert ["-LEARNING_RATE = 0.03", "+LEARNING_RATE = 0.04"] == [x for x in forth if "RATE =" in x]
    assert ["-LEARNING_RATE = 0.04", "+LEARNING_RATE = 0.03"] == [x for x in back if "RATE =" in x]
    assert "experiments 1 and 1 have the same file\n" == autoresearch(run, "diff", "1", "1").stdout


@pytest.mark.parametrize("command", [("diff", "0", "1"), ("show", "1")])
def test_in_a_pipe_a_diff_is_one_that_applies(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Neither wrapped nor padded, and with its tabs."""
    long = f"LONG = 0  # {'a long line ' * 12}\n\t# a tab"
    run = recorded(tmp_path, ["0.03"], source=fakes.TRAIN_PY.replace("0.02\n", f"0.02\n{long}\n"))
    (tmp_path / "train.py").write_bytes((run / "0000" / "train.py").read_bytes())
    said = autoresearch(run, *command).stdout
    done = subprocess.run(
        ["git", "apply", "-p1"], cwd=tmp_path, input=said, text=True, capture_output=True, check=False
    )

    assert 0 == done.returncode, done.stderr
    assert (run / "0001" / "train.py").read_bytes() == (tmp_path / "train.py").read_bytes()


def test_in_a_pipe_a_list_is_not_cut(tmp_path: Path) -> None:
    """As long as what was tried."""
    rate = "0.03" + "0" * 150
    run = recorded(tmp_path, [rate])

    assert f"try LEARNING_RATE = {rate}" in autoresearch(run, "status").stdout


def test_a_log_is_harmless_unless_it_is_asked_for_as_it_is(run: Path, tmp_path: Path) -> None:
    """Escape sequences that found their way into the file reach no terminal; a log that is not there is named."""
    other = recorded(tmp_path)
    (other / "0001" / "trainer.log").write_bytes(b"[    0.001 out] \x1b]0;title\x07red \xff\n")
    raw = [sys.executable, "-m", "orchestrator", "logs", "1", "--raw", "--runs", str(other.parent)]

    assert "[    0.001 out] red \ufffd\n" == autoresearch(other, "logs", "1").stdout
    assert b"[    0.001 out] \x1b]0;title\x07red \xff\n" == subprocess.run(raw, capture_output=True, cwd=ROOT).stdout  # noqa: PLW1510
    assert "logs of this experiment: trainer" in autoresearch(other, "logs", "1", "--role", "scorer").stderr
    (other / "0001" / "trainer.log").rename(other / "0001" / "scorer.log")
    assert "red" in autoresearch(other, "logs", "1").stdout  # where nothing is trained


def test_the_lineage_is_a_tree_of_what_was_kept(run: Path) -> None:
    """Each under the one it was made from, the best named."""
    with Journal.read(run) as journal:
        top = lineage_tree(journal)
    (baseline,) = top.children
    (first,) = baseline.children
    (second,) = first.children

    assert ["0", "1", "3"] == [str(one.label).split()[0] for one in (baseline, first, second)]
    assert "best" in str(second.label)
    assert [0, 1, 3] == [one["id"] for one in json.loads(autoresearch(run, "lineage", "--json").stdout)]


def test_an_experiment_that_does_not_exist_is_named(run: Path) -> None:
    """One line, which command lists those there are, and a failure."""
    for arguments in (("show", "77"), ("diff", "0", "77"), ("logs", "77"), ("provenance", "77")):
        done = autoresearch(run, *arguments)
        assert 1 == done.returncode
        assert "no finished experiment 77; `autoresearch status` lists them" in done.stderr.replace("\n", "")


def test_a_start_that_failed_is_no_run_to_look_at(tmp_path: Path) -> None:
    """The newest run is the newest that began an experiment; one that is just about to can be watched."""
    run = recorded(tmp_path)
    with Journal.open(run.parent / "failed") as journal:
        journal.append(SessionStarted(task="t", metric="m", proposer="p", environment=Environment()))
        assert [run, journal.folder] == Target(task=tmp_path).run_dirs()

    assert [run] == Target(task=tmp_path).run_dirs()
    assert "t" == json.loads(autoresearch(run, "status", "--json").stdout)["tag"]


def test_a_misspelt_run_is_not_made_by_a_command_that_goes_on_with_it(run: Path) -> None:
    """Nor is one whose experiment is not there."""
    for arguments in (("1", "--run", "mistake"), ("77",)):
        assert 1 == autoresearch(run, "confirm", *arguments).returncode

    assert [run] == sorted(run.parent.iterdir())


@pytest.mark.parametrize("name", ["index.db", "record.jsonl"])
def test_a_damaged_record_is_still_shown(tmp_path: Path, name: str) -> None:
    """What can be read is, with a word on the damage; nothing is overwritten."""
    run = recorded(tmp_path)
    whole = (run / name).read_bytes()
    for damaged in (b"no database" * 100, whole[: len(whole) // 2], whole[:5000] + bytes(5000) + whole[10000:]):
        (run / name).write_bytes(damaged)
        shown = autoresearch(run, "show", "1")
        listed = json.loads(autoresearch(run, "status", "--json").stdout)

        assert 0 == shown.returncode, shown.stderr
        assert "LEARNING_RATE = 0.03" in shown.stdout
        assert (name == "record.jsonl") == ("damaged: " in shown.stdout + shown.stderr)
        assert (name == "index.db") == ("index.rebuilt_in_memory" in shown.stderr)
        assert [0, 1, 2, 3] == [one["id"] for one in listed["experiments"]]
        metric = "value" if damaged.startswith(b"no database") and name == "record.jsonl" else "val_bpb"
        assert [1.03, 1.02, 1.85, 1.01] == [one[metric] for one in listed["experiments"]]
        assert 3 == listed["best"]
        assert damaged == (run / name).read_bytes()


def test_a_log_with_an_endless_line_is_shown_in_part(tmp_path: Path) -> None:
    """Its head and its tail; --raw copies it piece by piece."""
    run = recorded(tmp_path)
    with (run / "0001" / "trainer.log").open("wb") as file:
        file.write(b"first")
        file.seek(1 << 30)
        file.write(b"last\n")
    shown = autoresearch(run, "logs", "1").stdout

    assert shown.startswith("first")
    assert shown.endswith("last\n")
    assert "bytes not shown]" in shown
    assert len(shown) < 10 << 20
