"""Runs inside a container as its train.py: each probe in a child process, how it ended in one line on stdout."""

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

LIMIT_S = 0.0  # set by whoever appends to this file
REFUSALS = (errno.EPERM, errno.EACCES)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 1, 32, 4096, 16384, 1 << 18, 1 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
WEAK = False


class Absent(Exception):  # it is no error
    """The kernel has no such thing."""


def call(number, *arguments):
    """A raw system call; raises OSError if it is refused, else the kernel was reached, whatever it says."""
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
    """Write to a file."""
    with open(path, how) as file:
        file.write(data)


def opens(path, flags=os.O_WRONLY):
    """Open a file, without doing anything with it."""
    os.close(os.open(path, flags))


def reads(path):
    """At least a byte of a file."""
    with open(path, "rb", buffering=0) as file:
        assert file.read(64), "it is empty"


def fill(folder, mib):
    """Write more than a file system may hold."""
    with open(f"{folder}/filler", "wb", buffering=0) as file:
        try:
            for _ in range(mib):
                assert file.write(bytes(1 << 20)) == 1 << 20, "a short write"
        finally:
            os.unlink(f"{folder}/filler")


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
    with socket.socket(family, kind) as s:
        s.settimeout(2.0)
        within(1.0, lambda: s.connect(address))
        s.send(say)


def exists(path):
    """A control that cannot be made where the host itself has no such thing."""
    if not os.path.exists(path):
        raise Absent(path)


def serve(path):
    """Somebody who listens on a socket of the file system."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    globals().setdefault("SERVERS", []).append(server)


def network(address, port, kind=socket.SOCK_STREAM):
    """A network of its own, in which somebody listens at that address."""
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
    """A name server that knows every name, for one question."""
    question, asker = server.recvfrom(512)
    answer = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
    server.sendto(answer, asker)


def limit(which, value):
    """Raise a limit of one's own."""
    try:
        resource.setrlimit(which, (value, value))
    except ValueError as error:
        raise PermissionError(str(error)) from error


def child(name, source, report):
    """Run one probe; never returns."""
    try:
        target = "/locked/canary_" + "".join(c if c.isalnum() else "_" for c in name) + ".py"
        if WEAK:  # what it does to mounts ends with it
            libc.unshare(0x00020000)
            libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        exec(compile(source, name, "exec"), {**globals(), "target": target, "name": name})
        said = "did"
    except Absent as error:
        said = f"absent {error}"
    except (OSError, AssertionError) as error:
        said = f"refused {getattr(error, 'strerror', None) or error or type(error).__name__}"
    except BaseException as error:
        said = f"broke {type(error).__name__}: {error}"
    os.write(report, said.encode("utf-8", "replace")[:300])
    os._exit(0)


def attempt(name, source):
    """How a probe ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        child(name, source, writer)
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
    """Every probe in turn."""
    global WEAK
    WEAK = weak
    for name, source in probes:
        said = attempt(name, source).replace("\n", " ")
        print(f"\nprobe\t{name}\t{said}", flush=True)
