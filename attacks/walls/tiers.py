"""What another runtime is known to do differently, and why that is no hole in the host."""

from collections.abc import Mapping
from dataclasses import replace

from attacks.walls.base import Finding, Verdict
from orchestrator.walls.engine import Engine

OWN_KERNEL = "gVisor's own kernel answers, which has nothing of the host's"
GUARD_SEEN = (
    "gVisor shows one's own processes to each other; the guard holds no secret, and to kill it ends the container"
)
NOT_COUNTED = "gVisor counts no files in memory: the limit of memory ends it, and the container"
GVISOR = {
    "map a program from /tmp": "gVisor refuses to run files there, but not to map them; /cache may be executed from anyhow",
    "open a device beyond the harmless ones": OWN_KERNEL,
    "make a tunnel": OWN_KERNEL,
    "mark packets": OWN_KERNEL,
    "pose as another address": OWN_KERNEL,
    "lower its niceness": OWN_KERNEL,
    "read the guard's memory map": GUARD_SEEN,
    "read the guard's environment": GUARD_SEEN,
    "take over the guard's descriptors": GUARD_SEEN,
    **dict.fromkeys(
        (f"make more files than may be in {place}" for place in ("/tmp", "/cache", "/dev/shm")), NOT_COUNTED
    ),
}
NOBODY = (
    "even root with every capability fails there: in a user namespace it is nobody outside; nothing weaker to compare"
)
NO_LIMITS = "without cgroup v2, delegated, a rootless engine limits nothing, which the loop refuses until `--accept-risk limits`"
STOPPED_BY_USER_NAMESPACE = (
    "reopen it by map_files", "make a character device node", "make a block device node", "bpf", "userfaultfd",
    "perf_event_open", "fanotify_init", "settimeofday", "swapon", "swapoff", "syslog", "acct", "ioprio_set",
    "lower its niceness", "read the kernel's log", "read /proc/timer_list", "read /proc/kpageflags",
    "read /proc/kpagecount", "read /proc/slabinfo", "read /proc/vmallocinfo", "read /proc/kmsg",
    "read /proc/pagetypeinfo", "write /proc/sys/kernel/core_pattern", "write /proc/sys/kernel/panic",
    "write /proc/sys/kernel/hostname", "write /proc/sys/kernel/randomize_va_space",
    "write /proc/sys/vm/overcommit_memory", "write /proc/sys/vm/drop_caches", "write /proc/sys/fs/file-max",
    "write /proc/sys/fs/suid_dumpable", "write /proc/mtrr", "write /proc/irq/default_smp_affinity",
    "write /sys/kernel/mm/transparent_hugepage/enabled", "write /sys/power/state", "write /sys/kernel/profiling",
    "write /sys/module/kernel/parameters/panic", "find anything writable in /sys",
    "mount the kernel's debugging files", "mount another proc", "mount another sysfs",
    "read a host process's environment", "reach the host's files through a process",
    "enter the namespaces of another process", "read the namespaces of another process",
    "find a release agent to set", "move itself into a parent's cgroup", "raise its own limit of memory",
    "raise its own limit of processor time", "allow itself every device", "make a cgroup of its own",
    "freeze itself out of reach", "open a raw socket", "open a packet socket", "mark packets",
    "pose as another address", "make a tunnel",
)  # fmt: skip
WITHOUT_LIMITS = (
    "raise its own limit of processes", "take more memory than allowed", "take it bit by bit",
    "take it in an unnamed file", "take it in another process", "take it in files without end", "fork without end", "start threads without end",
    "use more processors than allowed",
)  # fmt: skip
ROOTLESS = dict.fromkeys(STOPPED_BY_USER_NAMESPACE, NOBODY)
PODMAN = {
    **dict.fromkeys(
        (f"make more files than may be in {place}" for place in ("/tmp", "/cache", "/dev/shm")),
        "Podman takes no bound on the number of files there; their size is bounded",
    ),
    "fill the host's disk with its log": "the log has its cap, but Podman does not say where it lies, so nobody can look",
}
KNOWN: Mapping[str, Mapping[str, str]] = {
    "runsc": GVISOR,
    "podman": PODMAN,
    "rootless podman": ROOTLESS,
    "crun on cgroup v1": {
        "find a writable mount that was not declared": "crun leaves /sys/fs/cgroup itself writable: 1 MiB of the"
        " container's own memory, noexec; every hierarchy below it is read-only",
    },
    "no limits": dict.fromkeys(WITHOUT_LIMITS, NO_LIMITS),
}


CONTRACT = (
    "tests/engine/test_walls.py", "tests/engine/test_deadline.py", "tests/engine/test_limits.py",
    "tests/engine/test_data.py::test_what_is_prepared_is_yours_and_an_experiment_reads_it",
)  # fmt: skip
OTHERWISE: Mapping[str, Mapping[str, str]] = {  # tests of the contract that a tier fails, as is known
    "runsc": {
        "test_walls.py::test_the_root_is_read_only_and_the_mounts_are_the_declared_ones": "gVisor shows no nosuid and nodev",
        "test_walls.py::test_there_are_no_privileges": "gVisor shows no ambient capabilities, which it has not",
        "test_walls.py::test_the_guard_can_neither_be_killed_nor_stopped_nor_read": GUARD_SEEN,
        "test_limits.py::test_processes": "gVisor itself ends at the limit, and the container with it (exit code 2)",
        "test_limits.py::test_threads": "gVisor's threads are no processes of the host until they run",
        "test_limits.py::test_limits_of_every_process[guard alone]": "gVisor takes some from the engine only",
        "test_limits.py::test_message_queues": OWN_KERNEL,
        "test_limits.py::test_queued_signals": OWN_KERNEL,
    },
    "no limits": {
        "test_limits.py::test_too_much_memory": NO_LIMITS,
        "test_limits.py::test_processes": NO_LIMITS,
        "test_limits.py::test_threads": NO_LIMITS,
        "test_limits.py::test_processors": NO_LIMITS,
    },
}


def contract(tier: str) -> list[str]:
    """Build the arguments of `python`: the same tests as on Docker, without those known to end differently."""
    without = [f"--deselect=tests/engine/{test}" for test in _known(OTHERWISE, tier)]
    return ["-m", "pytest", "-q", "-p", "no:cacheprovider", *CONTRACT, *without]


def tier_of(engine: Engine, runtime: str) -> str:
    """Return the name by which `explained` knows a tier."""
    facts = engine.describe()
    rootless = "rootless " if "rootless" in facts["security"] else ""
    parts = {
        runtime: True,
        f"{rootless}podman": engine.is_podman,
        "crun on cgroup v1": ((runtime or facts["default_runtime"]), facts["cgroup"]) == ("crun", "1"),
        "no limits": not engine.limits,
    }
    return ", ".join(part for part, applies in parts.items() if applies)


def explained(finding: Finding, tier: str) -> Finding:
    """Turn allowed or void into `differs` where the tier is known for it; never blocked, and never on another tier.

    What is stopped even for root proves nothing by itself: it must have been refused to the trainer as well.
    """
    why = _known(KNOWN, tier).get(finding.probe)
    if why is None or finding.verdict not in (Verdict.ALLOWED, Verdict.VOID):
        return finding
    if why is NOBODY and finding.verdict is Verdict.ALLOWED:
        return finding
    return replace(finding, verdict=Verdict.DIFFERS, why=why)


def _known(differences: Mapping[str, Mapping[str, str]], tier: str) -> dict[str, str]:
    """Merge the known differences of all parts of a tier."""
    return {what: why for name, known in differences.items() if name in tier for what, why in known.items()}
