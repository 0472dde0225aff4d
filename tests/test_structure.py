"""Imports never lead back, in the orchestrator or in locked files; docstrings of public functions begin with a verb."""

import ast
import re
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_VERBS = {
    "A", "All", "An", "And", "Any", "As", "At", "Both", "By", "Each", "Every", "For", "From", "How", "If", "In", "It",
    "No", "None", "Not", "Of", "On", "One", "Only", "Or", "Over", "The", "That", "These", "This", "Those", "To",
    "What", "When", "Where", "Whether", "Which", "Who", "Whose", "Why", "With",
}  # fmt: skip
IN_CONTAINERS = ROOT / "orchestrator" / "runtime"  # mounted beside a task's own files, imported by bare names


def imported(path: Path, known: Collection[str]) -> set[str]:
    """Those of the known modules that a file imports, wherever in it; what only types need counts as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= set(known) else names | {node.module}
    return found & set(known)


def modules() -> dict[str, set[str]]:
    """The modules of the orchestrator, each with those that it imports."""
    files = {}
    for path in (ROOT / "orchestrator").rglob("*.py"):
        if path.parent != IN_CONTAINERS:
            files[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return {name: imported(path, files) for name, path in files.items()}


def packages() -> dict[str, set[str]]:
    """The packages of the orchestrator, and the modules outside of one, each with those that it imports."""
    found: dict[str, set[str]] = {}
    for name, wanted in modules().items():
        mine = room(name)
        found.setdefault(mine, set()).update({room(module) for module in wanted} - {mine, ""})
    return found


def room(module: str) -> str:
    """The package in the orchestrator that a module is in; "" for the orchestrator itself."""
    return module.partition(".")[2].partition(".")[0]


def locked(folder: Path) -> dict[str, set[str]]:
    """The files that a task's containers get, by their bare names, each with those that it imports."""
    files = {path.stem: path for place in (IN_CONTAINERS, folder) for path in place.glob("*.py")}
    return {name: imported(path, files) for name, path in files.items()}


def in_circles(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left when all that imports nothing more is taken away, again and again."""
    left = dict(imports)
    while free := {name for name, wanted in left.items() if not wanted & left.keys()}:
        left = {name: wanted & left.keys() for name, wanted in left.items() if name not in free}
    return left


def test_no_package_imports_one_that_imports_it() -> None:
    """Not through others either: each can be read, and tested, without those above it."""
    assert {} == in_circles(packages())


def test_no_module_imports_one_that_imports_it() -> None:
    """Inside a package too, late imports and those for types included."""
    found = modules()

    assert {"orchestrator.walls.spec", "orchestrator.walls.seccomp"} <= found["orchestrator.walls.spec_policy"]
    assert {} == in_circles(found)


@pytest.mark.parametrize(
    "folder",
    [ROOT / "locked", *sorted(ROOT.glob("examples/*/locked"))],
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_no_locked_file_imports_one_that_imports_it(folder: Path) -> None:
    """With what the product mounts beside them."""
    found = locked(folder)

    assert "channel" in found["score"]
    if "predict" in found:
        assert {"prepare", "frames"} <= found["score"]
    assert {} == in_circles(found)


def unlike_a_verb(docstring: str) -> bool:
    """Whether it begins with an article, a question, a preposition or a verb in the third person: `Returns`."""
    first = docstring.split(maxsplit=1)[0].rstrip(".,:;")
    return first in NO_VERBS or not first[:1].isupper() or (first.endswith("s") and not first.endswith("ss"))


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Those of a module that others may call; properties are named and described like values."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]


def test_docstrings_of_public_functions_begin_with_a_verb() -> None:
    """In the imperative: what a function does, not what it is or whether something holds."""
    wrong = [
        f"{path.relative_to(ROOT)}:{function.lineno}: {docstring.splitlines()[0]}"
        for path in sorted((ROOT / "orchestrator").rglob("*.py"))
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")))
        if (docstring := ast.get_docstring(function)) and unlike_a_verb(docstring)
    ]

    assert [] == wrong
    assert unlike_a_verb("Whether it is due.")
    assert unlike_a_verb("Returns it.")
    assert not unlike_a_verb("Pass it on.")


def test_the_orchestrator_knows_no_language_models() -> None:
    """What is particular to a task lies in its folder; what was recorded or set before has its names."""
    words = re.compile(r"val_bpb|bpb\b|language.?model|perplexity|tokenizer|_nats\b|\bnats?\b", re.IGNORECASE)
    known = {
        "record/format1.py",  # the records of one task, as they were written
        "events.py",  # fields of older records
        "config.py", "scoring/thresholds.py",  # the earlier names of keys, and of a calibration's
        "propose/__init__.py", "propose/token_count.py",  # data/*/tokenizer, where a task has one: it counts prompts
    }  # fmt: skip
    home = ROOT / "orchestrator"
    found = {
        path.relative_to(home).as_posix()
        for path in home.rglob("*.*")
        if path.suffix in {".py", ".html", ".js"} and words.search(path.read_text(encoding="utf-8"))
    }

    assert known == {name for name in found if not name.startswith("shipped/")}


def test_only_the_log_imports_structlog() -> None:
    """All others import `log` of the logger: it logs to standard error until a session does otherwise."""
    found = {
        path.relative_to(ROOT / "orchestrator").as_posix()
        for path in (ROOT / "orchestrator").rglob("*.py")
        if re.search(r"^\s*(import|from) structlog", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert {"logger.py", "record/session_log.py"} == found
