"""The commands with their options; the command line itself imports one when it is run."""

import typer
from typer.main import get_group

from orchestrator.cli import app
from orchestrator.cli.lazy import LazyCommand


def load_commands() -> dict[str, typer.core.TyperCommand]:
    """Return every command by its name, imported."""
    found = get_group(app).commands
    return {name: command.load() if isinstance(command, LazyCommand) else command for name, command in found.items()}  # type: ignore[misc]
