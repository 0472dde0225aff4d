"""The commands by name; help reads what each says of itself, and only the one that runs is imported."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

MODULES = ("setup", "run", "cluster", "look", "records", "trust")  # of this package, in the order of the help


class LazyCommand(TyperCommand):
    """A command whose module is imported when its arguments are parsed."""

    module = ""

    def load(self) -> typer.core.TyperCommand:
        """Return the command itself."""
        command = get_group(import_module(f"{__package__}.{self.module}").app).commands[str(self.name)]
        assert isinstance(command, TyperCommand)  # noqa: S101
        return command

    def make_context(self, *words: Any, **options: Any) -> typer.Context:  # noqa: ANN401  # as typer calls it
        """Return the context in which the command itself runs."""
        return self.load().make_context(*words, **options)  # type: ignore[return-value]


class LazyGroup(TyperGroup):
    """All commands, none of them imported."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  # as typer calls it
        super().__init__(**settings)
        for module in MODULES:
            for name, docstring in read_commands(Path(__file__).with_name(f"{module}.py")):
                command = LazyCommand(name=name, help=docstring, rich_markup_mode=self.rich_markup_mode)
                command.module = module
                self.add_command(command)


def read_commands(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and docstring of each command that a module defines, without importing it."""
    for function in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(function, ast.FunctionDef):
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "app.command":
                    yield ast.literal_eval(decorator.args[0]), ast.get_docstring(function) or ""
