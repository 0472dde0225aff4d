"""Runs inside a container as its train.py: each probe in a child process, how it ended in one line on stdout."""

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

LOOK_S = 8.0  # for the host's look
LIMIT_S = 0.0  # set by whoever appends to this file
REFUSALS = (errno.EPERM, errno.EACCES)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 1, 32, 4096, 16384, 1 << 18, 1 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
WEAK = False
LOOKS = True  # the host is there to look; it answers in this file
LOOKED = "/locked/looked.py"
HELD = []  # files that were obtained stay open until the host has looked
AFTERWARDS = []  # what clears up behind an attempt


class Absent(Exception):  # it is no error
    """The kernel has no such thing."""


def call(number, *arguments):
    """Make a raw system call; raises OSError if it is refused, else the kernel was reached, whatever it answered."""
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *given, *[ctypes.c_long(0)] * (6 - len(given)))
    code = ctypes.get_errno() if done == -1 else 0
    if code == errno.ENOSYS and WEAK:
        raise Absent(f"system call {number}")
    if code in (*REFUSALS, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    return done


def mount(source, target, kind, flags, options=None):
    """Mount, which must succeed."""
    if libc.mount(
        *(v and v.encode() for v in (source, target, kind)), ctypes.c_ulong(flags), options and options.encode()
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def put(path, data=b"x", how="ab"):
    """Write to a file, and hold it if that went well."""
    file = open(path, how, buffering=0)  # noqa: SIM115
    try:
        file.write(data)
    except OSError:
        file.close()
        raise
    HELD.append(file)


def opens(path, flags=os.O_WRONLY):
    """Open a file and hold it, without doing anything with it."""
    HELD.append(os.open(path, flags))
    return HELD[-1]


def reads(path):
    """Read at least a byte of a file."""
    assert os.read(opens(path, os.O_RDONLY | os.O_NONBLOCK), 64), "it is empty"


def lists(path):
    """List at least one name in a folder."""
    assert os.listdir(opens(path, os.O_RDONLY | os.O_DIRECTORY)), "nothing is there"


def fill(folder, mib):
    """Write more than a file system may hold; it is gone when nobody holds it."""
    HELD.append(file := open(f"{folder}/filler", "wb", buffering=0))  # noqa: SIM115
    os.unlink(f"{folder}/filler")
    for _ in range(mib):
        assert file.write(bytes(1 << 20)) == 1 << 20, "a short write"


def many(folder, count=66_000):
    """Make more files than a file system may hold."""
    os.mkdir(f"{folder}/many")
    AFTERWARDS.append(lambda: shutil.rmtree(f"{folder}/many"))
    for number in range(count):
        os.close(os.open(f"{folder}/many/{number}", os.O_CREAT | os.O_WRONLY))


def within(seconds, action):
    """Do it; an attempt that hangs instead of being refused at once counts as a success of the attack."""
    began = time.monotonic()
    try:
        return action()
    except OSError:
        if time.monotonic() - began > seconds:
            return None
        raise


def reaches(address, family=socket.AF_INET, kind=socket.SOCK_STREAM, say=b"hello"):
    """Connect and say something."""
    HELD.append(s := socket.socket(family, kind))
    s.settimeout(2.0)
    within(1.0, lambda: s.connect(address))
    s.send(say)


def exists(path):
    """Raise Absent if the host itself has no such path: then a control is impossible."""
    if not os.path.exists(path):
        raise Absent(path)


def serve(path):
    """Listen on a socket of the file system, in a network namespace by which the host recognises the process."""
    libc.unshare(0x40000000)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    globals().setdefault("SERVERS", []).append(server)


def network(address, port, kind=socket.SOCK_STREAM):
    """Create a network namespace in which a server listens at that address."""
    if libc.unshare(0x40000000):
        raise Absent("a network namespace")
    is_v6 = ":" in address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", b"lo", 0x41))  # up and running
        if not is_v6 and not address.startswith("127."):
            fcntl.ioctl(s, 0x8916, struct.pack("16sH2x4s16x", b"lo:1", socket.AF_INET, socket.inet_aton(address)))
    if is_v6:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, 0x8916, struct.pack("16sIi", socket.inet_pton(socket.AF_INET6, address), 128, 1))
    server = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, kind)
    for _ in range(100):  # an IPv6 address is there a moment later
        try:
            server.bind((address, port))
            break
        except OSError:
            time.sleep(0.01)
    if kind == socket.SOCK_STREAM:
        server.listen()
    globals().setdefault("SERVERS", []).append(server)
    return server


def answer_names(server):
    """Answer one question as a name server that knows every name."""
    question, asker = server.recvfrom(512)
    answer = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
    server.sendto(answer, asker)


def limit(which, value):
    """Raise a limit of one's own."""
    try:
        resource.setrlimit(which, (value, value))
    except ValueError as error:
        raise PermissionError(str(error)) from error


def look(name, when, answers):
    """Have the host look at this process, and wait until it has."""
    if not LOOKS:
        return
    token = f"{when} {os.getpid()} {name}"
    print(f"\nlook\t{token}", flush=True)
    until = time.monotonic() + LOOK_S
    while os.pread(answers, 400, 0).decode() != token and time.monotonic() < until:
        time.sleep(0.001)


def child(name, control, source, report):
    """Run one probe; never returns."""
    answers = os.open(LOOKED, os.O_RDONLY) if LOOKS else -1
    try:
        target = "/locked/canary_" + "".join(c if c.isalnum() else "_" for c in name) + ".py"
        if WEAK:  # what it does to mounts ends with it
            libc.unshare(0x00020000)
            libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        place = {**globals(), "target": target, "name": name}
        exec(compile(control if WEAK else "", name, "exec"), place)
        look(name, "before", answers)
        exec(compile(source, name, "exec"), place)
        said = "did"
    except Absent as error:
        said = f"absent {error}"
    except (OSError, AssertionError) as error:
        said = f"refused {getattr(error, 'strerror', None) or error or type(error).__name__}"
    except BaseException as error:
        said = f"broke {type(error).__name__}: {error}"
    os.write(report, said.encode("utf-8", "replace")[:300])
    with contextlib.suppress(OSError):
        look(name, "after", answers)
        for clear in AFTERWARDS:
            clear()
    os._exit(0)


def attempt(name, control, source):
    """Try one probe in a child process and return how it ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        child(name, control, source, writer)
    os.close(writer)
    deadline, status = time.monotonic() + LIMIT_S, None
    while status is None and time.monotonic() < deadline:
        done, how = os.waitpid(pid, os.WNOHANG)
        status = how if done else time.sleep(0.002)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ready = select.select([reader], [], [], 0)[0]
    said = os.read(reader, 400).decode() if ready else ""
    os.close(reader)
    if status is None:
        return "hung"
    return said or (f"killed {signal.Signals(status & 127).name}" if status & 127 else "broke it said nothing")


def run(probes, weak):
    """Run every probe in turn."""
    global WEAK
    WEAK = weak
    for name, control, source in probes:
        said = attempt(name, control, source).replace("\n", " ")
        print(f"\nprobe\t{name}\t{said}", flush=True)
