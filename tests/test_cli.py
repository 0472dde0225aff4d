"""The command line as its reader meets it."""

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from orchestrator.cli import app

COMMANDS = get_group(app).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_all_of_what_it_says_of_itself(name: str) -> None:
    """Nothing of it is taken for markup: [retention] once vanished."""
    result = CliRunner().invoke(app, [name, "--help"])

    assert "".join((COMMANDS[name].help or "missing").split()) in "".join(result.output.split())


@pytest.mark.parametrize("name", ["data", "warm", "loop", "calibrate", "confirm"])
def test_what_starts_containers_takes_the_advice_that_it_gives(name: str) -> None:
    """An unsafe machine is refused with "or --accept NAME"."""
    assert "--accept" in [word for option in COMMANDS[name].params for word in option.opts]
