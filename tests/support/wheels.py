"""The project as a wheel, really built, and a virtual environment that it is really installed into."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import docker

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".*", "build", "data", "runs", "*.egg-info", "__pycache__", "attacks", "tests", "benchmarks", "examples")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of a copy of the checkout, which is left as it is; return its path."""
    source = shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder / "dist"), str(source)], check=True)
    return next((folder / "dist").glob("autoresearch_sandbox-*.whl"))


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new virtual environment that borrows its dependencies from ours; return its bin/."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "dependencies.pth").write_text(f"{Path(docker.__file__).parents[1]}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    return folder / "bin"
