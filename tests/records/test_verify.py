"""Tampering is found and named, wherever it happens; what was not touched is intact, wherever it is copied."""

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from orchestrator.errors import RecordFailed
from orchestrator.events import LoopWaiting, SeedsRevealed
from orchestrator.loop import run_session
from orchestrator.record import anchors, experiment_dir
from orchestrator.record.journal import Journal
from orchestrator.record.verify import find_damage
from orchestrator.settings import Recording
from tests.support.journals import begin, candidate, finish, kept, rewrite_format
from tests.support.runs import recorded
from tests.support.sessions import git, parabola, session, task

ROOT = Path(__file__).parents[2]
SAMPLES = {"record.jsonl": 96, "session.log": 48}  # besides first, middle and last byte
DISPOSABLE = ("index.db", "lock")  # not the record; a changed index has a test of its own
OTHERS = 8


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the real loop; tests work on copies."""
    return recorded(tmp_path_factory.mktemp("original"))


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it in another place."""
    return Path(shutil.copytree(original, tmp_path / "t"))


def files(run: Path) -> list[Path]:
    """Every file of a run that has a byte."""
    found = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in found if path.name not in DISPOSABLE]


def verify(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`autoresearch verify`."""
    command = [sys.executable, "-m", "orchestrator", "verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_copy_elsewhere_is_intact(run: Path) -> None:
    """Without the git repository it came from; the command says so for every run in a folder."""
    shutil.copytree(run, run.parent / "other")
    done = verify("--runs", str(run.parent))

    assert [] == list(find_damage(run))
    assert (0, "other: intact\nt: intact\n") == (done.returncode, done.stdout)


def test_a_touched_run_fails_the_command_whichever_it_is(run: Path) -> None:
    """The one written last is not the only one that is looked at; the record is named."""
    other = Path(shutil.copytree(run, run.parent / "other"))
    (run / "0001" / "train.py").write_text("# mine\n")
    (other / "record.jsonl").touch()
    done = verify("--runs", str(run.parent))

    assert 1 == done.returncode
    assert "t: line " in done.stdout
    assert "0001/train.py is not what was written" in done.stdout
    assert "other: intact" in done.stdout


def test_every_flipped_byte_is_found(run: Path) -> None:
    """Sampled over every file of the run, its first, middle and last byte among them."""
    missed = []
    for path in files(run):
        whole = path.read_bytes()
        size, samples = len(whole), SAMPLES.get(path.name, OTHERS)
        for place in sorted({0, size // 2, size - 1, *range(0, size, max(1, size // samples))}):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            if not list(find_damage(run)):
                missed.append(f"{path.relative_to(run)} at {place} of {size}")
        path.write_bytes(whole)

    assert [] == missed
    assert [] == list(find_damage(run))


def test_a_flipped_byte_in_a_line_names_the_line(run: Path) -> None:
    """First, middle and last byte of every line."""
    whole = (run / "record.jsonl").read_bytes()
    start = 0
    for number, line in enumerate(whole.splitlines(keepends=True), start=1):
        for place in {0, len(line) // 2, len(line) - 1}:
            at = start + place
            (run / "record.jsonl").write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
            report = "\n".join(find_damage(run))
            assert f"line {number}: " in report or f"line {number + 1} (" in report, (number, place, report)
        (run / "record.jsonl").write_bytes(whole)
        start += len(line)


@pytest.mark.parametrize("name", ["record.jsonl", "results.tsv", "session.log", "0001/train.py"])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    """Also where the chain does not need it."""
    (run / name).unlink()

    assert any(name.rpartition("/")[2] in finding for finding in find_damage(run))


@pytest.mark.parametrize("name", ["record.jsonl", "results.tsv", "session.log", "0001/train.py"])
def test_a_truncated_file_is_named(run: Path, name: str) -> None:
    """By its last byte, and to nothing."""
    whole = (run / name).read_bytes()
    for size in (len(whole) - 1, 0):
        (run / name).write_bytes(whole[:size])
        assert any(name.rpartition("/")[2] in finding for finding in find_damage(run)), size


def rewrite(run: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the record, as one who also deletes its index."""
    path = run / "record.jsonl"
    lines = change(path.read_text().splitlines())
    path.write_text("".join(line + "\n" for line in lines))
    (run / "index.db").unlink(missing_ok=True)


@pytest.mark.parametrize("number", range(12))
def test_a_deleted_record_is_found(run: Path, number: int) -> None:
    """Wherever it was."""
    rewrite(run, lambda lines: lines[:number] + lines[number + 1 :])

    assert any("does not follow" in finding for finding in find_damage(run))


@pytest.mark.parametrize("number", range(12))
def test_swapped_records_are_found(run: Path, number: int) -> None:
    """Neighbours and strangers."""
    for other in (number + 1, 14):
        rewrite(run, partial(_swapped, one=number, other=other))
        assert any("does not follow" in finding for finding in find_damage(run))


def _swapped(lines: list[str], one: int, other: int) -> list[str]:
    lines = list(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def test_records_cut_off_are_found_up_to_the_last_anchor(run: Path, original: Path) -> None:
    """By the commits, and by the file elsewhere: each alone is enough."""
    with Journal.read(run) as journal:
        first, count, head = journal.span()
    anchor = run.parent / "anchor"
    anchors.write_anchor(anchor, "t", first, count, head)
    assert [] == list(find_damage(run, original.parents[1], anchor))

    rewrite(run, lambda lines: lines[:6])
    by_commit = list(find_damage(run, original.parents[1]))
    by_file = list(find_damage(run, None, anchor))

    assert any("commit" in finding and "names a line that is not in the record" in finding for finding in by_commit)
    assert any(f"line {count} of the record is not the one that was anchored" in finding for finding in by_file)


def test_a_record_written_anew_from_its_start_is_not_the_one_anchored(run: Path, tmp_path: Path) -> None:
    """Another run of the same name, perfect in itself."""
    with Journal.read(run) as journal:
        anchors.write_anchor(tmp_path / "anchor", "t", *journal.span())
    (tmp_path / "anew").mkdir()
    other = recorded(tmp_path / "anew")

    assert [] == list(find_damage(other))
    assert ["began with another line"] == [f[-23:] for f in find_damage(other, None, tmp_path / "anchor")]


def test_records_of_one_day_in_one_repository_have_commits_of_their_own(tmp_path: Path) -> None:
    """Another task, then the first one anew: each is intact from its first record on, and a cut one is still found."""
    one, two = task(tmp_path, 1), task(tmp_path / "two", 1)
    shutil.rmtree(tmp_path / "two" / ".git")
    commits = []
    for config, rate in ((one, "0.03"), (two, "0.03"), (one, "0.04")):
        shutil.rmtree(config.run_path, ignore_errors=True)
        loop, _, _ = session(config, parabola, [rate])
        with loop.journal:
            loop.journal.append(LoopWaiting(reason="nothing is kept yet"))
            assert [] == list(find_damage(config.run_path, config.root))
            run_session(loop)
            commits += [e.commit for e in loop.journal.experiments()]
        assert [] == list(find_damage(config.run_path, config.root))
    assert [] == list(find_damage(two.run_path, two.root))
    assert 6 == len(set(commits))
    assert 3 == len(git(one, "branch", "--list", "autoresearch/t*").splitlines())
    assert "two/mutable/train.py" not in git(one, "ls-tree", "-r", "--name-only", "autoresearch/t")

    for config in (one, two):
        rewrite(config.run_path, lambda lines: lines[:6])
        assert any(
            "names a line that is not in the record" in found for found in find_damage(config.run_path, config.root)
        )


def test_an_earlier_run_that_was_merged_is_not_held_against_the_next(tmp_path: Path) -> None:
    """Its kept commits are in the history of the next one's branch."""
    config = task(tmp_path, 1)
    for tag, rate in (("t", "0.03"), ("u", "0.04")):
        next_one = config.model_copy(update={"tag": tag})
        loop, _, _ = session(next_one, parabola, [rate])
        with loop.journal:
            run_session(loop)
        git(config, "reset", "-q", "--soft", f"autoresearch/{tag}")
        assert [] == list(find_damage(next_one.run_path, tmp_path))


def test_what_has_no_end_is_reported(run: Path) -> None:
    """An experiment that began; files that were added, and a folder that no record tells of."""
    (run / "0002" / "more").touch()
    shutil.copytree(run / "0002", run / "0009")
    rewrite(run, lambda lines: [line for line in lines if not is_end_of(line, 3)])
    said = list(find_damage(run))

    assert "experiment 3: began and has no end; the next session closes it" in said
    assert any("0002/more was added" in finding for finding in said)
    assert "0009: no such experiment is recorded" in said


def test_an_index_kept_while_the_loop_ran_is_the_one_that_the_record_makes(tmp_path: Path) -> None:
    """Whatever the order in which settings and the like were named."""
    with Journal.open(tmp_path) as journal:
        finish(journal, kept(2.0, settings={"time_budget_s": "25", "batch_rows": "8"}))

    assert [] == [line for line in find_damage(tmp_path) if "index.db" in line]


def test_a_changed_index_is_found_and_costs_nothing(run: Path) -> None:
    """What is derived from the record must agree with it: the champion cannot be moved. Deleting it mends it."""
    for change in ("UPDATE experiments SET value = 0.5 WHERE id = 2", "DELETE FROM experiments WHERE id = 2"):
        with sqlite3.connect(run / "index.db") as database:
            database.execute(change)
        database.close()
        expected = "index.db: its experiments are not what the record says; run `autoresearch reindex`"
        assert [expected] == list(find_damage(run))
        (run / "index.db").unlink()
        assert [] == list(find_damage(run))
        Journal.open(run).close()


def test_reindex_rebuilds_what_was_changed(run: Path) -> None:
    """From the record alone, and says so."""
    with sqlite3.connect(run / "index.db") as database:
        database.execute("DELETE FROM experiments")
    database.close()
    command = [sys.executable, "-m", "orchestrator", "reindex", "--runs", str(run.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    count = len((run / "record.jsonl").read_text().splitlines())

    assert (0, f"t: index rebuilt from {count} lines\n") == (done.returncode, done.stdout)
    assert [] == list(find_damage(run))


def test_a_changed_results_tsv_is_found(run: Path) -> None:
    """It is derived from the record, so it can be derived again."""
    (run / "results.tsv").write_text((run / "results.tsv").read_text().replace("0.04", "0.05"))

    assert "results.tsv: not what the record says; the next session writes it again" in list(find_damage(run))


def is_end_of(line: str, experiment_id: int) -> bool:
    """Return whether a line records how an experiment finished."""
    values = json.loads(line)
    return bool(values["kind"] == "experiment.finished" and values["experiment_id"] == experiment_id)


def test_a_seed_that_was_not_committed_is_found(run: Path) -> None:
    """The audit's positions were drawn before the claims were known, or it is said."""
    with Journal.open(run) as journal:
        journal.append(SeedsRevealed(experiment_id=1, train_seed=1, audit_seed="00" * 32))

    assert any("the audit seed is not the one that was committed" in finding for finding in find_damage(run))


def test_a_running_session_is_not_held_against_the_run(run: Path) -> None:
    """Its newest experiment has no end yet."""
    with Journal.open(run):
        assert [] == list(find_damage(run))


def test_a_journal_of_a_newer_version_is_left_alone(run: Path) -> None:
    """It is said, the copy is checked, nothing is overwritten."""
    path = run / "record.jsonl"
    rewrite_format(path, 3)
    before = {path: path.read_bytes() for path in files(run)}
    done = verify("--runs", str(run.parent))

    assert 1 == done.returncode
    assert "newer version" in done.stdout
    assert before == {path: path.read_bytes() for path in files(run)}


def test_the_loop_names_its_heads_elsewhere(tmp_path: Path) -> None:
    """After each experiment and at the end; a place that cannot be written costs a line, not the night."""
    config = task(tmp_path, 1)
    for place in (tmp_path / "anchors", tmp_path / "nowhere" / "anchors"):
        anchored = config.model_copy(update={"recording": Recording(anchor=place)})
        loop, _, _ = session(anchored, parabola, ["0.05"])
        with loop.journal:
            run_session(loop)
    heads = [line.split()[3:] for line in (tmp_path / "anchors").read_text().splitlines()]
    with Journal.read(config.run_path) as journal:
        hashes = {str(one.seq): one.hash for one in journal.events_after(0)}

    assert 3 == len(heads)
    assert all(hashes[seq] == head for seq, head in heads)
    assert not (tmp_path / "nowhere").exists()
    assert [] == list(find_damage(config.run_path, tmp_path, tmp_path / "anchors"))


def test_copies_that_a_killed_session_left_are_no_part_of_the_record(tmp_path: Path) -> None:
    """The next session closes the experiment without them, and the run is intact."""
    config = task(tmp_path, 1)
    loop, _, _ = session(config, parabola, ["0.05"])
    with loop.journal:
        run_session(loop)
        begin(loop.journal, candidate())
        experiment_dir.write_candidate(config.run_path / "0002", candidate())
        (config.run_path / "0002" / ".private-x" / "trainer").mkdir(parents=True)
        (config.run_path / "0002" / ".private-x" / "trainer" / "train.py").touch()
    assert ["experiment 2: began and has no end; the next session closes it"] == list(find_damage(config.run_path))
    loop, _, _ = session(config, parabola, ["0.06"])
    with loop.journal:
        run_session(loop)

    assert [] == list(find_damage(config.run_path))
    assert not list(config.run_path.rglob(".private-*"))


def test_a_full_disk_loses_nothing_that_was_recorded(run: Path) -> None:
    """The error names the file; what was there can be read, and the next session goes on with an intact run."""
    before = (run / "record.jsonl").read_bytes()
    with no_file_larger_than(len(before) + 100), pytest.raises(RecordFailed, match=r"record\.jsonl: .*free"):
        fill(run)
    assert (run / "record.jsonl").read_bytes().startswith(before)
    with Journal.open(run) as journal:
        journal.append(LoopWaiting(reason="fixed"))

    assert [] == list(find_damage(run))


def fill(run: Path) -> None:
    """Record until it fails."""
    with Journal.open(run) as journal:
        for _ in range(1000):
            journal.append(LoopWaiting(reason="x" * 150))


@contextmanager
def no_file_larger_than(limit: int) -> Iterator[None]:
    """As on a full disk: files cannot grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_missing_record_is_named(run: Path) -> None:
    """What is left of the run is compared with nothing, and is no reason to fail."""
    (run / "record.jsonl").unlink()

    first, *others = find_damage(run)

    assert first.endswith("record.jsonl: cannot be read: No such file or directory")
    assert "0000: no such experiment is recorded" not in others  # it may be the next one
    assert "0001: no such experiment is recorded" in others
