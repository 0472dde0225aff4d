"""Attacks by way of /proc, /sys and cgroups: the host's processes, its knobs, and one's own limits."""

import os
import subprocess
import sys
from contextlib import suppress

from attacks.walls import host
from attacks.walls.arena import Arena
from attacks.walls.base import Finding, Observation, Probe
from attacks.walls.weak import Weaker
from orchestrator.walls.container import RunningContainer

NAME = "proc, sys, cgroup"
MARK = "canary-process-4be1"
SECRET = "canary-secret-77c0"
HELD = "/proc/sys/kernel/core_pattern"
READ = ("kcore", "keys", "timer_list", "sched_debug", "latency_stats", "kpageflags", "kpagecount", "slabinfo",
        "vmallocinfo", "kmsg", "interrupts", "acpi/wakeup", "pagetypeinfo")  # fmt: skip
WRITTEN = ("/proc/sysrq-trigger", HELD, "/proc/sys/kernel/modprobe", "/proc/sys/kernel/panic", "/proc/sys/kernel/hostname",
           "/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches",
           "/proc/sys/kernel/ns_last_pid", "/proc/sys/fs/file-max", "/proc/sys/fs/suid_dumpable", "/proc/sys/net/ipv4/ip_forward", "/proc/mtrr",
           "/proc/irq/default_smp_affinity", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state",
           "/sys/kernel/uevent_helper", "/sys/kernel/profiling", "/sys/module/kernel/parameters/panic")  # fmt: skip
SYS_WRITABLE = "mount('none', '/sys', 'sysfs', MS_REMOUNT)"
WALK = """
def writable(top):
    for folder, _, files in os.walk(top):
        for name in files:
            try: opens(os.path.join(folder, name)); return True
            except OSError: pass
"""
LIST = "lists({!r})"
PROCESSES = """
found = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: found.append(open(f'/proc/{{pid}}/{0}', 'rb'))
    except OSError: pass
HELD += [file for file in found if {1!r}.encode() + {2!r}.encode() in file.read()]
found = len(found)
assert HELD, f'{{found}} processes of its own'
"""
OTHER = f"""
def said(pid):
    try: return open(f'/proc/{{pid}}/cmdline', 'rb').read()
    except OSError: return b''
pid = next((p for p in os.listdir('/proc') if p.isdigit() and {MARK[:8]!r}.encode() + {MARK[8:]!r}.encode() in said(p)), 1)
"""
HIERARCHY = """
os.makedirs('/tmp/hierarchy', exist_ok=True)
try: mount('none', '/tmp/hierarchy', 'cgroup', 0, 'memory')
except OSError as error:
    if error.errno != errno.ENODEV and error.errno != errno.EINVAL: raise
    mount('none', '/tmp/hierarchy', 'cgroup2', 0)
"""
LIMITS = {  # of the container's own cgroup: in version 1, in version 2, what it would like
    "memory": ("memory/memory.limit_in_bytes", "memory.max", str(900 << 20)),
    "processes": ("pids/pids.max", "pids.max", "300"),
    "processor time": ("cpu/cpu.cfs_quota_us", "cpu.max", "-1"),
}
FLOOR = """
if not int(next(l for l in open('/proc/self/status') if l.startswith('CapEff')).split()[1], 16) >> 24 & 1:
    raise Absent('the engine itself lacks CAP_SYS_RESOURCE, so the kernel keeps no floor')
"""
RAISE = """
import glob
path = '/sys/fs/cgroup/{0}' if os.path.exists('/sys/fs/cgroup/{0}') else '/sys/fs/cgroup/{1}'
put(path, b'{2}', 'wb')
"""
RAISE_CONTROL = """
for line in open('/proc/self/mountinfo'):
    if line.split()[4].startswith('/sys/fs/cgroup/'): mount('none', line.split()[4], '', MS_REMOUNT | MS_BIND)
mount('none', '/sys/fs/cgroup', '', MS_REMOUNT | MS_BIND)
"""


def raised(seen: Observation, name: str) -> bool:
    """Return whether the container's limit changed, as the host saw it."""
    which = name.removeprefix("raise its own limit of ")
    return len(seen.facts.get(which, set())) > 1


PROBES = (
    *(
        Probe(name=f"read /proc/{path}", control=f"exists('/proc/{path}')",
              source=f"fd = os.open('/proc/{path}', os.O_RDONLY | os.O_NONBLOCK)\nassert os.read(fd, 64), 'it is empty'")
        for path in READ
    ),
    *(
        Probe(name=f"write {path}", control=f"exists({path!r})\n" + (SYS_WRITABLE if path.startswith("/sys") else ""),
              source=f"opens({path!r})")
        for path in WRITTEN
    ),
    Probe(name="register a binary format", source="os.path.exists('/proc/sys/fs/binfmt_misc/register') or"
          " mount('none', '/proc/sys/fs/binfmt_misc', 'binfmt_misc', 0)\nopens('/proc/sys/fs/binfmt_misc/register')",
          control="exists('/proc/sys/fs/binfmt_misc')"),
    Probe(name="find anything writable in /proc/sys", source=WALK + "assert writable('/proc/sys'), 'nothing'"),
    Probe(name="find anything writable in /sys", source=WALK + "assert writable('/sys'), 'nothing'", control=SYS_WRITABLE),
    *(Probe(name=f"list {path}", source=LIST.format(path), control=f"exists({path!r})") for path in ("/sys/firmware", "/proc/scsi")),
    Probe(name="mount the kernel's debugging files", source="mount('none', '/mnt', 'debugfs', 0)"),
    Probe(name="mount another proc", source="mount('none', '/mnt', 'proc', 0)"),
    Probe(name="mount another sysfs", source="mount('none', '/mnt', 'sysfs', 0)"),
    Probe(name="see the host's processes", source=PROCESSES.format("cmdline", MARK[:8], MARK[8:])),
    Probe(name="read a host process's environment", source=PROCESSES.format("environ", SECRET[:8], SECRET[8:])),
    Probe(name="reach the host's files through a process", source=OTHER + "lists(f'/proc/{pid}/root/proc')"),
    Probe(name="enter the namespaces of another process", source=OTHER + "call(308, os.open(f'/proc/{pid}/ns/uts', os.O_RDONLY), 0)"),
    Probe(name="read the namespaces of another process", source=OTHER + "os.open(f'/proc/{pid}/ns/mnt', os.O_RDONLY)"),
    Probe(name="find a release agent to set", source=HIERARCHY + "opens('/tmp/hierarchy/release_agent')",
          control="exists('/sys/fs/cgroup/memory')"),
    Probe(name="move itself into a parent's cgroup", source=HIERARCHY + "opens('/tmp/hierarchy/cgroup.procs')"),
    *(
        Probe(name=f"raise its own limit of {which}", source=RAISE.format(*paths), control=RAISE_CONTROL, oracle=raised)
        for which, paths in LIMITS.items()
    ),
    Probe(name="allow itself every device", source="opens('/sys/fs/cgroup/devices/devices.allow')",
          control="exists('/sys/fs/cgroup/devices/devices.allow')\n" + RAISE_CONTROL),
    Probe(name="make a cgroup of its own", source="path = '/sys/fs/cgroup/memory/own' if os.path.isdir('/sys/fs/cgroup/memory')"
          " else '/sys/fs/cgroup/own'\nos.mkdir(path)\nAFTERWARDS.append(lambda: os.rmdir(path))\nopens(path, os.O_RDONLY)", control=RAISE_CONTROL),
    Probe(name="freeze itself out of reach", source="path = '/sys/fs/cgroup/freezer/freezer.state' if os.path.exists('/sys/fs/cgroup/freezer')"
          " else '/sys/fs/cgroup/cgroup.freeze'\nopens(path)", control=RAISE_CONTROL),
    Probe(name="be another user in its own namespace", source="put('/proc/self/uid_map', b'0 0 1', 'wb')",
          control="call(272, 0x10000000)"),
    Probe(name="spare itself by the older knob", source="put('/proc/self/oom_adj', b'-1', 'wb')", control=FLOOR),
    Probe(name="spare itself from the memory killer", source="put('/proc/self/oom_score_adj', b'-1', 'wb')", control=FLOOR),
)  # fmt: skip


def run(arena: Arena) -> list[Finding]:
    """Run all probes; the weak container sees the host's processes, one of them ours, and opens but never writes."""
    environment = {**os.environ, "CANARY": SECRET}
    canary = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", MARK], env=environment)
    try:
        weaker = Weaker(host={"PidMode": "host", "CgroupnsMode": "host", "NanoCpus": 10**9})
        return arena.shared(NAME, PROBES, weaker=weaker, watch=look_at_limits)
    finally:
        canary.kill()
        canary.wait()


def look_at_limits(running: RunningContainer, seen: Observation) -> None:
    """Record every value that the container's limits had while it ran."""
    for folders in host.while_alive(running):
        for which, (first, second, _) in LIMITS.items():
            if (path := host.file_of(folders, first, second)) is not None:
                with suppress(OSError):
                    seen.facts.setdefault(which, set()).add(path.read_text(encoding="ascii").strip())
