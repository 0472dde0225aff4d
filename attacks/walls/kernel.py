"""Attacks on the kernel: system calls that make namespaces, load code, look into others, or take the machine."""

import re

from attacks.walls.arena import ROOT, Arena
from attacks.walls.base import Finding, Probe

NAME = "kernel"
GOLDEN = ROOT / "tests/engine/seccomp.golden"
NAMESPACES = {
    "mount": 0x00020000, "cgroup": 0x02000000, "UTS": 0x04000000, "IPC": 0x08000000, "user": 0x10000000, "PID": 0x20000000,
    "network": 0x40000000,
}  # fmt: skip
TIME = 0x80
WAIT = "time.sleep(3); os._exit(0)"  # until the host has looked
OF_OTHERS = "fd = os.open('/usr/bin/python3', os.O_RDONLY)\n"  # a file that every container shares
CALLS = {  # what the kernel itself would say to these arguments does no harm in a container without any wall
    "setns": "call(308, globals().get('other') or os.open('/proc/self/ns/uts', os.O_RDONLY), 0)",
    "mount a file system": "mount('none', '/mnt', 'tmpfs', 0)",
    "unmount": "call(166, ctypes.c_char_p(b'/mutable/train.py'), 2)",
    "fsopen": "call(430, ctypes.c_char_p(b'tmpfs'), 0)",
    "fsconfig": "call(431, -1, 0, 0, 0, 0)",
    "fsmount": "call(432, -1, 0, 0)",
    "fspick": "call(433, -100, ctypes.c_char_p(b'/'), 0)",
    "open_tree": "call(428, -100, ctypes.c_char_p(b'/'), 1)",
    "move_mount": "call(429, -1, ctypes.c_char_p(b''), -1, ctypes.c_char_p(b''), 0)",
    "mount_setattr": "call(442, -100, ctypes.c_char_p(b'/nowhere'), 0, ctypes.create_string_buffer(32), 32)",
    "pivot_root": "call(155, ctypes.c_char_p(b'/nowhere'), ctypes.c_char_p(b'/nowhere'))",
    "chroot": "call(161, ctypes.c_char_p(b'/tmp'))",
    "add_key": "call(248, ctypes.c_char_p(b'user'), ctypes.c_char_p(b'canary'), ctypes.c_char_p(b'x'), 1, -2)",
    "request_key": "call(249, ctypes.c_char_p(b'user'), ctypes.c_char_p(b'canary'), 0, 0)",
    "keyctl": "call(250, 0, -2, 1)",
    "bpf": "call(321, 0, ctypes.c_char_p(struct.pack('4I', 2, 4, 4, 1) + bytes(48)), 64)",
    "io_uring_setup": "call(425, 1, ctypes.create_string_buffer(120))",
    "io_uring_enter": "call(426, -1, 0, 0, 0)",
    "io_uring_register": "call(427, -1, 0, 0, 0)",
    "userfaultfd": "call(323, 0)",
    "perf_event_open": "call(298, ctypes.c_char_p(struct.pack('2I', 1, 112) + bytes(104)), 0, -1, -1, 0)",
    "fanotify_init": "call(300, 0, 0)",
    "open_by_handle_at": "call(304, -1, ctypes.create_string_buffer(64), 0)",
    "name_to_handle_at": "call(303, -100, ctypes.c_char_p(b'/'), ctypes.create_string_buffer(64), ctypes.create_string_buffer(4), 0)",
    "ptrace of itself by its parent": "call(101, 0, 0, 0, 0)",
    "process_vm_readv": "call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "process_vm_writev": "call(311, os.getppid(), 0, 0, 0, 0, 0)",
    "pidfd_getfd": "call(438, os.pidfd_open(os.getppid()), 0, 0)",
    "kcmp": "call(312, os.getpid(), os.getppid(), 0, 0, 0)",
    "process_madvise": "call(440, -1, 0, 0, 0, 0)",
    "move_pages of another": "call(279, os.getppid(), 0, 0, 0, 0, 0)",
    "migrate_pages": "call(256, os.getppid(), 0, 0, 0)",
    "drop it in a number that the kernel cuts": "call(221, os.open(sys.executable, os.O_RDONLY), 0, 0, 4 | 1 << 32)",
    "write with flags": "call(328, -1, 0, 0, 0, 0, 8)",
    "init_module": "call(175, 0, 0, ctypes.c_char_p(b''))",
    "finit_module": "call(313, -1, ctypes.c_char_p(b''), 0)",
    "delete_module": "call(176, ctypes.c_char_p(b'no_such_module'), 0)",
    "kexec_load": "call(246, 0, 0, 0, -1)",
    "kexec_file_load": "call(320, -1, -1, 0, 0, 0)",
    "clock_settime": "call(227, 1, ctypes.create_string_buffer(16))",
    "settimeofday": "call(164, 0, 0)",
    "adjtimex": "call(159, ctypes.create_string_buffer(208))",
    "clock_adjtime": "call(305, 0, ctypes.create_string_buffer(208))",
    "sethostname": "call(170, ctypes.c_char_p(b'canary'), 6)",
    "setdomainname": "call(171, ctypes.c_char_p(b'canary'), 6)",
    "fadvise64, to push pages out": OF_OTHERS + "call(221, fd, 0, 0, 4)",
    "readahead, to pull pages in": OF_OTHERS + "call(187, fd, 0, 4096)",
    "mincore, to see which pages others used": OF_OTHERS + "page = mmap.mmap(fd, 4096, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer_copy(b'x'))\ncall(27, at & ~4095, 4096, ctypes.create_string_buffer(16))",
    "cachestat": OF_OTHERS + "call(451, fd, ctypes.create_string_buffer(16), ctypes.create_string_buffer(40), 0)",
    "preadv2 of cached pages only": OF_OTHERS + "room = ctypes.create_string_buffer(16)\n"
        "call(327, fd, ctypes.c_char_p(struct.pack('2Q', ctypes.addressof(room), 16)), 1, 0, 0, 8)",
    "open a pair of sockets that are not Unix": "call(53, 2, 1, 0, ctypes.create_string_buffer(8))",
    "let its guard run last": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "schedule its guard when idle only": "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "set a limit of its guard": "resource.prlimit(1, resource.RLIMIT_NOFILE, (64, 64))",
    "reboot": "call(169, 0, 0, 0, 0)",
    "swapon": "call(167, ctypes.c_char_p(b'/nowhere'), 0)",
    "swapoff": "call(168, ctypes.c_char_p(b'/nowhere'))",
    "syslog": "call(103, 10, 0, 0)",
    "acct": "call(163, ctypes.c_char_p(b'/nowhere'))",
    "quotactl": "call(179, 0, ctypes.c_char_p(b'/nowhere'), 0, 0)",
    "iopl": "call(172, 0)",
    "ioperm": "call(173, 0, 1, 0)",
    "modify_ldt": "call(154, 0, ctypes.create_string_buffer(64), 64)",
    "personality without randomisation": "call(135, 0x0040000)",
    "personality that reads what it may execute": "call(135, 0x0400000)",
    "memfd_secret": "call(447, 0)",
    "process_mrelease": "call(448, -1, 0)",
    "seccomp, to answer another's calls": "call(317, 1, 8, 0)",
    "landlock_create_ruleset": "call(444, 0, 0, 1)",
    "sysfs": "call(139, 3)",
    "ioprio_set": "call(251, 1, 0, 1 << 13)",
    "become root": "call(105, 0)",
    "become another group": "call(106, 0)",
    "give itself groups": "os.setgroups([0, 4])",
    "gain a capability": "header = struct.pack('Ii', 0x20080522, 0)\n"
        "call(126, ctypes.c_char_p(header), ctypes.c_char_p(struct.pack('6I', 1 << 21, 1 << 21, 0, 0, 0, 0)))",
}  # fmt: skip
CONTROLS = {  # what it takes for the host to see the difference
    "setns": "other = os.open('/proc/self/ns/uts', os.O_RDONLY)\ncall(272, 0x04000000)",
    "become root": "os.setresuid(1234, 1234, 0)",
    "become another group": "os.setresgid(1234, 1234, 0)",
}
STATUS = "status = dict(l.rstrip().split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
CODE = """
code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))  # the 32-bit getpid
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0, 'it answers nothing'
"""
WITH_FAMILY = """
def opened(family, kind, protocol):
    try: HELD.append(socket.socket(family, kind, protocol)); return True
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and WEAK: raise Absent(f'address family {family}')
        if error.errno in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT): return False
        return True  # the kernel's own code was reached
"""
FAMILIES = {
    "packet": (17, 3, 0), "key management": (15, 3, 2), "RxRPC": (33, 2, 2), "crypto": (38, 5, 0), "vsock": (40, 1, 0),
    "TIPC": (30, 4, 0), "Bluetooth": (31, 5, 0), "CAN": (29, 3, 1), "XDP": (44, 3, 0), "SMC": (43, 1, 0), "PPP": (24, 3, 0),
    "netlink netfilter": (16, 3, 12), "netlink audit": (16, 3, 9), "netlink crypto": (16, 3, 21),
    "netlink uevents": (16, 3, 15), "netlink generic": (16, 3, 16), "netlink xfrm": (16, 3, 6),
    "netlink sock_diag": (16, 3, 4), "SCTP": (2, 5, 132), "SCTP stream": (10, 1, 132), "DCCP": (2, 6, 33),
    "MPTCP": (2, 1, 262), "L2TP": (2, 2, 115), "UDP-Lite": (2, 2, 136), "SMC on IPv4": (2, 1, 256), "ping": (2, 2, 1), "reliable datagram": (2, 4, 0),
}  # fmt: skip
SWEEP = """
known = {1, 2, 10, 16}  # Unix, IPv4, IPv6, routing messages
found = []
for family in range(46):
    for kind in (1, 2, 3, 4, 5, 6, 10):
        try: opened(family, kind, 0) and family not in known and found.append(family)
        except Absent: pass
assert found, 'Unix, IPv4, IPv6 and routing messages only'
"""
REFUSED = [
    int(number)
    for number, name, fate in map(
        str.split, filter(re.compile(r"\d").match, GOLDEN.read_text(encoding="utf-8").splitlines())
    )
    if fate == "refused" and name not in ("socket", "clone", "personality", "vhangup", "reboot")
]
SWEPT = f"""
found = []
for number in {REFUSED}:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        done = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        os.write(writer, str(ctypes.get_errno() if done == -1 else 0).encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 9)
    os.close(reader)
    killed = os.waitpid(pid, 0)[1] & 127
    if not said and killed != signal.SIGSYS or said and int(said) not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        found.append(number)
assert found, 'every one is refused'
"""
INHERITED = """
script = "import os; print([fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2 and os.path.exists(f'/proc/self/fd/{fd}')])"
said = subprocess.run([sys.executable, '-c', script], close_fds=False, capture_output=True, text=True).stdout
assert said.strip() != '[]', 'standard ones only'
"""
PROBES = (
    *(
        Probe(name=f"unshare the {name} namespace", source=f"call(272, {flag})\nif os.fork() == 0: {WAIT}")
        for name, flag in NAMESPACES.items()
    ),
    Probe(name="unshare the time namespace", source=f"call(272, {TIME})"),
    *(
        Probe(name=f"clone into a new {name} namespace", source=f"if call(56, {flag} | 17) == 0: {WAIT}")
        for name, flag in NAMESPACES.items()
    ),
    Probe(name="clone3", source="call(435, ctypes.create_string_buffer(88), 0)"),
    *(Probe(name=name, source=source, control=CONTROLS.get(name, "")) for name, source in CALLS.items()),
    Probe(name="call through the 32-bit entry", source=CODE,
),
    *(
        Probe(name=f"open a {name} socket", source=f"{WITH_FAMILY}assert opened{arguments}, 'refused'")
        for name, arguments in FAMILIES.items()
    ),
    Probe(name="open a socket of any other family", source=WITH_FAMILY + SWEEP),
    Probe(name="have any call answered that the golden list refuses", source=SWEPT),
    Probe(name="inherit a descriptor", source=INHERITED, control="os.dup2(0, 57)"),
    Probe(name="hold a capability in any set", sees=lambda fact: fact.startswith("Cap") and int(fact.split()[1], 16) > 0,
          source=STATUS + "assert any(int(status.get(f'Cap{s}', '0'), 16) for s in ('Inh', 'Prm', 'Eff', 'Bnd', 'Amb')), 'all zero'"),
    Probe(name="run without no_new_privs", sees=lambda fact: fact == "NoNewPrivs 0", source="assert libc.prctl(39, 0, 0, 0, 0) == 0, 'it is set'"),
    Probe(name="run without a system call filter", sees=lambda fact: fact == "Seccomp 0", source="assert libc.prctl(21, 0, 0, 0, 0) == 0, 'filtered'"),
    Probe(name="run unconfined where the kernel has AppArmor", source="assert open('/proc/self/attr/current').read().startswith('unconfined')",
          control="if not os.path.exists('/sys/module/apparmor'): raise Absent('AppArmor')"),
    Probe(name="write to the guard's memory", source="opens('/proc/1/mem', os.O_RDWR)"),
    Probe(name="read the guard's memory map", source="reads('/proc/1/maps')"),
    Probe(name="read the guard's environment", source="reads('/proc/1/environ')"),
    Probe(name="take over the guard's descriptors", source="lists('/proc/1/fd')"),
    Probe(name="lower its niceness", source="os.setpriority(os.PRIO_PROCESS, 0, -5)"),
    Probe(name="lock more memory than it may", source="call(149, ctypes.cast(ctypes.create_string_buffer(1 << 20), ctypes.c_void_p), 1 << 20) == 0 or limit(resource.RLIMIT_MEMLOCK, 1 << 30)"),
    Probe(name="raise the bound on open files", source="limit(resource.RLIMIT_NOFILE, 8192)"),
    Probe(name="raise the bound on file sizes", source="limit(resource.RLIMIT_FSIZE, 1 << 40)"),
    Probe(name="have its memory dumped", source="limit(resource.RLIMIT_CORE, 1 << 20)"),
    Probe(name="read the kernel's log", source="opens('/dev/kmsg', os.O_RDONLY)", control="os.mknod('/dev/kmsg', stat.S_IFCHR | 0o600, os.makedev(1, 11))"),
)  # fmt: skip


def run(arena: Arena) -> list[Finding]:
    """Run all probes in one container of each kind."""
    return arena.shared(NAME, PROBES)
