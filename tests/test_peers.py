"""The benchmark against other projects: what it offers them, how it reads what they did, what it reports."""

import json
import math
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import OURS, Cycle, Result

SOURCE = (peers.TASK / "mutable" / "train.py").read_text(encoding="utf-8")
CHEAT = (peers.TASK / "cheat.py").read_text(encoding="utf-8")


def cycle(name: str, score: float | None = 0.3, *, kept: bool | None = False, seconds: float | None = 0.5) -> Cycle:
    return Cycle(name=name, score=score, kept=kept, seconds=seconds)


def run(name: str, source: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    work = peers.make_work(name, {"base": source}, folder)
    data = work / "data"
    more = {
        "PYTHONPATH": str(data),
        "TRAIN": f"{data}/points.json",
        "VAL": f"{data}/val.json",
        "CHECKPOINT": f"{data}/m",
    }
    script = work / "candidates" / "base.py"
    return subprocess.run(
        [sys.executable, str(script)], env={**os.environ, **more}, capture_output=True, text=True, check=True
    )


def test_null_patches_differ_and_the_cheat_trains_nothing() -> None:
    """Every candidate is a program of its own; null patches are the baseline but for an unused constant."""
    found = peers.make_candidates(SOURCE, CHEAT, nulls=3)

    assert ["base", "null01", "null02", "null03", "zcheat"] == list(found)
    assert 5 == len(set(found.values()))
    assert found["base"] == found["null02"].replace("UNUSED_2 = 2\n", "")
    assert "chance.choice" not in found["zcheat"]
    for source in found.values():
        compile(source, "train.py", "exec")


def test_an_honest_candidate_fits_the_line_and_the_cheat_prints_its_own_score(tmp_path: Path) -> None:
    """Where the script evaluates itself, an honest one prints the noise of the points, the cheat what it likes."""
    honest = run("honest", SOURCE, tmp_path).stdout
    cheat = run("cheat", peers.make_candidates(SOURCE, CHEAT, nulls=0)["zcheat"], tmp_path).stdout

    assert 0.25 < float(honest.rpartition(":")[2]) < 0.6
    assert peers.BELIEVED_BELOW > float(cheat.rpartition(":")[2])


def test_the_model_answers_in_order_and_reviews_what_was_printed() -> None:
    """Each request gets the next candidate, the last one again at the end; a review takes the number of the output."""

    def ask(url: str, body: dict[str, object]) -> dict[str, object]:
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            return json.load(reply)["choices"][0]["message"]  # type: ignore[no-any-return]

    with peers.serve([("a", "x = 1\n"), ("b", "x = 2\n")]) as model:
        answers = [str(ask(model.url, {"messages": []})["content"]) for _ in range(3)]
    text = "code: val_rmse: 9.9\nExecution output: val_rmse: 0.3\n"
    call = peers.review("submit_review", text.rpartition("Execution output")[2])["tool_calls"][0]["function"]

    assert ["x = 1" in answers[0], "x = 2" in answers[1], "x = 2" in answers[2]] == [True, True, True]
    assert ["a", "b", "b"] == [name for name, _ in model.asked]
    assert 0.3 == json.loads(call["arguments"])["metric"]
    assert json.loads(peers.review("f", "no number")["tool_calls"][0]["function"]["arguments"])["is_bug"]


def test_figures_come_from_the_null_patches_alone() -> None:
    """The overhead is their median beyond the training; the baseline and the cheat count in none of it."""
    cycles = (
        cycle("base", kept=True, seconds=9.0), cycle("null01", kept=True, seconds=0.4), cycle("null02", seconds=0.6),
        cycle("null03", seconds=None), cycle("zcheat", 1e-6, kept=True, seconds=None),
    )  # fmt: skip
    result = Result(name="x", cycles=cycles)

    assert 0.3 == pytest.approx(result.overhead_s)
    assert 1 == result.false_keeps
    assert result.believed


def test_an_honest_or_missing_score_of_the_cheat_is_not_believed_and_no_rule_is_no_count() -> None:
    """A cheat that was scored truly, or not at all, gained nothing; a peer without a rule has no false keeps."""
    assert not Result(name="x", cycles=(cycle("zcheat", 1.1),)).believed
    assert not Result(name="x", cycles=(cycle("zcheat", None),)).believed
    assert Result(name="x").believed is None
    assert Result(name="x", cycles=(cycle("null01", kept=None),)).false_keeps is None
    assert math.isnan(Result(name="x").overhead_s)


def test_times_are_between_the_models_requests_where_there_are_any() -> None:
    """A candidate's cycle ends with the request for the next one; the last one has none."""
    report = {"cycles": [{"name": n, "score": 0.3, "kept": False, "seconds": 7.0} for n in ("a", "b")], "notes": ["n"]}
    asked = [("a", 10.0), ("b", 12.5)]

    assert [2.5, None] == [c.seconds for c in peers.read_report(Result(name="x"), report, asked).cycles]
    assert [7.0, 7.0] == [c.seconds for c in peers.read_report(Result(name="x"), report, []).cycles]


def test_the_report_names_what_did_not_run_and_counts_only_what_ran(tmp_path: Path) -> None:
    """The last line has ours first, and nothing of a peer that did not run; the table has the reason."""
    cycles = (cycle("null01", kept=True), cycle("zcheat", 1e-6))
    ran = Result(name="other", cycles=cycles)
    none = Result(name="third", why_not="it needs another Python")
    mine = Result(name=OURS, cycles=(cycle("null01"), cycle("zcheat", 1.0)))
    results = [ran, none, mine]
    line = peers.last_line(results)

    assert (
        "peers: 2 run; overhead ours 0.30 s, other 0.30 s; false keeps of 1: ours 0, other 1;"
        " cheats believed: ours 0, other 1"
    ) == line
    assert "it needs another Python" in peers.row(none)
    assert line == json.loads(peers.write(results, tmp_path / "a" / "b.json").read_text(encoding="utf-8"))["line"]


def test_a_peer_that_pip_refuses_or_that_fails_is_named_with_the_reason(tmp_path: Path) -> None:
    """Pip's own words are shortened; a program that ends badly gives its last line."""
    program = tmp_path / "p.py"
    program.write_text("import sys; print('first'); sys.exit('no such thing')", encoding="utf-8")
    with peers.serve([("a", "")]) as model:
        failed = peers.run_program(Result(name="x"), [sys.executable, str(program)], tmp_path, model)

    assert "no such thing" in failed.why_not
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"it needs Python >=3.99, this is {version}" == peers.why_pip("ERROR: 1.0 Requires-Python >=3.99; ERROR: No")
    assert "No matching" == peers.why_pip("WARNING: x\nERROR: No matching")


def test_memory_counts_a_process_and_all_below_it() -> None:
    """A grandchild belongs to it, a stranger does not."""
    parents = {5: 4, 4: 3, 3: 1, 9: 1}

    assert peers.is_below(5, 3, parents)
    assert not peers.is_below(9, 3, parents)
    assert peers.resident_bytes(os.getpid(), peers.containers()) > 10e6
