"""What another runtime is known to do differently, and why that is no hole in the host. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from probes.base import Finding, Verdict

OWN_KERNEL = "gVisor's own kernel answers, which has nothing of the host's"
GUARD_SEEN = (
    "gVisor shows one's own processes to each other; the guard holds no secret, and to kill it ends the container"
)
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
    "make a hundred thousand files": "gVisor counts no files in memory: the limit of memory ends it, and the container",
}
KNOWN: Mapping[str, Mapping[str, str]] = {"runsc": GVISOR}


def explained(finding: Finding, runtime: str) -> Finding:
    """Allowed or void becomes `differs` where the tier is known for it; never blocked, and never on another tier."""
    known = next((differences for name, differences in KNOWN.items() if name in runtime), {})
    if finding.verdict in (Verdict.ALLOWED, Verdict.VOID) and finding.probe in known:
        return replace(finding, verdict=Verdict.DIFFERS, why=known[finding.probe])
    return finding
