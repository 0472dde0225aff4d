"""Make a task of a checkout in upstream's manner (prepare.py, train.py, program.md), which is only read.

Its train.py runs unmodified at L0: it reports its own number, and finds the names of its prepare.py in the task's. What
an audited score needs besides is listed, line by line of train.py.
"""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import ConfigError

WANTED = ("prepare.py", "train.py", "program.md")
KERNELS = "kernels.py"  # a package that fetches from a hub; offered by a file of ours beside the locked ones
OFFERED_BESIDE = "self_reported.py"
NEEDS_GPU = re.compile(r"torch\.device\([\"']cuda[\"']\)|torch\.cuda\.get_device_capability")
OWN_CLOCK = re.compile(r"(?:>=|<|/)\s*TIME_BUDGET\b")
DONE_BY_THE_LOOP = re.compile(r"\buv run\b|\bgit (?:add|checkout|commit|reset)\b|\bresults\.tsv\b")
EVALUATES = "leave it out: the scorer evaluates, and validation text is there alone"  # what is offered at L0 only
INSTEAD = {"make_dataloader": "take prepare.dataloader(batch_size, length): the training text alone"}
SKELETON = '''# What an audited score (L2) needs at the end of train.py; fill in what is in capitals.
import prepare


def load_model(path, device):
    """Return a callable from token ids [B, T] (int64) to logits [B, T, V]; trains nothing."""
    saved = torch.load(path, map_location=device, weights_only=True)
    model = MODEL_CLASS(CONFIG).to(device)
    model.load_state_dict(saved)
    model.eval()
    return lambda tokens: model(tokens)


if __name__ == "__main__":
    # EVERYTHING THAT TRAINS, as it is now at the top level; it ends before prepare.time_left() is over:
    torch.save(getattr(model, "_orig_mod", model).state_dict(), prepare.CHECKPOINT)  # of a compiled one, what it holds
'''


def require_checkout(checkout: Path) -> None:
    """Raise ConfigError for what is not a checkout in upstream's manner."""
    for name in WANTED:
        _read(checkout / name)


def adopt_checkout(checkout: Path, folder: Path, kernels: Path) -> list[str]:
    """Replace the program and the instructions of a new task by those of a checkout; return what L2 needs.

    The checkout is only read. Raises ConfigError for one that is not in upstream's manner.
    """
    texts = {name: _read(checkout / name) for name in WANTED}
    try:
        notes = list(find_needs(texts["train.py"], texts["prepare.py"], folder / "locked"))
    except SyntaxError as error:
        raise ConfigError(f"{checkout / 'train.py'}: line {error.lineno} is not Python: {error.msg}") from error
    if found := sorted({match.group() for match in DONE_BY_THE_LOOP.finditer(texts["program.md"])}):
        notes.append(f"program.md speaks of {', '.join(found)}, which the loop does itself: take that out")
    (folder / "mutable" / "train.py").write_text(texts["train.py"], encoding="utf-8")
    (folder / "program.md").write_text(texts["program.md"], encoding="utf-8")
    (folder / "load_model.py.txt").write_text(SKELETON, encoding="utf-8")
    if "kernels" in _imports(ast.parse(texts["train.py"])) and kernels.is_file():
        shutil.copy(kernels, folder / "locked" / KERNELS)
    return notes


def find_needs(train: str, prepare: str, locked: Path) -> Iterator[str]:
    """Yield what keeps a train.py from an audited score, in the order of its lines. Raises SyntaxError."""
    tree = ast.parse(train)
    found = [*_find_imports(tree, prepare, locked), *_find_lines(train)]
    if not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body):
        first = next((node.lineno for node in tree.body if isinstance(node, ast.For | ast.While)), 1)
        found.append((first, 'it trains when it is imported: move that under `if __name__ == "__main__":`'))
    yield from (f"line {line}: {need}" for line, need in sorted(found))
    if "load_model" not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
        yield "load_model(path, device) is missing: load_model.py.txt has a skeleton to fill"
    if "torch.save" not in train:
        yield "it writes no checkpoint: save what load_model reads to prepare.CHECKPOINT (/out/checkpoint.pt)"


def _find_lines(train: str) -> Iterator[tuple[int, str]]:
    """Yield what single lines need."""
    for number, text in enumerate(train.splitlines(), start=1):
        line = text.partition("#")[0].strip()
        if NEEDS_GPU.search(line):
            yield number, f"it needs a GPU (`{line[:60]}`): run it with --profile gpu"
        if OWN_CLOCK.search(line):
            yield number, "it counts its own time; here all time counts: end before prepare.time_left() is over"


def needs_gpu(train: str) -> bool:
    """Return whether a train.py runs on a GPU only."""
    return bool(NEEDS_GPU.search(train))


def _find_imports(tree: ast.Module, prepare: str, locked: Path) -> Iterator[tuple[int, str]]:
    """Yield what is imported and is not here, is another value here, or is here at L0 only."""
    own, here, beside = _names(prepare), _names(_read(locked / "prepare.py")), _names(_read(locked / OFFERED_BESIDE))
    for module, line in _imports(tree).items():
        if module == "kernels":
            yield line, f"kernels fetches from a hub, and there is no network: locked/{KERNELS} stands in for it"
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ImportFrom) and node.module == "prepare"):
            continue
        for name in sorted(alias.name for alias in node.names):
            if name in beside:
                yield node.lineno, f"{name} is here at L0 only; for L2 {INSTEAD.get(name, EVALUATES)}"
            elif name not in here:
                where = "its own prepare.py has it" if name in own else "its own prepare.py does not have it either"
                yield node.lineno, f"prepare offers no {name} here ({where}): add it to locked/prepare.py"
            elif own.get(name) and here[name] and own[name] != here[name]:
                yield node.lineno, f"{name} is {own[name]} in its own prepare.py, and {here[name]} here"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}; --from takes a checkout with {', '.join(WANTED)}"
        ) from error


def _imports(tree: ast.Module) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0]: node.lineno for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found[node.module.partition(".")[0]] = node.lineno
    return found


def _names(source: str) -> dict[str, str]:
    """Return what a module defines at its top level: constants with their value as it is written, others with ""."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ""
        elif isinstance(node, ast.Assign):
            found |= {target.id: ast.unparse(node.value) for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = ast.unparse(node.value) if node.value else ""
    return found
