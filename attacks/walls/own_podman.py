"""Rootless Podman of one's own: a user without any rights, their engine on a socket, and commands as that user.

Needs root, which makes the user and changes to them. Of root's rights a command keeps one, to read: the checkout and
its Python may lie where that user cannot look. The engine itself keeps none.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from attacks.walls.own_engine import until_it_answers

USER = "arsandbox"
CONFIG = '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
STORAGE = '[storage]\ndriver = "overlay"\n'
SHARED = (
    "mount --make-rshared / && mkdir -p /dev/mqueue && mount -t mqueue mqueue /dev/mqueue"  # in a namespace of its own
)
READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Podman:
    """An engine that runs."""

    address: str
    root: Path  # everything of the user's lies here

    def run(self, command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command as the user."""
        words = [
            *as_user(self.root, *READING),
            f"DOCKER_HOST={self.address}",
            'AUTORESEARCH_ACCEPT_RISK=["limits"]',
            *command,
        ]
        return subprocess.run(words, cwd=cwd, check=False, text=True, capture_output=True)


@contextmanager
def own_podman() -> Iterator[Podman]:
    """Start it; at the end the engine, its containers and its storage are gone."""
    make_user()
    root = Path(tempfile.mkdtemp(prefix="podman-"))
    (root / "home/.config/containers").mkdir(parents=True)
    (root / "run").mkdir(mode=0o700)
    (root / "tmp").mkdir()
    (root / "home/.config/containers/containers.conf").write_text(CONFIG)
    (root / "home/.config/containers/storage.conf").write_text(STORAGE)
    for path in (root, *root.rglob("*")):
        shutil.chown(path, USER, USER)
    address = f"unix://{root}/run/podman.sock"
    service = [*as_user(root), "podman", "system", "service", "--time", "0", address]
    started = ["unshare", "-m", "sh", "-c", f'{SHARED}; exec "$@"', "sh", *service]
    with (root / "log").open("w") as log:
        engine = subprocess.Popen(started, stdout=log, stderr=log, process_group=0)
    try:
        until_it_answers(engine, address, root / "log")
        yield Podman(address=address, root=root)
    finally:
        engine.terminate()
        engine.wait()
        with suppress(ProcessLookupError):  # Podman is two processes, and the one that serves hears no signal
            os.killpg(engine.pid, signal.SIGKILL)
        subprocess.run([*as_user(root), "podman", "system", "reset", "--force"], check=False, capture_output=True)
        pause = root / "run/libpod/tmp/pause.pid"  # holds the user namespace while nothing else does
        if pause.exists():
            os.kill(int(pause.read_text()), signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)


def as_user(root: Path, *more: str) -> list[str]:
    """Build the start of a command that runs as the user, without root's environment."""
    who = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", *more]
    place = [f"HOME={root}/home", f"XDG_RUNTIME_DIR={root}/run", f"TMPDIR={root}/tmp"]
    return [*who, "env", "-i", *place, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]


def make_user() -> None:
    """Create a user with a range of subordinate user ids for containers."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", USER], check=True)
    for name in ("subuid", "subgid"):
        path = Path("/etc", name)
        lines = path.read_text().splitlines() if path.exists() else []
        if not any(line.startswith(f"{USER}:") for line in lines):
            first = max((sum(map(int, line.split(":")[1:3])) for line in lines), default=100000)
            path.write_text("\n".join([*lines, f"{USER}:{first}:65536", ""]))
