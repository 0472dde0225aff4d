"""The profile against the kernel itself: every system call, every socket family, every clone flag; and torch works."""

import errno
import json
import re
import signal
from pathlib import Path

import pytest

from orchestrator.units import MIB
from orchestrator.walls.spec import Resources
from tests.support.boxes import ROOT, Boxes

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
GOLDEN = Path(__file__).parent / "seccomp.golden"
FOR_GVISOR = {"pselect"}  # what it calls pselect6; others do not know the name and pass over it
OF_ITSELF = {"prlimit64", "sched_setattr", "sched_setparam", "sched_setscheduler", "setpriority"}  # of no other process
NUMBERS = 512  # as many as x86-64 may have for years
ROOMY = Resources(memory=4096 * MIB, cpus=2.0, pids=256, tmp=256 * MIB, cache=512 * MIB, shm=256 * MIB)
SWEEP = """
import ctypes, errno, json, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def errno_of(number, *arguments):
    '''The errno of a call in a child of its own; None where it succeeds; minus the signal that ended the child.'''
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        done = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        os.write(writer, b'%d' % (ctypes.get_errno() if done == -1 else 0))
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 9)
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    return int(said) or None if said else -(status & 127)
"""


def asked(boxes: Boxes, source: str) -> object:
    """What the source prints as JSON."""
    result = boxes.run(SWEEP + source, deadline_s=60.0, hard_limit_s=70.0)

    assert 0 == result.exit_code, result.log_tail
    text = (boxes.folder / "trainer.log").read_text()
    return json.loads("".join(re.findall(r"^\[[^]]*out\] (.*)$", text, re.MULTILINE)))


def golden() -> dict[int, tuple[str, str]]:
    """Number, name and fate of every call."""
    lines = [line.split() for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]
    return {int(number): (name, fate) for number, name, fate in lines}


def test_every_system_call_is_answered_or_refused_as_the_golden_list_says(boxes: Boxes) -> None:
    """EPERM is the filter's answer to arguments that no call accepts; ENOSYS is the runtime's where even it is too new.

    A call that is allowed and that an older kernel does not have, answers ENOSYS too.
    """
    found = asked(boxes, f"print(json.dumps([errno_of(n, *[-1] * 6) for n in range({NUMBERS})]))")
    assert isinstance(found, list)
    fates = {errno.EPERM: {"refused"}, -signal.SIGSYS: {"refused"}, errno.ENOSYS: {"refused", "answered"}}
    known = golden()

    assert [] == [
        f"{number} {known.get(number, ('unknown',))[0]}: errno {code}"
        for number, code in enumerate(found)
        if known.get(number, ("", "refused"))[1] not in {*fates.get(code, {"answered"}), "exempt"}
    ]


def test_the_golden_list_is_what_the_profile_says() -> None:
    """Calls that are allowed whatever their arguments, by name; the others need a look at their arguments."""
    profile = json.loads((ROOT / "sandbox" / "seccomp.json").read_text())
    without = [rule for rule in profile["syscalls"] if "args" not in rule]
    plain = {name for rule in without if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    by_argument = {name for rule in profile["syscalls"] if "args" in rule for name in rule["names"]}
    answered = {name for name, fate in golden().values() if fate == "answered"}

    assert ["SCMP_ARCH_X86_64"] == profile["architectures"]
    assert "SCMP_ACT_ERRNO" == profile["defaultAction"]
    assert {
        "socket",
        "socketpair",
        "clone",
        "personality",
        "fadvise64",
        "preadv2",
        "pwritev2",
        *OF_ITSELF,
    } == by_argument
    assert plain - FOR_GVISOR == answered


def test_sockets_of_four_families_only(boxes: Boxes) -> None:
    """Unix, IPv4, IPv6, and routing messages; every other family and netlink protocol is refused by the filter."""
    source = """
families = [f for f in range(64) if errno_of(41, f, 1, 0) != errno.EPERM]
pairs = [f for f in range(64) if errno_of(53, f, 1, 0, 0) != errno.EPERM]
kinds = [k for k in (1, 2, 3, 5, 10) if errno_of(41, 17, k, 768) != errno.EPERM]
protocols = [p for p in range(32) if errno_of(41, 16, 3, p) != errno.EPERM]
print(json.dumps([families, pairs, kinds, protocols]))
"""
    assert [[1, 2, 10, 16], [1], [], [0]] == asked(boxes, source)


def test_internet_sockets_are_of_tcp_and_udp_only(boxes: Boxes) -> None:
    """Neither raw ones nor SCTP, DCCP, MPTCP (262), L2TP or another protocol; whatever flags come with the kind."""
    source = """
def reaches_the_kernel(family, kind, protocol):
    done = libc.syscall(*map(ctypes.c_long, (41, family, kind, protocol)))
    if done >= 0: os.close(done)
    return done >= 0 or ctypes.get_errno() != errno.EPERM

flags = (0, os.O_CLOEXEC | os.O_NONBLOCK, 1 << 32)
print(json.dumps([
    [kind, protocol] for kind in range(16) for protocol in range(264)
    if any(reaches_the_kernel(f, kind | flag, protocol) for f in (2, 10) for flag in flags)
]))
"""
    assert [[1, 0], [1, 6], [2, 0], [2, 17]] == asked(boxes, source)


def test_no_flag_of_clone_makes_a_namespace(boxes: Boxes) -> None:
    """Each bit by itself, and clone3, whose flags a filter cannot see, is as if the kernel had none."""
    source = """
refused = [bit for bit in range(8, 32) if errno_of(56, 1 << bit | 17, 0, 0, 0, 0) == errno.EPERM]
arguments = ctypes.create_string_buffer((0).to_bytes(32, 'little') + (17).to_bytes(8, 'little'), 88)
print(json.dumps([refused, errno_of(435, ctypes.addressof(arguments), 88) == errno.ENOSYS]))
"""
    namespaces = [17, 25, 26, 27, 28, 29, 30]  # mount, cgroup, UTS, IPC, user, PID, network

    assert [namespaces, True] == asked(boxes, source)


def test_the_other_entries_into_the_kernel_are_closed(boxes: Boxes) -> None:
    """No call by its x32 number reaches the kernel, and none through the 32-bit gate."""
    source = """
import mmap
x32 = [n for n in range(550) if errno_of(1 << 30 | n, *[-1] * 6) not in (errno.EPERM, errno.ENOSYS, -signal.SIGSYS)]
pid = os.fork()
if pid == 0:
    code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
    code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
    got = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(int(got > 0))
print(json.dumps([x32, os.waitpid(pid, 0)[1] != 256]))
"""
    assert [[], True] == asked(boxes, source)


def test_the_page_cache_is_neither_asked_nor_emptied(boxes: Boxes) -> None:
    """The image's files share it, so it would carry words between predictors; plain advice and reading still work."""
    source = """
advice = [a for low in range(8) for a in (low, low | 1 << 32) if errno_of(221, -1, 0, 0, a) != errno.EPERM]
flags = [b for b in range(33) if errno_of(327, -1, 0, 0, 0, 0, 1 << b) != errno.EPERM]
flags += [b for b in range(33) if errno_of(328, -1, 0, 0, 0, 0, 1 << b) != errno.EPERM]
with open('/locked/guard.py', 'rb') as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    read = os.preadv(file.fileno(), [bytearray(9)], 0)
print(json.dumps([advice, flags, read]))
"""
    assert [[0, 1, 2, 3], [], 9] == asked(boxes, source)


def test_torch_works_under_it(boxes: Boxes) -> None:
    """Training, scaled dot product attention, worker processes that hand over tensors, and a C++ compiler."""
    source = """
        import torch, torch.nn.functional as F
        from torch.utils.data import DataLoader

        class Numbers(torch.utils.data.Dataset):
            def __len__(self): return 8
            def __getitem__(self, i): return torch.full((1024,), float(i))

        @torch.compile
        def f(x): return torch.nn.functional.gelu(x * 2 + 1).sum()

        if __name__ == "__main__":
            q = torch.randn(1, 2, 16, 8, requires_grad=True)
            F.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
            loaded = sum(float(batch.sum()) for batch in DataLoader(Numbers(), batch_size=2, num_workers=2))
            x = torch.randn(64, 64)
            same = torch.allclose(f(x), torch.nn.functional.gelu(x * 2 + 1).sum(), rtol=1e-4)
            torch.save({"q": q}, "/tmp/saved.pt")
            print("works", loaded, same, bool(q.grad.isfinite().all()))
    """
    result = boxes.run(source, deadline_s=200.0, hard_limit_s=210.0, resources=ROOMY)

    assert "works 28672.0 True True" in result.log_tail, result.log_tail
