"""What the walls are attacked with: every attack that was agreed on has a probe or a test, and none is dropped later."""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from attacks.walls.__main__ import GROUPS

ROOT = Path(__file__).parent
AGREED: dict[str, str] = {  # the attack: names of probes, * for any, or file.py::test; separated by |
    "write, append, truncate, unlink, rename, chmod, utime a locked file": "write a locked file | append to it | truncate it | unlink it | rename it | chmod it | utime it",
    "create a file beside it": "create a file beside it",
    "remount or bind over it": "remount it writable | bind something over it",
    "reopen it by fd, /proc/1/root, map_files": "reopen it to write by its descriptor | reopen it by /proc/1/root | reopen it by map_files",
    "shared writable mmap": "map it shared and writable",
    "write /, /usr, /etc/hosts, resolv.conf, site-packages": "write /canary | write /usr/bin/canary | write /etc/hosts | write /etc/resolv.conf | write to site-packages",
    "only the declared mounts are writable": "find a writable mount that was not declared",
    "only the cache is executable": "run a program from /tmp | run a program from /dev/shm | run a program from /out | map a program from /tmp",
    "no mount is shared": "find a shared mount",
    "mknod": "make a character device node | make a block device node",
    "setuid copy": "make a setuid copy of a program",
    "fill each writable place": "fill /tmp past its size | fill /cache past its size | fill /dev/shm past its size | fill /out past its size | fill /dev/mqueue",
    "inode bomb": "make more files than may be in /tmp | make more files than may be in /cache | make more files than may be in /out | take it in files without end",
    "file-size limit": "make a file of a terabyte",
    "locked files unchanged afterwards": "walls/test_locked.py::test_*",
    "a canary of the validation text": "find the validation text",
    "unshare and clone of every namespace": "unshare the * namespace | clone into a new * namespace",
    "clone3": "clone3",
    "setns": "setns",
    "mount, fsopen, open_tree, move_mount": "mount a file system | fsopen | open_tree | move_mount",
    "pivot_root, chroot": "pivot_root | chroot",
    "keyctl": "keyctl | add_key | request_key",
    "bpf, io_uring, userfaultfd, perf": "bpf | io_uring_setup | userfaultfd | perf_event_open",
    "ptrace, process_vm_readv, pidfd_getfd": "ptrace of itself by its parent | process_vm_readv | pidfd_getfd",
    "modules, kexec": "init_module | finit_module | delete_module | kexec_load | kexec_file_load",
    "clock_settime": "clock_settime",
    "sethostname, reboot, swapon, syslog": "sethostname | reboot | swapon | syslog",
    "a sweep over all system calls": "have any call answered that the golden list refuses | engine/test_seccomp.py::test_every_system_call_is_answered_or_refused_as_the_golden_list_says",
    "socket() for every family": "open a socket of any other family | open a MPTCP socket | open a pair of sockets that are not Unix",
    "capabilities, no_new_privs, seccomp, LSM": "hold a capability in any set | run without no_new_privs | run without a system call filter | run unconfined where the kernel has AppArmor",
    "kcore, keys, timer_list": "read /proc/kcore | read /proc/keys | read /proc/timer_list",
    "sysrq-trigger": "write /proc/sysrq-trigger",
    "core_pattern, modprobe, binfmt_misc": "write /proc/sys/kernel/core_pattern | write /proc/sys/kernel/modprobe | register a binary format",
    "release_agent, parent cgroup.procs": "find a release agent to set | move itself into a parent's cgroup",
    "raising own limits": "raise its own limit of *",
    "any writable /sys": "find anything writable in /sys",
    "host pids": "see the host's processes",
    "firmware": "list /sys/firmware",
    "oom_score_adj below start": "spare itself from the memory killer",
    "name lookup fails at once": "look up a name",
    "bridge, public, metadata, link-local": "reach the engine's bridge | reach a public address | reach the metadata address | reach a link-local address",
    "raw and packet sockets": "open a raw socket | open a packet socket",
    "only lo": "find an interface beside lo",
    "host abstract sockets": "reach a host's abstract socket | reach another experiment's abstract socket",
    "docker, containerd, dbus, MPS sockets": "talk to /run/docker.sock | talk to /run/containerd/containerd.sock | talk to /run/dbus/system_bus_socket | talk to /tmp/nvidia-mps/control",
    "a listener on the host": "reach a listener on the host's loopback | reach it by any of the host's addresses",
    "SysV and POSIX IPC empty": "see any IPC object | attach shared memory of the host | open POSIX shared memory of the host",
    "fork, thread, memory, fd bombs": "fork without end | start threads without end | take more memory than allowed | open files without end",
    "CPU quota": "use more processors than allowed",
    "10 GB on stdout": "flood its output",
    "one 1 GB line, NULs, bad UTF-8": "print one endless line | NUL bytes | bytes that are not UTF-8",
    "line ends only": "print line ends without end",
    "ignores SIGTERM, stops itself": "ignore every signal past its deadline | stop itself past its deadline",
    "double fork + setsid": "outlive the main process",
    "death within 2 s of the deadline, 20 times": "live longer than its deadline, once in many times",
    "clock tampering moves no deadline": "move its own clocks past its deadline",
    "kill -9 of the orchestrator": "kill -9 of the orchestrator: *",
    "engine restarted in mid-run": "the engine is killed in mid-run",
    "exit-code games": "pass for one killed for memory | pass for one killed at its deadline | engine/test_deadline.py::test_exit_codes",
    "a hung engine call": "a call to the engine hangs",
    "symlink to a host file or parent, loops": "a symlink to a file of the host | a symlink to a folder above | links in a circle",
    "hard link": "a hard link",
    "FIFO, socket, device": "a FIFO | a socket | a device node",
    "names": "a name with a line end | a name with an escape sequence | a name that begins with two dots | a name that is an option | a name of 255 bytes | a name that is not UTF-8 | a name that turns the text round",
    "a million files": "very many files",
    "sparse 1 TB file": "a sparse file of a terabyte",
    "archive bombs": "an archive bomb | an archive that leads upwards",
    "pickle, safetensors": "a pickle that runs code | tensors with a huge header",
    "JSON with NaN, depth bomb, duplicate keys": "JSON with NaN | JSON nested without end | JSON with a key twice",
    "ANSI and OSC, carriage returns, bidi": "a title for the terminal | something for the clipboard | a link | a carriage return that hides a line | text turned round",
    "fake val_bpb, summary, audit records": "a score | a whole summary | records of the audit",
    "prompt injection": "a fence's end and an instruction",
    "secrets: a canary of the environment": "the host's environment",
    "only the leased UUID visible": "see a GPU that was not leased",
    "other device nodes absent": "find the node of another GPU | make the node of another GPU",
    "environment tricks": "ask for all GPUs by its environment",
    "clock, power, compute mode, reset denied": "set its clocks | set its power limit | set its compute mode | reset it",
    "a canary left in GPU memory": "read what another run left in its memory",
    "memory back to its baseline": "keep its memory after the deadline",
    "endless kernel killed": "run an endless kernel past the deadline",
    "an Xid recorded": "devices/test_gpu.py::test_xids_are_seen_once | devices/test_gpu_contention.py::test_xids_are_recorded_and_the_devices_own_are_its_fault",
    "torch.compile, DataLoader and SDPA work": "engine/test_seccomp.py::test_torch_works_under_it",
}  # fmt: skip
PROBED = [name for group in GROUPS.values() for name in group.names]


@pytest.mark.parametrize("attack", AGREED)
def test_each_agreed_attack_is_made(attack: str) -> None:
    """By all the probes and tests that are named for it."""
    assert [] == [name for name in AGREED[attack].split(" | ") if not made(name)]


def test_no_two_probes_of_a_group_have_one_name() -> None:
    """Verdicts are told apart by it."""
    for group in GROUPS.values():
        assert len(group.names) == len(set(group.names))


def made(name: str) -> bool:
    """Whether there is such a probe, or such a test."""
    file, _, test = name.partition("::")
    if test:
        lines = (ROOT / file).read_text().splitlines()
        return any(fnmatchcase(line, f"def {test}(*") for line in lines)
    return any(fnmatchcase(probe, name) for probe in PROBED)
