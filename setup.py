"""What pyproject.toml cannot say: the wheel also gets the sandbox's files and the task that ships with the product."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    "sandbox",
    "locked",
    "mutable",
    "reference_models",
    "skeletons",
    "gpu_day/shim/kernels.py",
    "program.md",
    "task.toml",
)


class BuildWithShippedFiles(build_py):
    """Copies them to orchestrator/shipped; an editable install has them at the top level (see shipped.py there)."""

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "orchestrator", "shipped")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        target.mkdir(parents=True)
        for name in SHIPPED:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, target / name)


setup(cmdclass={"build_py": BuildWithShippedFiles})
