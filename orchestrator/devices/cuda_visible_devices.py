"""CUDA_VISIBLE_DEVICES: which GPUs a scheduler, or the user, has given to this process; no other may be leased."""

from collections.abc import Mapping, Sequence

from orchestrator.devices import gpu
from orchestrator.errors import ConfigError

NAME = "CUDA_VISIBLE_DEVICES"
FIX = "give UUIDs, as `nvidia-smi -L` lists them, or name them in task.toml, [gpu] allow"


def allowed_devices(listed: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the UUIDs that may be leased, () for any: task.toml's own list, else the variable's.

    Raises ConfigError for an entry that does not name one GPU unambiguously, LeaseUnavailable if no GPU answers.
    """
    if listed or NAME not in environ:
        return tuple(listed)
    known, lost = gpu.list_devices()
    wholes = list(dict.fromkeys(device.parent or device.uuid for device in known))
    names = dict.fromkeys([*wholes, *(device.uuid for device in known)])
    is_numbered = not lost and (len(wholes) == 1 or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")
    found: list[str] = []
    for word in map(str.strip, environ[NAME].split(",")):
        numbered = wholes[int(word) :][:1] if word.isdecimal() and is_numbered else []
        meant = numbered or [name for name in names if word and name.startswith(word)]
        if len(meant) != 1:
            hint = "" if is_numbered else " (numbers are unambiguous only with CUDA_DEVICE_ORDER=PCI_BUS_ID)"
            raise ConfigError(f"{NAME}={environ[NAME]!r}: {word!r} does not name one GPU unambiguously{hint}: {FIX}")
        found += meant
    return tuple(found)
