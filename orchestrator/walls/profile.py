"""The seccomp profile as a runtime understands it. Pure."""

import json

LATER_CALLS = {"clone3"}  # refused as if the kernel had none, so that programs fall back to a call that can be checked


def for_runtime(text: str, runtime: str) -> str:
    """The profile itself, but for gVisor: it knows no errno of a rule's own, and would refuse every new thread.

    There such a call goes to gVisor's own kernel, which has none of the host's namespaces to give away.
    """
    if "runsc" not in runtime:
        return text
    profile = json.loads(text)
    rules = [
        {"names": rule["names"], "action": "SCMP_ACT_ALLOW"} if set(rule["names"]) <= LATER_CALLS else rule
        for rule in profile["syscalls"]
    ]
    return json.dumps({**profile, "syscalls": rules})
