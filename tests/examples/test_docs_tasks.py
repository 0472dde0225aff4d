"""The tasks of docs/tasks.md, made from its blocks: their scorers say what the page says, without a container."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.config import load

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
RUNTIME = ROOT / "orchestrator" / "runtime"
TEXT, PROGRAM, MODEL = "A text that is scored", "A program that is asked", "A model that is trained"


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^##+ ", DOC.partition(f"### {title}\n")[2], flags=re.MULTILINE)[0]


def make(title: str, folder: Path) -> Path:
    """The task of a section: its first commands, then the files that it names."""
    first, *more = re.findall(r"^    (.*)$", section(title).partition("In `")[0], re.MULTILINE)
    words = shlex.split(first.removeprefix("autoresearch "))
    words[-1 if title == MODEL else 1] = str(task := folder / words[-1 if title == MODEL else 1])
    if title == MODEL:
        subprocess.run(words, cwd=ROOT, check=True)
    else:
        done = CliRunner().invoke(app, words)

        assert 0 == done.exit_code, done.output
    for command in more:
        subprocess.run(shlex.split(command), cwd=folder, check=True)
    for name, part, body in re.findall(r"In `([^`]+)`(, the [^:]+)?:\n\n```\w*\n(.*?)```", section(title), re.DOTALL):
        path = task / name
        path.write_text(replace_part(path.read_text(), body) if part else body)
    return task


def replace_part(text: str, body: str) -> str:
    """A file with one of its functions, or its first keys, in other words."""
    function = re.match(r"def (\w+)\(", body)
    pattern = rf"def {function[1]}\(.*?(?=\n\n\n)\n" if function else r"\[task\]\nname = .*\nmutable = .*\n"
    changed, times = re.subn(pattern, lambda _: body, text, flags=re.DOTALL if function else 0)

    assert 1 == times
    return changed


def start(task: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    """One of its locked programs, with ours beside it."""
    environment = {**os.environ, "PYTHONPATH": f"{task / 'locked'}:{RUNTIME}"}
    words = [sys.executable, str(task / "locked" / name), *arguments]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(scorer: subprocess.Popen[str]) -> dict[str, Any]:
    """The last message of a scorer."""
    said, complaint = scorer.communicate(timeout=60)

    assert said, complaint
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


@pytest.mark.parametrize("title", [TEXT, PROGRAM, MODEL])
def test_a_task_written_from_the_page_is_whole(tmp_path: Path, title: str) -> None:
    """It loads, and the page goes on with the commands that check it and run it."""
    task = make(title, tmp_path)
    commands = re.findall(r"^    autoresearch (.*)$", section(title), re.MULTILINE)

    assert load(task, {"tag": "t", "runs": task / "runs"}).mutable_path.is_file()
    assert f"check {task.name}" == commands[-2]
    assert f"loop --task {task.name}" == re.split(" --(?:prop|exp)", commands[-1])[0]


def test_the_text_of_the_page_is_scored_as_it_says(tmp_path: Path) -> None:
    """The draft that is too long is not scored, the other one is better than the first text; an empty one has none."""
    task = make(TEXT, tmp_path)
    (task / "empty.md").touch()
    files = (task / "mutable/summary.md", task / "drafts/01.md", task / "drafts/02.md", task / "empty.md")
    found = [outcome(start(task, "score.py", "--seconds=9", str(path))) for path in files]

    assert ["score", "failed", "score", "failed"] == [one["event"] for one in found]
    assert [50.0, 100.0] == [one["value"] for one in found if one["event"] == "score"]


@pytest.mark.parametrize(("name", "expected"), [("", "score"), ("02-as-they-are.py", "failed")])
def test_the_program_of_the_page_is_asked_as_it_says(tmp_path: Path, name: str, expected: str) -> None:
    """The page's own is far faster than the reference; a draft with wrong answers fails."""
    task = make(PROGRAM, tmp_path)
    root = tmp_path / "root"
    for one in ("ask-a", "answer-a", "ask-b", "answer-b", "control"):
        (root / one).mkdir(parents=True)
    (root / "control" / "seed").write_bytes(bytes(32))
    programs = []
    for which, path in (("a", task / "drafts" / name if name else task / "mutable/subject.py"),
                        ("b", task / "locked/reference.py")):  # fmt: skip
        place = tmp_path / which
        place.mkdir()
        for one in ("ask", "answer"):
            (place / one).symlink_to(root / f"{one}-{which}")
        programs.append(start(task, "answer.py", str(path), str(place)))
    try:
        found = outcome(start(task, "score.py", "--root", str(root), "--seconds=60"))
    finally:
        for program in programs:
            program.kill()
            program.communicate()

    assert expected == found["event"]
    assert "failed" == expected or found["value"] < 1


def test_the_model_of_the_page_has_the_data_that_it_says(tmp_path: Path) -> None:
    """What is predicted is the depth of the stack: many simple lines are as shallow as a few."""
    task = make(MODEL, tmp_path)
    lines = "\n".join(f"    a{n} = x" for n in range(40))
    source = f"def long(x):\n{lines}\ndef deep(x):\n    return f({', '.join('x' * 20)})\n"
    program = "import make_data, sys; print([size for _, size in make_data.functions(sys.argv[1].encode())])"
    environment = {**os.environ, "PYTHONPATH": f"{task / 'locked'}:{RUNTIME}"}
    words = [sys.executable, "-c", program, source]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    long, deep = json.loads(done.stdout)

    assert long < 5
    assert deep > 20
