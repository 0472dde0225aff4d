"""Every command line of the Makefile is one that its program takes."""

import argparse
import ast
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from orchestrator.cli import app
from orchestrator.cli.options import Target
from tests.support.commands import load_commands

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE)
ALIASES = {
    "attest": "provenance", "cost": "estimate", "data": "prepare-data", "fit": "preflight", "gc": "prune",
    "log": "logs", "warm": "build-cache",
}  # fmt: skip
GIVEN = (  # every variable that becomes a flag
    "EXP=3", "A=1", "B=2", "TASK=examples/code-size", "RUN=n", "RUNS=runs", "EXPERIMENTS=3", "HOURS=8", "MAX_USD=10",
    "MAX_TOKENS=9", "PROPOSER=sweep", "MODEL=m", "BASE_URL=u", "KEY_FILE=k", "RUNTIME=runsc", "REPLAY=r", "SEED=1",
    "QUIET_HOURS=22-6", "PARALLEL=2", "PREFETCH=1", "SCORING=self-reported", "LIVE=1", "ROLE=trainer",
    "FORMAT=csv", "OUT=o", "DRY_RUN=1", "DATA=python", "PROFILE=cpu", "ACCEPT_RISK=limits ports", "CHEATS=compiled",
    "TEST_GPU=--small-audit", "MINUTES=9", "UPSTREAM=u", "NO_LEASE=1", "DAY=d", "KIT=k", "KIT_PYTHON=3.12",
    "LIMIT_MIB=60", "NULLS=2", "EXECUTOR=ray", "ADDRESS=10.0.0.1:6379", "TOKEN_FILE=t", "SLOTS=2", "NODE_IP=10.0.0.2",
)  # fmt: skip
OURS = re.compile(r"(?:bin/(autoresearch)|-m ((?:attacks|benchmarks|gpu_day|tests)[.\w]*))([^&|;\n]*)")


OTHERS_FLAGS = {  # of programs that the orchestrator starts, and of those in containers
    "--ignore-cgroups", "--keep-cache", "--oci-seccomp", "--corpus", "--set-apart", "--global", "--add",
}  # fmt: skip

# another test has imported the program already
pytestmark = pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")


class ParsedError(Exception):
    """The words were taken, and nothing was run."""


@pytest.mark.parametrize("given", [(), GIVEN], ids=["bare", "with every variable"])
@pytest.mark.parametrize("target", TARGETS)
def test_each_target_s_words_are_taken(target: str, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parser of the very program; one that parses nothing is given none."""
    done = subprocess.run(["make", "-n", target, *given], cwd=ROOT, text=True, capture_output=True, check=True)

    found = OURS.findall(done.stdout)
    assert found or not any(
        word in recipe(target) for word in ("$(CLI) ", "-m benchmarks", "-m attacks", "-m tests.soak")
    )
    for cli, module, words in found:
        if not given and re.search(r"\$\(call quote,(EXP|A)\)", recipe(target)):
            continue  # these need a number
        taken(cli, module, shlex.split(words), monkeypatch)


def test_a_word_that_no_program_takes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a target's name is taken for one of its groups."""
    for cli, module in (("", "attacks.walls"), ("", "tests.soak.kill_storm"), ("", "benchmarks.idle_share")):
        with pytest.raises((SystemExit, AssertionError)):
            taken(cli, module, ["kill-storm"], monkeypatch)


def test_a_machine_without_a_fit_gpu_is_told_before_anything_is_set_up() -> None:
    """Ten minutes and six gigabytes earlier; image and data are left to the loop, which looks for them once."""
    done = subprocess.run(["make", "-n", "loop", "PROFILE=gpu"], cwd=ROOT, text=True, capture_output=True, check=True)

    plan = done.stdout
    assert 0 < plan.index("orchestrator.walls.nvidia") < plan.index("autoresearch loop --profile 'gpu'")
    assert not re.search("autoresearch (preflight|build-image|prepare-data)", plan)


def test_a_misspelt_setting_is_refused_by_name() -> None:
    """Never run without it; what the environment holds, and what is meant for other programs, is let through."""
    command = ["make", "-n", "status"]
    refused = subprocess.run([*command, "MAX_USDD=1"], cwd=ROOT, text=True, capture_output=True, check=False)
    environment = os.environ | {"MAX_USDD": "1", "CI": "true", "GITHUB_ACTIONS": "true"}
    for more in ([], ["DOCKER_HOST=unix:///s", "AUTORESEARCH_LIMITS__HOURS=1"], ["-e"], ["-j2", "RUN=a"]):
        subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True, check=True)

    assert 2 == refused.returncode
    assert "*** MAX_USDD: no such setting; there are EXPERIMENTS HOURS " in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "EXP=3 says which experiment; make status lists them"),
        (["log", "EXP=abc"], "EXP=3 says which experiment; make status lists them"),
        (["confirm", "EXP=-1"], "EXP=3 says which experiment; make status lists them"),
        (["attest", "EXP=1 2"], "EXP=3 says which experiment; make status lists them"),
        (["diff", "B=2"], "A=1 B=2 says which two experiments; make status lists them"),
        (["compare", "A=nov23"], "A=tag B=tag says which two runs; make runs lists them"),
        (["loop", "EXPERIMENTS=three"], "EXPERIMENTS=3: a whole number; 0: no limit"),
    ],
)
def test_what_was_forgotten_is_said_in_make_s_words(words: list[str], said: str) -> None:
    """One line, before anything is made."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", *words, "BIN=/nowhere"], cwd=ROOT, env=bare, text=True, capture_output=True, check=False
    )

    assert 2 == done.returncode
    assert [said] == [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert "" == done.stdout


@pytest.mark.parametrize("old", ALIASES)
def test_an_earlier_name_of_a_target_still_works(old: str) -> None:
    """It runs what its successor runs, whatever is given; two settings have earlier names too."""
    plans = [
        subprocess.run(["make", "-n", target, *GIVEN], cwd=ROOT, text=True, capture_output=True, check=True).stdout
        for target in (old, ALIASES[old])
    ]

    assert plans[0] == plans[1] != ""


def test_an_earlier_name_of_a_setting_still_works() -> None:
    """ACCEPT and TRUST."""
    command = ["make", "-n", "loop", "ACCEPT=limits ports", "TRUST=self-reported"]
    plan = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout

    words = " ".join(shlex.split(plan))
    assert " --accept-risk limits --accept-risk ports " in words
    assert " --scoring self-reported" in words


@pytest.mark.parametrize(
    "odd", ["/a b/c", "it's", 'say "a"', "(old) [1]", "Käse/größe", "$HOME/$x", "a;b&c|d", "*", "back\\slash", "~/a b"]
)
def test_a_value_is_one_word_whatever_it_contains(tmp_path: Path, odd: str) -> None:
    """Of every setting that names a file or a run: blanks, quotes, parentheses, umlauts; ~/ is the home folder."""
    program, said = tmp_path / "bin" / "autoresearch", tmp_path / "said"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {said}\n")
    program.chmod(0o755)
    paths = {"TASK": "--task", "RUN": "--run", "RUNS": "--runs", "DATA": "--data", "KEY_FILE": "--key-file",
             "REPLAY": "--replay", "OUT": "--out"}  # fmt: skip
    taken = set()
    for target in ("loop", "export", "compare"):
        given = [f"{name}={odd}" for name in ("A", "B", *paths)]
        plan = ["make", "-n", target, f"BIN={program.parent}", "PROFILE=cpu", *given]
        done = subprocess.run(plan, cwd=ROOT, text=True, capture_output=True, check=True)
        last = done.stdout[done.stdout.rindex("AUTORESEARCH_STARTED_BY") :]
        subprocess.run(["bash", "-c", last], cwd=tmp_path, env=os.environ | {"HOME": "/home/me"}, check=True)
        words = said.read_text().split("\0")
        taken |= {(name, words[words.index(flag) + 1]) for name, flag in paths.items() if flag in words}
        assert target != "compare" or words[1:3] == 2 * [odd.replace("~", "/home/me")]

    assert {(name, odd.replace("~", "/home/me")) for name in paths} == taken


def test_what_is_said_to_type_can_be_typed() -> None:
    """A folder with a blank, in the words of make and of the command line."""
    target = Target(task=Path("my task"), runs=Path("/a b/c"))
    said = [target.command("show", "nov23", 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_STARTED_BY", "make")
        said.append(target.command("show", "nov23", 3))

    assert [
        ["autoresearch", "show", "3", "--run", "nov23", "--task", "my task", "--runs", "/a b/c"],
        ["make", "show", "EXP=3", "RUN=nov23", "TASK=my task", "RUNS=/a b/c"],
    ] == [shlex.split(words) for words in said]


def test_messages_name_what_the_command_line_has() -> None:
    """Its commands and options; nothing of make, which has them too, and none of its variables."""
    messages = [line for path in sorted((ROOT / "orchestrator").rglob("*.*")) for line in sentences(path)]
    commands = load_commands()
    options = {word for command in commands.values() for option in command.params for word in option.opts}
    variables = "|".join(word.partition("=")[0] for word in (*GIVEN, "ACCEPT=", "TRUST="))
    named = {name for line in messages for name in re.findall(r"`autoresearch ([a-z-]+)", line)}
    targets = {target for line in messages for target in re.findall(r"\bmake ([a-z-]+)`", line)}
    flags = {flag for line in messages for flag in re.findall(r"(?<![\w-])--[a-z-]+", line)}

    assert 200 < len(messages)
    assert 10 < len(named)
    assert set() == named - set(commands)
    assert set() == targets
    assert set() == flags - options - OTHERS_FLAGS
    assert [] == [line for line in messages if re.search(rf"(?<![\w_])({variables})=", line)]


def sentences(path: Path) -> list[str]:
    """What a program may say: its strings of several words; of a page, its lines."""
    if path.suffix == ".html":
        return path.read_text().splitlines()
    tree = ast.walk(ast.parse(path.read_text())) if path.suffix == ".py" else ()
    strings = [node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in strings if " " in text.strip()]


def recipe(target: str) -> str:
    """Return the lines of a target, of a rule of its own or of several targets."""
    rule = re.search(rf"^(?:[a-z -]+ )?{target}(?: [a-z -]+)?:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return rule[1] if rule else ""


def taken(cli: str, module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the words parsed. Raises SystemExit, a click error or AssertionError if they are not taken."""
    if cli:
        name, *rest = words
        get_group(app).commands[name].make_context(name, rest)
        return
    folder = (ROOT / module.replace(".", "/")).is_dir()
    found = importlib.util.find_spec(f"{module}.__main__" if folder else module)
    assert found is not None and found.origin is not None, module
    if "argparse" not in Path(found.origin).read_text():
        assert [] == words, f"{module} takes no words"
        return
    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser, *rest: object) -> None:
        parse(self)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(ParsedError):
        runpy.run_module(module, run_name="__main__")
    monkeypatch.undo()
