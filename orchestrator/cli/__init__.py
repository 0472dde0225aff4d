"""The command line: each command in setup, run, cluster, look, records or trust; compose.py puts the parts together."""

import sys

import typer
from rich.console import Console
from rich.text import Text
from typer.exceptions import TyperException

from orchestrator import __version__
from orchestrator.cli.lazy import LazyGroup
from orchestrator.errors import AutoresearchError
from orchestrator.look.terminal import make_printable

app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An overnight research loop for shared GPU servers: propose, run, score, keep.",
)


@app.callback()
def _be_a_group() -> None: ...  # else typer takes the only command that it knows for the whole app


@app.command("version")
def print_version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run a command; an error is one line and a non-zero exit."""
    make_printable()
    try:
        sys.exit(app(standalone_mode=not sys.argv[1:]))  # to no command at all, the help is the answer
    except TyperException as error:
        print_error(usage_error(error))
        sys.exit(error.exit_code)
    except AutoresearchError as error:
        print_error(str(error))
        sys.exit(1)


def usage_error(error: TyperException) -> str:
    """Return what is wrong with a command line, naming the option or argument."""
    if not isinstance(error, typer.BadParameter) or error.param is None:
        return error.format_message()
    option = error.param.opts[0]
    name = option if option.startswith("-") else option.upper()
    return f"{name}: {error.message.removeprefix('Value error, ') or 'is missing'}"


def print_error(message: str) -> None:
    """Print an error to standard error."""
    Console(stderr=True, highlight=False).print(Text.assemble(("error: ", "red"), message), soft_wrap=True)
