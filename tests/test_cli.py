"""The command line as its reader meets it."""

import sys

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from orchestrator.cli import app, main

COMMANDS = get_group(app).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_all_of_what_it_says_of_itself(name: str) -> None:
    """Nothing of it is taken for markup: [retention] once vanished."""
    result = CliRunner().invoke(app, [name, "--help"])

    assert "".join((COMMANDS[name].help or "missing").split()) in "".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loop", "--max-usd", "ten"], "MAX_USD: Input should be a valid number, unable to parse string as a number"),
        (["export", "--format", "xml"], "FORMAT: 'xml' is not one of 'tsv', 'csv', 'parquet', 'tensorboard'."),
        (["diff", "1"], "B: is missing"),
        (["status", "--run", "a", "b"], "Got unexpected extra argument(s) (b)"),
    ],
)
def test_words_that_are_not_taken_are_said_in_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option by the name of make's variable, and the exit is not zero."""
    monkeypatch.setattr(sys, "argv", ["autoresearch", *words])
    with pytest.raises(SystemExit) as ended:
        main()

    assert 2 == ended.value.code
    assert f"error: {said}\n" == capsys.readouterr().err


@pytest.mark.parametrize("name", ["data", "warm", "loop", "calibrate", "confirm"])
def test_what_starts_containers_takes_the_advice_that_it_gives(name: str) -> None:
    """An unsafe machine is refused with "or ACCEPT=NAME"."""
    assert "--accept" in [word for option in COMMANDS[name].params for word in option.opts]
