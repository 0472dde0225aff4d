"""The seccomp profile: which faults would make it weak, and its adaptation to a runtime."""

import json
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError

LATER_CALLS = {"clone3"}  # refused as if the kernel had none, so that programs fall back to a call that can be checked
REFUSING = {"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"}
KEYS = {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}  # others add architectures, or a listener
KEYS_OF_RULE = {"names", "action", "args", "comment", "errnoRet"}
ARCHITECTURES = {"SCMP_ARCH_X86_64"}  # the numbers of others mean other calls
BY_ARGUMENT = {
    "clone", "fadvise64", "personality", "preadv2", "prlimit64", "pwritev2", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "setpriority", "socket", "socketpair",
}  # fmt: skip
NEVER = frozenset((
    "acct", "add_key", "adjtimex", "bpf", "cachestat", "chroot", "clock_adjtime", "clock_settime", "create_module",
    "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module",
    "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load",
    "keyctl", "lookup_dcookie", "migrate_pages", "mincore", "mknod", "mknodat", "modify_ldt", "mount", "mount_setattr",
    "move_mount", "move_pages", "name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open",
    "pidfd_getfd", "pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl",
    "quotactl_fd", "readahead", "reboot", "request_key", "seccomp", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "sysfs", "syslog", "umount", "umount2", "unshare", "uselib", "userfaultfd",
    "vhangup",
))  # fmt: skip


def read_profile(path: Path, runtime: str) -> str:
    """Return the text of a profile, adapted for a runtime. Raises ConfigError if it is weak or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; restore it") from error
    if requirement := profile_error(text):
        raise ConfigError(f"{path}: it must be {requirement}; restore it")
    return adapt_for_runtime(text, runtime)


def adapt_for_runtime(text: str, runtime: str) -> str:
    """Return the profile, adapted for gVisor: it has no errno for a single rule, and would refuse every new thread.

    There such a call goes to gVisor's own kernel, which has none of the host's namespaces to give away.
    """
    if not is_gvisor(runtime):
        return text
    profile = json.loads(text)
    rules = [
        {"names": rule["names"], "action": "SCMP_ACT_ALLOW"} if set(rule["names"]) <= LATER_CALLS else rule
        for rule in profile["syscalls"]
    ]
    return json.dumps({**profile, "syscalls": rules})


def is_gvisor(runtime: str) -> bool:
    """Return whether a runtime brings a kernel of its own, by its name."""
    return "runsc" in runtime


def profile_error(text: str, runtime: str = "") -> str:
    """Return what a profile must be and is not; "" if it is strong."""
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"the text of a profile, in JSON ({error})"
    return _must_be(profile, runtime) if isinstance(profile, dict) else "the text of a profile, in JSON"


def _must_be(profile: dict[str, Any], runtime: str) -> str:
    if profile.get("defaultAction") not in REFUSING:
        return "a profile whose defaultAction refuses"
    rules = profile.get("syscalls", [])
    if not (profile.keys() <= KEYS and isinstance(rules, list) and all(_is_rule(rule) for rule in rules)):
        return f"a profile of {sorted(KEYS)}, its syscalls rules of {sorted(KEYS_OF_RULE)}"
    if profile.get("architectures", list(ARCHITECTURES)) != list(ARCHITECTURES):
        return f"a profile whose architectures are {sorted(ARCHITECTURES)}"
    never = NEVER if is_gvisor(runtime) else NEVER | LATER_CALLS
    if wrong := sorted(_allowed(rules) & never | _allowed(r for r in rules if not r.get("args")) & BY_ARGUMENT):
        return f"a profile that refuses {', '.join(wrong)}, or looks at the arguments where it can"
    return ""


def _is_rule(rule: object) -> bool:
    """Return whether this is a rule of names and an action, with no further condition for the engine to check."""
    if not isinstance(rule, dict) or not rule.keys() <= KEYS_OF_RULE or not isinstance(rule.get("action"), str):
        return False
    names = rule.get("names")
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _allowed(rules: Any) -> set[str]:  # noqa: ANN401  # JSON that has the shape of rules
    """Return the calls that rules let past."""
    return {name for rule in rules if rule["action"] not in REFUSING for name in rule["names"]}
