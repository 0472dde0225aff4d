"""Attacks by way of the network and of what processes share: nothing but the loopback of the container itself."""

import ctypes
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from attacks.walls.arena import Arena
from attacks.walls.base import Finding, Observation, Probe
from attacks.walls.weak import Weaker
from orchestrator.errors import SandboxError
from orchestrator.types import Role

NAME = "network, IPC"
UNREACHABLE = {
    "a public address": ("1.1.1.1", 443), "a public name server": ("8.8.8.8", 53), "the metadata address": ("169.254.169.254", 80),
    "a link-local address": ("169.254.1.1", 80), "the engine's bridge": ("172.17.0.1", 2375), "a private address": ("10.0.0.1", 22),
    "another private address": ("192.168.0.1", 80), "a public IPv6 address": ("2606:4700:4700::1111", 443),
    "the IPv6 metadata address": ("fd00:ec2::254", 80),
}  # fmt: skip
SOCKETS = ("/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
           "/run/crio/crio.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/tmp/nvidia-mps/control",
           "/run/nvidia-persistenced/socket", "/run/snapd.socket")  # fmt: skip
NEWLINK = """
HELD.append(s := socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
def attribute(kind, data): return struct.pack('HH', 4 + len(data), kind) + data + bytes(-len(data) % 4)
body = struct.pack('BxHiII', 0, 0, 0, 0, 0) + attribute(18, attribute(1, b'veth'))
s.send(struct.pack('IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)  # RTM_NEWLINK: create it, and answer
code = struct.unpack_from('i', s.recv(4096), 16)[0]
if code == -errno.EOPNOTSUPP and WEAK: raise Absent('links of a pair')
if code: raise OSError(-code, os.strerror(-code))
"""
DNS = "socket.gethostbyname('canary.example')"
DNS_CONTROL = """
server = network('127.0.0.1', 53, socket.SOCK_DGRAM)
put('/etc/resolv.conf', b'nameserver 127.0.0.1\\n', 'wb')
threading.Thread(target=answer_names, args=(server,), daemon=True).start()
"""
IPC_KEY = 0x5EED0000 + os.getpid() % 0xFFFF
SHARED = f"canary-{os.getpid()}"


def say(where: str, family: str = "AF_INET", kind: str = "SOCK_STREAM") -> str:
    """Tell a listener on the host which probe reached it."""
    return f"reaches({where}, socket.{family}, socket.{kind}, name.encode())"


def heard(seen: Observation, name: str) -> bool:
    """Return whether the host's listener received the probe's name."""
    return name in seen.heard


@dataclass(slots=True)
class Listeners:
    """Sockets on the host that note who spoke to them."""

    heard: set[str] = field(default_factory=set)
    ports: dict[str, int] = field(default_factory=dict)
    sockets: list[socket.socket] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator["Listeners"]:
        """Listen on TCP over IPv4 and IPv6, UDP, and an abstract socket."""
        with ExitStack() as stack:
            found = cls()
            for name, family, kind, address in (
                ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("", 0)),
                ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::", 0)),
                ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("", 0)),
                ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{SHARED}"),
            ):
                server = stack.enter_context(socket.socket(family, kind))
                if family == socket.AF_INET6:
                    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.bind(address)
                if kind == socket.SOCK_STREAM:
                    server.listen()
                found.sockets.append(server)
                found.ports[name] = 0 if name == "abstract" else server.getsockname()[1]
            ended = threading.Event()
            listener = threading.Thread(target=found.listen, args=(ended,), daemon=True)
            listener.start()
            try:
                yield found
            finally:
                ended.set()
                listener.join()

    def listen(self, ended: threading.Event) -> None:
        """Collect what clients send."""
        while not ended.is_set():
            for server in select.select(self.sockets, [], [], 0.1)[0]:
                if server.type == socket.SOCK_DGRAM:
                    self.heard.add(server.recv(200).decode("utf-8", "replace"))
                    continue
                with server.accept()[0] as talk:
                    talk.settimeout(2.0)
                    self.heard.add(talk.recv(200).decode("utf-8", "replace"))


def to_host(ports: dict[str, int]) -> tuple[Probe, ...]:
    """Build attacks that the host's listeners hear if they succeed."""
    tcp, udp, tcp6 = (ports.get(name, 0) for name in ("tcp", "udp", "tcp6"))
    return (
        Probe(name="reach a listener on the host's loopback", source=say(f"('127.0.0.1', {tcp})"), oracle=heard),
        Probe(name="reach it by any of the host's addresses", source=ANY.format(port=tcp), oracle=heard),
        Probe(name="reach it over IPv6", source=say(f"('::1', {tcp6})", "AF_INET6"), oracle=heard),
        Probe(name="reach it over UDP", source=say(f"('127.0.0.1', {udp})", "AF_INET", "SOCK_DGRAM"), oracle=heard),
        Probe(name="reach a host's abstract socket", source=say(repr(f"\0{SHARED}"), "AF_UNIX"), oracle=heard),
    )


ANY = """
tried = None
for address in ADDRESSES:
    try: reaches((address, {port}), say=name.encode()); break
    except OSError as error: tried = error
else: raise tried
"""
IPC = (
    Probe(name="attach shared memory of the host", source=f"found = libc.shmget({IPC_KEY}, 0, 0)\n"
          "if found < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
          "libc.shmat.restype = ctypes.c_void_p\nlibc.shmat(found, None, 0)"),
    Probe(name="open semaphores of the host", source=f"if libc.semget({IPC_KEY}, 0, 0) < 0: raise OSError(ctypes.get_errno(), 'none')"),
    Probe(name="open a message queue of the host", source=f"if libc.msgget({IPC_KEY}, 0) < 0: raise OSError(ctypes.get_errno(), 'none')"),
    Probe(name="open POSIX shared memory of the host", source=f"put('/dev/shm/{SHARED}', name.encode())",
          oracle=lambda seen, name: name in seen.facts.get("shared", "")),
    Probe(name="open a POSIX message queue of the host", source=f"if libc.mq_open(b'/{SHARED}', 2) < 0: raise OSError(ctypes.get_errno(), 'none')"),
    Probe(name="see any IPC object", source="assert any(len(open(f'/proc/sysvipc/{kind}').readlines()) > 1 for kind in ('shm', 'sem', 'msg')), 'none'"),
)  # fmt: skip
PLAIN = (
    *(
        Probe(name=f"reach {what}", control=f"network({address!r}, {port})",
              source=f"reaches(({address!r}, {port}), socket.{'AF_INET6' if ':' in address else 'AF_INET'})")
        for what, (address, port) in UNREACHABLE.items()
    ),
    Probe(name="send to a public address over UDP", control="network('1.1.1.1', 53, socket.SOCK_DGRAM)",
          source="reaches(('1.1.1.1', 53), kind=socket.SOCK_DGRAM)"),
    Probe(name="look up a name", source=f"within(1.0, lambda: {DNS})", control=DNS_CONTROL),
    Probe(name="open a raw socket", source="HELD.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))"),
    Probe(name="open a packet socket", source="HELD.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))"),
    Probe(name="find an interface beside lo", source="assert set(os.listdir('/sys/class/net')) - {'lo'}, 'lo only'",
          sees=lambda fact: fact.startswith("interface ") and fact != "interface lo"),
    Probe(name="take lo down", source="with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack('16sH22x', b'lo', 0))",
          control="network('127.0.0.1', 1)"),
    Probe(name="give lo an address", source="with socket.socket() as s:\n  fcntl.ioctl(s, 0x8916,"
          " struct.pack('16sH2x4s16x', b'lo:9', 2, socket.inet_aton('10.9.9.9')))", control="network('127.0.0.1', 1)"),
    Probe(name="add a route", control="network('10.9.9.9', 1)", source="with socket.socket() as s:\n"
          "  to = lambda a: struct.pack('HH4s8x', 2, 0, socket.inet_aton(a))\n"
          "  fcntl.ioctl(s, 0x890B, struct.pack('8x16s16s16sH38x', to('10.8.0.0'), to('10.9.9.9'), to('255.255.0.0'), 3) + bytes(32))"),
    Probe(name="make a link by a routing message", control="libc.unshare(0x40000000)", source=NEWLINK),
    Probe(name="mark packets", source="with socket.socket() as s: s.setsockopt(socket.SOL_SOCKET, 36, 7)"),
    Probe(name="pose as another address", source="with socket.socket() as s: s.setsockopt(socket.SOL_IP, 19, 1)"),
    Probe(name="make a tunnel", source="opens('/dev/net/tun', os.O_RDWR)", control="exists('/sys/class/misc/tun')\n"
          "os.makedirs('/dev/net', exist_ok=True)\nos.mknod('/dev/net/tun', stat.S_IFCHR | 0o600, os.makedev(10, 200))"),
    *(
        Probe(name=f"talk to {path}", source=f"HELD.append(s := socket.socket(socket.AF_UNIX))\ns.connect({path!r})",
              control=f"serve({path!r})")
        for path in SOCKETS
    ),
)  # fmt: skip
NEIGHBOUR = f"\0neighbour-{os.getpid()}"
LISTEN = f"server = socket.socket(socket.AF_UNIX)\nserver.bind({NEIGHBOUR!r})\nserver.listen()\n"
BESIDE = Probe(name="reach another experiment's abstract socket", source=f"reaches({NEIGHBOUR!r}, socket.AF_UNIX)",
               control=f"libc.unshare(0x40000000)\n{LISTEN}")  # fmt: skip
PROBES = (*PLAIN, BESIDE, *to_host({}), *IPC)


def run(arena: Arena) -> list[Finding]:
    """Run all probes; the weak container shares the host's network and IPC namespaces and makes the other targets."""
    with Listeners.open() as listeners, shared_things() as file, neighbour(arena):
        local = f"ADDRESSES = {addresses()!r}\n"
        probes = tuple(
            Probe(name=p.name, source=local + p.source if "ADDRESSES" in p.source else p.source, oracle=p.oracle)
            for p in to_host(listeners.ports)
        )
        weaker = Weaker(host={"NetworkMode": "host", "IpcMode": "host"})

        def note(seen: Observation) -> None:
            seen.heard |= listeners.heard
            listeners.heard.clear()
            seen.facts["shared"] = file.read_text(encoding="utf-8")
            file.write_text("", encoding="utf-8")

        return arena.shared(NAME, (*PLAIN, BESIDE, *probes, *IPC), weaker=weaker, note=note)


@contextmanager
def neighbour(arena: Arena) -> Iterator[None]:
    """Start another experiment's trainer, which listens."""
    with arena.opened(f"import socket, time\n{LISTEN}print('listens', flush=True)\ntime.sleep(600)\n") as (box, _):
        listens = threading.Event()
        box.start(Role.TRAINER, best=None, on_line=lambda line: listens.set() if line == "listens" else None)
        if not listens.wait(60.0):
            raise SandboxError("the neighbour of an attack never listened")
        yield


def addresses() -> list[str]:
    """List every address by which this host may be reached."""
    found = {"127.0.0.1", "172.17.0.1"}
    with suppress(OSError):  # a host that does not know its own name
        found |= {str(item[4][0]) for item in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return sorted(found)


@contextmanager
def shared_things() -> Iterator[Path]:
    """Create one of each kind of IPC object on the host, open to all users while the attacks last; yields the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    everyone = 0o1666  # made if it is not there
    memory, semaphores, queue = (
        libc.shmget(IPC_KEY, 4096, everyone), libc.semget(IPC_KEY, 1, everyone), libc.msgget(IPC_KEY, everyone)
    )  # fmt: skip
    libc.mq_open(f"/{SHARED}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    file = Path("/dev/shm", SHARED)
    file.touch(mode=0o666)
    file.chmod(0o666)
    try:
        yield file
    finally:
        file.unlink()
        libc.mq_unlink(f"/{SHARED}".encode())
        libc.shmctl(memory, 0, None)
        libc.semctl(semaphores, 0, 0)
        libc.msgctl(queue, 0, None)
