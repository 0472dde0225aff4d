"""A fake NVML behind the real binding: compile it, describe the machine in a text file, edit that while tests run."""

import ctypes
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent / "nvml.c"
LIBRARY = "libnvidia-ml.so.1"


@cache
def library() -> Path:
    """Build it once and load it: the binding asks for the same soname and gets this one.

    A child process with its folder in LD_LIBRARY_PATH finds it as it would find the real one.
    """
    folder = Path(tempfile.mkdtemp(prefix="fake-nvml-"))
    folder.chmod(0o755)
    built = folder / LIBRARY
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-Wl,-soname,{LIBRARY}"]
    subprocess.run([*command, "-o", str(built), str(SOURCE)], check=True)
    ctypes.CDLL(str(built), mode=ctypes.RTLD_GLOBAL)
    return built


@dataclass(slots=True)
class Machine:
    """GPUs that exist in a file and in a sysfs tree of plain directories; /proc is a tree of files too."""

    root: Path
    driver: str = "580.159.03"
    init: int = 0
    cold: bool = False
    gpus: dict[str, dict[str, object]] = field(default_factory=dict)
    migs: dict[str, dict[str, object]] = field(default_factory=dict)
    procs: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the library answer for this machine."""
        library()
        (self.root / "proc").mkdir(exist_ok=True)
        self.write()

    def environment(self) -> dict[str, str]:
        """What a child process needs to see this machine."""
        return {**os.environ, "LD_LIBRARY_PATH": str(library().parent), "FAKE_NVML": str(self.state)}

    @property
    def state(self) -> Path:
        """The file that the library reads."""
        return self.root / "nvml.txt"

    @property
    def sysfs(self) -> Path:
        """Stands for /sys."""
        return self.root / "sys"

    @property
    def proc(self) -> Path:
        """Stands for /proc."""
        return self.root / "proc"

    def process(self, pid: int, command: str, *, container: str = "") -> None:
        """Let a process exist in /proc."""
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
        (folder / "comm").write_text(Path(command.split(maxsplit=1)[0]).name[:15] + "\n")
        (folder / "cgroup").write_text(f"4:memory:/docker/{container}\n" if container else "4:memory:/user.slice\n")

    def gpu(self, uuid: str, **changes: object) -> None:
        """Add a GPU, or change one."""
        if uuid not in self.gpus:
            number = len(self.gpus) + 1
            self.gpus[uuid] = {
                "bus": f"00000000:{number:02X}:00.0", "name": "NVIDIA_H100", "memory": 80000, "used": 4, "util": 0,
                "power": 700, "mig": 0, "error": 0, "xid": 0,
            }  # fmt: skip
            pci = self.sysfs / "bus/pci/devices" / f"0000:{number:02x}:00.0"
            pci.mkdir(parents=True)
            for name in ("vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device", "irq"):
                (pci / name).write_text("0\n")
        self.gpus[uuid].update(changes)
        self.write()

    def mig(self, uuid: str, parent: str, **changes: object) -> None:
        """Cut an instance out of a GPU, or change one."""
        self.gpus[parent]["mig"] = 1
        index = len([m for m in self.migs.values() if m["parent"] == parent])
        new = {"parent": parent, "index": index, "name": "NVIDIA_H100_MIG_1g.10gb", "memory": 10000, "used": 0}
        self.migs[uuid] = self.migs.get(uuid, new) | changes
        self.write()

    def runs(self, uuid: str, *pids: int) -> None:
        """Say which processes use a device."""
        self.procs = [(u, p) for u, p in self.procs if u != uuid] + [(uuid, pid) for pid in pids]
        self.write()

    def write(self) -> None:
        """Put the state in place at once."""
        lines = [f"driver {self.driver}", f"init {self.init}", *(["cold"] if self.cold else [])]
        for kind, devices in (("gpu", self.gpus), ("mig", self.migs)):
            for uuid, values in devices.items():
                lines.append(f"{kind} uuid={uuid} " + " ".join(f"{k}={v}" for k, v in values.items()))
        lines += [f"proc uuid={uuid} pid={pid}" for uuid, pid in self.procs]
        draft = self.state.with_suffix(".new")
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(self.state)
        os.environ["FAKE_NVML"] = str(self.state)
