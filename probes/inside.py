"""Runs inside a container as its train.py: each probe in a child process, how it ended in one line on stdout."""

import ctypes
import errno
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

LIMIT_S = 8.0
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
