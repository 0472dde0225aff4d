"""The packages of the orchestrator: which may know which."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "orchestrator"


def imports() -> dict[str, set[str]]:
    """By package, or module outside of one, those that it imports; what only types need counts as well."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        inside = path.relative_to(ROOT).with_suffix("").parts
        mine = found.setdefault(inside[0], set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "orchestrator":
                mine |= {alias.name for alias in node.names} - {inside[0]}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("orchestrator."):
                mine |= {str(node.module).split(".")[1]} - {inside[0]}
    return found


def test_no_package_imports_one_that_imports_it() -> None:
    """Not through others either: each can be read, and tested, without those above it."""
    left = imports()
    while free := {name for name, wanted in left.items() if not wanted & left.keys()}:
        left = {name: wanted for name, wanted in left.items() if name not in free}

    assert {} == left
