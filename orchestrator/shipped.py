"""Where the files are that come with the product and are not modules of it: how to build the image, and a task.

In a checkout they are at its top level; a wheel has them in this package (setup.py).
"""

from pathlib import Path

PACKAGE = Path(__file__).parent
SHIPPED = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PACKAGE.parent
SANDBOX = SHIPPED / "sandbox"
SECCOMP = SANDBOX / "seccomp.json"
SKELETONS = SHIPPED / "skeletons"
KERNELS_SHIM = SHIPPED / "gpu_day" / "shim" / "kernels.py"  # what upstream fetches from a hub
CORPUS = PACKAGE / "runtime" / "corpus.py"
TASK = ("task.toml", "program.md", "locked", "mutable", "reference_models")  # the task, by its names in SHIPPED
