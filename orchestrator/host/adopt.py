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
SKELETON = '''# What an audited score (L2) needs at the end of train.py; fill in what is in capitals.


def load_model(path, device):
    """Return a callable from token ids [B, T] (int64) to logits [B, T, V]; trains nothing."""
    saved = torch.load(path, map_location=device, weights_only=True)
    model = MODEL_CLASS(CONFIG).to(device)
    model.load_state_dict(saved)
    model.eval()
    return lambda tokens: model(tokens)


if __name__ == "__main__":
    # EVERYTHING THAT TRAINS, as it is now at the top level; it ends before prepare.time_left() is over:
    torch.save(model.state_dict(), prepare.CHECKPOINT)
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
    (folder / "mutable" / "train.py").write_text(texts["train.py"], encoding="utf-8")
    (folder / "program.md").write_text(texts["program.md"], encoding="utf-8")
    (folder / "load_model.py.txt").write_text(SKELETON, encoding="utf-8")
    if "kernels" in _imports(ast.parse(texts["train.py"])) and kernels.is_file():
        shutil.copy(kernels, folder / "locked" / KERNELS)
    return notes


def find_needs(train: str, prepare: str, locked: Path) -> Iterator[str]:
    """Yield what keeps a train.py from an audited score, by its lines. Raises SyntaxError."""
    tree = ast.parse(train)
    yield from _find_imports(tree, _names(prepare), locked)
    if "load_model" not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
        yield "load_model(path, device) is missing: load_model.py.txt has a skeleton to fill"
    if not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body):
        first = next((node.lineno for node in tree.body if isinstance(node, ast.For | ast.While)), 1)
        yield f'line {first}: it trains when it is imported: move that under `if __name__ == "__main__":`'
    if "torch.save" not in train:
        yield "it writes no checkpoint: save what load_model reads to prepare.CHECKPOINT (/out/checkpoint.pt)"
    for number, text in enumerate(train.splitlines(), start=1):
        line = text.partition("#")[0].strip()
        if NEEDS_GPU.search(line):
            yield f"line {number}: it needs a GPU (`{line[:60]}`): run it with --profile gpu"
        if OWN_CLOCK.search(line):
            yield f"line {number}: it counts its own time; here all time counts: end before prepare.time_left() is over"


def needs_gpu(train: str) -> bool:
    """Return whether a train.py runs on a GPU only."""
    return bool(NEEDS_GPU.search(train))


def _find_imports(tree: ast.Module, own: set[str], locked: Path) -> Iterator[str]:
    """Yield what is imported and is not here, or only at L0."""
    offered = _names(_read(locked / "prepare.py")) | _names(_read(locked / OFFERED_BESIDE))
    for module, line in sorted(_imports(tree).items(), key=lambda pair: pair[1]):
        if module == "kernels":
            yield f"line {line}: kernels fetches from a hub, and there is no network: locked/{KERNELS} stands in for it"
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ImportFrom) and node.module == "prepare"):
            continue
        names = {alias.name for alias in node.names}
        for name in sorted(names - offered):
            where = "its own prepare.py has it" if name in own else "its own prepare.py has not either"
            yield f"line {node.lineno}: prepare offers no {name} here ({where}): add it to locked/prepare.py"
        for name in sorted(names & _names(_read(locked / OFFERED_BESIDE))):
            yield f"line {node.lineno}: {name} is there at L0 only: validation text is in the scorer alone"


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


def _names(source: str) -> set[str]:
    """Return what a module defines at its top level."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found
