"""Check whether this machine is suitable and safe: a line per check with its severity, the reason and the fix.

Pure: `host_facts.collect` has collected the facts. weak: a wall is missing or old; the mitigations are named.
unsafe: others or model-written code could reach the host; on a shared machine that stops a GPU run until a person
accepts it by name. What is unknown is never ok.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from rich.console import Console
from rich.text import Text

from orchestrator.errors import ConfigError
from orchestrator.host.host_facts import HostFacts, Socket
from orchestrator.units import GIB

LEAST_DISK_GIB = 10
PLAIN_PORT = 2375
PAGE_CACHE_FIXED = date(2026, 5, 15)  # CVE-2026-31431 and CVE-2026-43284 write to files that can only be read


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumVersion:
    """Minimum versions that are known to be fixed, as of November 2026, by branch."""

    branches: tuple[tuple[int, ...], ...]
    same: int  # this many leading numbers name a branch

    def __str__(self) -> str:
        """Return the versions as text, `1.3.6 / 1.4.3`."""
        return " / ".join(".".join(map(str, branch)) for branch in self.branches)


ENGINE = MinimumVersion(branches=((29, 7, 1),), same=0)
RUNC = MinimumVersion(branches=((1, 3, 6), (1, 4, 3)), same=2)
TOOLKIT = MinimumVersion(branches=((1, 19, 1),), same=0)
RUNS_IMAGE = (580, 65, 6)  # the least driver for CUDA 13, which sandbox/requirements-gpu.txt pins
DRIVER = MinimumVersion(branches=((535, 309, 1), (580, 159, 3)), same=1)


class Severity(StrEnum):
    """The result of a check."""

    OK = "ok"
    WEAK = "weak"
    UNSAFE = "unsafe"


COLOURS = {Severity.OK: "green", Severity.WEAK: "yellow", Severity.UNSAFE: "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check and its result, printed as one line."""

    name: str  # also what --accept-risk takes
    judgement: Severity
    detail: str
    fix: str = ""


def run_checks(machine: HostFacts) -> list[Check]:
    """Run every check, in the order in which problems should be fixed."""
    if machine.engine_error:
        others = [
            check_kernel(machine),
            *check_sockets(machine),
            check_processes(machine),
            check_disk(machine),
            *check_cluster(machine),
            *check_gpus(machine),
        ]
        return [check_engine(machine), *others]
    return [
        check_engine(machine),
        check_runc(machine),
        check_seccomp(machine),
        check_lsm(machine),
        check_user_namespaces(machine),
        check_limits(machine),
        *check_runtimes(machine),
        check_kernel(machine),
        *check_sockets(machine),
        check_processes(machine),
        check_disk(machine),
        *check_cluster(machine),
        *check_gpus(machine),
    ]


def find_blocking_checks(checks: Iterable[Check], accepted: Iterable[str]) -> list[Check]:
    """Return the checks that must stop a GPU run on a shared machine.

    Raises ConfigError for an accepted name that is not a check's.
    """
    found = list(checks)
    names = {check.name for check in found}
    for name in accepted:
        if name not in names:
            raise ConfigError(f"--accept-risk {name}: unknown check; known checks: {', '.join(sorted(names))}")
    return [check for check in found if check.judgement is Severity.UNSAFE and check.name not in set(accepted)]


def report(checks: Iterable[Check], console: Console) -> None:
    """Print one line per check with the fix below it, and a summary at the end."""
    found = list(checks)
    for check in found:
        line = Text(f"{check.judgement:7}", COLOURS[check.judgement]).append(f"{check.name:17}", "bold not dim")
        line.append(check.detail, "default")
        console.print(line, soft_wrap=True)
        if check.fix:
            console.print(Text(f"{'':7}→ {check.fix}", "dim"), soft_wrap=True)
    console.print(Text(summarise_checks(found), "bold"), soft_wrap=True)


def summarise_checks(checks: Iterable[Check]) -> str:
    """Summarize how many checks are ok, weak and unsafe, and whether a loop may run."""
    found = list(checks)
    count = Counter(check.judgement for check in found)
    counted = ", ".join(f"{count[judgement]} {judgement}" for judgement in Severity)
    unsafe = [check.name for check in found if check.judgement is Severity.UNSAFE]
    if "engine" in unsafe:
        return f"{counted}: nothing runs without an engine"
    if unsafe:
        accept = f"fix it, or accept the risk: autoresearch loop {' '.join(f'--accept-risk {name}' for name in unsafe)}"
        return f"{counted}: a GPU loop is refused if others use this machine too; {accept}"
    if count[Severity.WEAK]:
        return (
            f"{counted}: a loop runs, unless a line says otherwise; fix what is weak where others use this machine too"
        )
    return f"{counted}: fit and safe"


def parse_version(text: str) -> tuple[int, ...]:
    """Parse the numbers a version begins with: 20.10.24+dfsg1 is 20, 10, 24. A distribution's suffix proves nothing."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def is_patched(text: str, least: MinimumVersion) -> bool | None:
    """Return whether a version is at least the minimum of its branch; None if that is unknown."""
    found = parse_version(text)
    if not found:
        return None
    for branch in least.branches:
        if found[: least.same] == branch[: least.same]:
            return found >= branch
    return None if found > max(least.branches) else False


def check_engine(machine: HostFacts) -> Check:
    """Check which engine it is, and whether its known vulnerabilities are fixed."""
    name = "engine"
    if "permission denied" in machine.engine_error.lower():
        detail = f"no permission to use {machine.socket.address}"
        return _unsafe(name, detail, "`sudo usermod -aG docker $USER`, which is as good as root")
    if machine.engine_error and machine.socket.setting:  # no other engine than the user's is started
        detail, _, fix = machine.engine_error.partition("; ")
        return _unsafe(name, detail, fix)
    if machine.engine_error:
        return _unsafe(name, f"no engine answers at {machine.socket.address}", "autoresearch start-engine")
    if machine.podman:
        detail = (
            f"podman {machine.engine or '?'}: known vulnerabilities are not tracked; mitigations: every container is"
        )
        return _weak(
            name,
            f"{detail} inspected before it starts, and has no capabilities",
            "install your distribution's latest version",
        )
    mitigations = "we never call exec, cp or archive, inspect every container, and use our own seccomp profile"
    store = f", {machine.image_store} image store" if machine.image_store else ""
    return _version(
        name, f"docker {machine.engine or '?'}{store}", is_patched(machine.engine, ENGINE), ENGINE, mitigations
    )


def check_runc(machine: HostFacts) -> Check:
    """Check the low-level runtime; a distribution's backported fixes under an old version are not recognised."""
    mitigations = "only our own image with fixed mounts is ever started, as user 65532 without capabilities"
    if machine.crun and not machine.runc:
        detail = f"{machine.crun}: known vulnerabilities of crun are not tracked; mitigations: {mitigations}"
        return _weak("runc", detail, "install your distribution's latest version")
    return _version("runc", machine.runc, is_patched(machine.runc, RUNC), RUNC, mitigations)


def check_seccomp(machine: HostFacts) -> Check:
    """Check seccomp: without it no system call is blocked."""
    if any("seccomp" in option for option in machine.security):
        return _ok("seccomp", "the engine enforces profiles; ours is sandbox/seccomp.json")
    return _unsafe("seccomp", "the engine enforces no profile", "use an engine and a kernel built with seccomp")


def check_lsm(machine: HostFacts) -> Check:
    """Check for a security module, a second wall behind capabilities and seccomp."""
    for name in ("apparmor", "selinux"):
        if any(name in option for option in machine.security):
            return _ok("lsm", f"the engine confines containers with {name}")
    detail = "the engine uses neither AppArmor nor SELinux: seccomp, capabilities and namespaces are the only walls"
    return _weak("lsm", detail, "boot a kernel with AppArmor (apt-get install apparmor), then restart the engine")


def check_user_namespaces(machine: HostFacts) -> Check:
    """Check whether root in a container would be root on the host."""
    for option, detail in (("rootless", "the engine is rootless"), ("userns", "the engine remaps users")):
        if any(option in found for found in machine.security):
            return _ok("user-namespaces", f"{detail}: root in a container has no rights on the host")
    detail = "root in a container would be root on the host; our containers run as 65532 and cannot gain privileges"
    fix = "run Podman as a user without root" if machine.podman else '"userns-remap": "default" in daemon.json'
    return _weak("user-namespaces", detail, f"{fix}, docs/hardening.md")


def check_limits(machine: HostFacts) -> Check:
    """Check that the engine can enforce every limit."""
    name = "limits"
    if not machine.cgroup:
        return _weak(name, "unknown: the engine does not report its cgroup version", "update the engine")
    version = f"cgroup v{machine.cgroup}"
    if machine.limits_missing == ("swap",):
        detail = f"{version}: swap is not limited, so an experiment can use more memory"
        return _weak(name, detail, "boot with swapaccount=1, or use cgroup v2; until then use --accept-risk limits")
    if machine.limits_missing:
        detail = f"{version}: the engine cannot limit {', '.join(machine.limits_missing)}"
        return _unsafe(name, detail, "cgroup v2 with delegation to this user, or an engine that runs as root")
    if machine.cgroup == "1":
        detail = f"{version}: memory, swap, CPUs and processes are limited, through a deprecated interface"
        return _weak(name, detail, "boot with systemd.unified_cgroup_hierarchy=1 for cgroup v2")
    return _ok(name, f"{version}: memory, swap, CPUs and processes")


def check_runtimes(machine: HostFacts) -> Iterator[Check]:
    """Check gVisor's start options, which decide how strong it is."""
    for name, arguments in machine.runtimes.items():
        if "runsc" not in name:
            continue
        given = {argument.lstrip("-").removesuffix("=true") for argument in arguments or ()}
        if arguments is None:
            detail, fix = "its arguments are unknown", "make sure it has --oci-seccomp and not --ignore-cgroups"
        elif "ignore-cgroups" in given:
            detail, fix = "--ignore-cgroups: memory, CPUs and processes are not limited", "remove it"
        elif "oci-seccomp" not in given:
            detail, fix = "without --oci-seccomp our seccomp profile is not used", "add it"
        else:
            yield _ok(f"runtime-{name}", "registered with our profile and with limits")
            continue
        where = "[engine.runtimes] in containers.conf" if machine.podman else "runtimeArgs in daemon.json"
        yield _weak(f"runtime-{name}", detail, f"{fix}: {where}, docs/hardening.md")


def check_processes(machine: HostFacts) -> Check:
    """Check that our containers' processes can be distinguished from those of other users."""
    if not machine.hidden:
        return _ok("processes", "other users' processes are visible, so contention is detected")
    detail = (
        "/proc hides other users' processes (hidepid), our containers' too: contention cannot be detected, and a GPU"
    )
    fix = "`mount -o remount,gid=GROUP /proc`, with a group of yours"
    return _weak("processes", f"{detail} run is refused", fix)


def check_cluster(machine: HostFacts) -> Iterator[Check]:
    """Check that only the owner's programs can join a Ray cluster, where there is one: it is one trust domain."""
    if machine.open_heads:
        pids = ", ".join(map(str, machine.open_heads))
        detail = f"Ray's head (pid {pids}) asks for no token: whoever reaches its port runs code as its user"
        yield _unsafe(
            "cluster", detail, "start it with RAY_AUTH_MODE=token, as `autoresearch loop --executor ray` does"
        )
    elif machine.token_is_shared:
        detail = f"{machine.cluster_token}: others can read the token of your Ray cluster, and run code as you"
        yield _unsafe("cluster", detail, f"`chmod 600 {machine.cluster_token}`, and make a new token: remove the file")
    elif machine.cluster_token is not None:
        yield _ok("cluster", f"only you can read {machine.cluster_token}")


def check_kernel(machine: HostFacts) -> Check:
    """Check the kernel, shared with every container: a version proves little, a build date a little more."""
    name, built = "kernel", machine.kernel_built
    mitigations = "our profile blocks crypto sockets, and every experiment has private copies, hashed before and after"
    fix = "update and reboot; --runtime runsc adds a second kernel in between"
    if built is None:
        return _weak(name, f"{machine.kernel}: build date unknown; {mitigations}", fix)
    if built < PAGE_CACHE_FIXED:
        detail = f"{machine.kernel} of {built}: older than the fixes of CVE-2026-31431 and -43284; {mitigations}"
        return _weak(name, detail, fix)
    return _ok(name, f"{machine.kernel} of {built}, shared with every container")


def check_sockets(machine: HostFacts) -> Iterator[Check]:
    """Check who can reach the engine: that is as good as root, and gives access to every experiment."""
    yield check_socket(machine.socket)
    name, fix = "engine-port", 'remove the tcp:// address from "hosts" in daemon.json'
    if machine.ports is None:
        yield _weak(name, "unknown whether an engine listens on a port: /proc/net/tcp cannot be read", fix)
    elif PLAIN_PORT in machine.ports:
        detail = "something on this machine listens on port 2375, the engine's port without encryption or password"
        yield _unsafe(name, detail, fix)
    elif machine.ports:
        detail = "something on this machine listens on port 2376, the engine's port for anyone with a certificate"
        yield _weak(name, detail, fix)
    else:
        yield _ok(name, "nothing listens on the ports of an engine, 2375 and 2376")


def check_socket(found: Socket) -> Check:
    """Check who else can reach the engine."""
    name, fix = "engine-socket", "remove all others from its group, or use a dedicated machine"
    if found.everyone:
        return _unsafe(name, f"{found.address}: every user of this machine can reach it and become root", fix)
    if found.unseen:
        return _weak(
            name, f"{found.address}: unknown who can reach it: {found.unseen}", "use a local socket of your own"
        )
    if found.others:
        who = ", ".join(found.others[:8]) + (", …" if len(found.others) > 8 else "")  # noqa: PLR2004  # one line
        return _weak(name, f"{found.address}: {who} (group {found.group}) can reach it and become root", fix)
    return _ok(name, f"{found.address}: only you and root")


def check_disk(machine: HostFacts) -> Check:
    """Check the free disk space for records, images and logs."""
    name, fix = "disk", f"free {LEAST_DISK_GIB} GiB; --runs FOLDER puts records elsewhere"
    said = {where: "?" if free is None else f"{free / GIB:.0f} GiB" for where, free in machine.free_bytes.items()}
    detail = ", ".join(f"{size} free for {where}" for where, size in said.items())
    known = [free for free in machine.free_bytes.values() if free is not None]
    if len(known) == len(machine.free_bytes) and min(known, default=0) >= LEAST_DISK_GIB * GIB:
        return _ok(name, detail)
    return _weak(name, detail or "unknown", fix)


def check_gpus(machine: HostFacts) -> Iterator[Check]:
    """Check devices and the driver, which model-written code can reach directly."""
    found = machine.gpus
    if not found.devices:
        detail, _, fix = (found.error or "NVML shows none").partition("; ")
        yield _weak("gpu", detail, fix or "--profile cpu needs no GPU")
        return
    if found.mps:
        yield _weak("gpu", f"an MPS daemon shares the GPUs: {found.mps}", "stop it; until then no GPU is leased")
    elif found.troubles:
        fix = "a loop waits until a GPU is idle; have a broken one reset, or list it in [gpu] exclude"
        yield _weak("gpu", "; ".join(found.troubles), fix)
    else:
        yield _ok("gpu", "; ".join(found.devices))
    driver = _version(
        "nvidia-driver", found.driver, is_patched(found.driver, DRIVER), DRIVER, "only the leased GPU is visible"
    )
    toolkit = _version(
        "nvidia-toolkit", found.toolkit, is_patched(found.toolkit, TOOLKIT), TOOLKIT, "only our own image is started"
    )
    if driver.judgement is Severity.OK and parse_version(found.driver) < RUNS_IMAGE:
        detail = f"{found.driver}: its known vulnerabilities are fixed, but torch in our image is built for CUDA 13"
        driver = _weak("nvidia-driver", detail, "update to 580.159.3 or newer, or --profile cpu")
    yield _exposed(driver, is_patched(found.driver, DRIVER))
    if machine.no_nvidia:
        detail = "not installed: the engine cannot pass a GPU to a container, so --profile gpu is refused"
        yield _weak("nvidia-toolkit", detail, f"install {TOOLKIT} or newer, and restart the engine")
        return
    yield _exposed(toolkit, is_patched(found.toolkit, TOOLKIT))


def _exposed(check: Check, fixed: bool | None) -> Check:  # noqa: FBT001
    """Rate known vulnerabilities that model-written code can reach as unsafe, whatever the mitigations."""
    return check if fixed is not False else _unsafe(check.name, check.detail, check.fix)


def _version(name: str, found: str, fixed: bool | None, least: MinimumVersion, mitigations: str) -> Check:  # noqa: FBT001
    if fixed:
        return _ok(name, found)
    if fixed is None:
        detail = f"{found or 'version unknown'}: unknown whether known vulnerabilities are fixed"
        return _weak(name, detail, f"install {least}, or newer in that branch")
    if not mitigations:
        return _unsafe(
            name, f"{found} has known vulnerabilities, and model-written code reaches it", f"update to {least}"
        )
    return _weak(name, f"{found} has known vulnerabilities; mitigations: {mitigations}", f"update to {least}")


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, judgement=Severity.OK, detail=detail)


def _weak(name: str, detail: str, fix: str) -> Check:
    return Check(name=name, judgement=Severity.WEAK, detail=detail, fix=fix)


def _unsafe(name: str, detail: str, fix: str) -> Check:
    return Check(name=name, judgement=Severity.UNSAFE, detail=detail, fix=fix)
