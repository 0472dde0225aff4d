"""Attacks on a leased GPU and its neighbours, where there is a GPU.

No control changes a setting of a device that others use: each one sets what NVML says it is already, which takes the
same rights. The knob of a reset is opened and not turned; locked clocks and a change of MIG mode are not attempted.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attacks.walls.arena import Arena, driver
from attacks.walls.base import AttemptResult, Finding, Observation, Outcome, Probe, Verdict, judge
from attacks.walls.weak import Weaker
from orchestrator.devices import gpu
from orchestrator.devices.gpu import Device
from orchestrator.devices.lease import Lease, LeasePolicy, lease
from orchestrator.errors import ImageMissing, LeaseUnavailable
from orchestrator.walls.container import RunningContainer

NAME = "gpu"
MIB = 1 << 20
GIB = 1 << 30
ROOM = {"memory_gb": 16.0, "cpus": 4.0, "pids": 512, "shm_mb": 1024, "cache_mb": 1024}
SLOW_S = 90.0  # torch and CUDA start within it
BACK_S = 10.0  # memory of a dead container is free again by then
STARTING_S = 30.0  # the budget of a run whose kernel never ends
WAIT_S = 60.0  # for an idle GPU
NOTHING = 64 * MIB  # what a driver may keep for itself
NODES = ("/dev/nvidia-modeset", "/dev/nvidia-nvswitchctl", "/dev/dri/card0", "/dev/dri/renderD128")
ALL_GPUS = {
    "Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu", "compute", "utility"]], "Options": {},
}  # fmt: skip

ASK = """
nvml = ctypes.CDLL("libnvidia-ml.so.1")
def ask(name, *arguments):
    code = getattr(nvml, name)(*arguments)
    if code == 3 and WEAK: raise Absent(f"{name}: this device does not support it")
    if code: raise OSError(code, f"{name}: error {code}")
def now(name, *before, of=ctypes.c_uint):
    value = of()
    ask(name, *before, ctypes.byref(value))
    return value
ask("nvmlInitWithFlags", 0)
count = now("nvmlDeviceGetCount_v2").value
device = now("nvmlDeviceGetHandleByIndex_v2", 0, of=ctypes.c_void_p)
"""
SECOND = "if WEAK and {0} < 2: raise Absent('a second GPU')\nassert {0} > 1, f'there are {{{0}}}'"
ASKED_OF_CUDA = (
    "done = subprocess.run([sys.executable, '-c', 'import torch; print(torch.cuda.device_count())'], capture_output=True,\n"
    "  text=True, env={**os.environ, 'NVIDIA_VISIBLE_DEVICES': 'all', 'CUDA_VISIBLE_DEVICES': '0,1,2,3,4,5,6,7'})\n"
    "seen = int(done.stdout)\n"
)
MADE = (
    "seen = 0\nfor minor in range(8):\n  os.mknod(f'/tmp/gpu{minor}', stat.S_IFCHR | 0o666, os.makedev(195, minor))\n"
    "  try: opens(f'/tmp/gpu{minor}', os.O_RDWR); seen += 1\n  except OSError as error:\n"
    "    if error.errno not in (errno.ENXIO, errno.ENODEV): raise\n"
)
RESET = """
import glob
knobs = glob.glob('/sys/bus/pci/drivers/nvidia/*/reset')
if WEAK and not knobs: raise Absent('a knob to reset it')
for knob in knobs: opens(knob)  # and writes nothing
assert knobs, 'there is no such knob'
"""
OTHERS = (
    Probe(name="see a GPU that was not leased", source=ASK + SECOND.format("count")),
    Probe(name="find the node of another GPU", source="import glob\nseen = len(glob.glob('/dev/nvidia[0-9]*'))\n" + SECOND.format("seen")),
    Probe(name="make the node of another GPU", source=MADE + SECOND.format("seen")),
    Probe(name="ask for all GPUs by its environment", source=ASKED_OF_CUDA + SECOND.format("seen")),
    Probe(name="reset it", source=RESET, control="mount('none', '/sys', 'sysfs', MS_REMOUNT)"),
    *(Probe(name=f"open {node}", source=f"opens({node!r}, os.O_RDWR)", control=f"exists({node!r})") for node in NODES),
)  # fmt: skip
SETTINGS = (
    Probe(name="set its power limit", source=ASK + "limit = now('nvmlDeviceGetPowerManagementLimit', device)\n"
          "ask('nvmlDeviceSetPowerManagementLimit', device, limit)"),
    Probe(name="set its clocks", source=ASK + "cores, memory = (now('nvmlDeviceGetApplicationsClock', device, n) for n in (0, 2))\n"
          "ask('nvmlDeviceSetApplicationsClocks', device, memory, cores)"),
    Probe(name="set its compute mode", source=ASK + "mode = now('nvmlDeviceGetComputeMode', device)\n"
          "ask('nvmlDeviceSetComputeMode', device, mode)"),
    Probe(name="set its persistence mode", source=ASK + "mode = now('nvmlDeviceGetPersistenceMode', device)\n"
          "ask('nvmlDeviceSetPersistenceMode', device, mode)"),
    Probe(name="set its accounting mode", source=ASK + "mode = now('nvmlDeviceGetAccountingMode', device)\n"
          "ask('nvmlDeviceSetAccountingMode', device, mode)"),
)  # fmt: skip
MARK = 0x5EC2E75EC2E75EC2
FILL = f"""
import torch
held = []
while True:
    try: held.append(torch.full((1 << 25,), {MARK}, dtype=torch.int64, device='cuda'))
    except torch.OutOfMemoryError: break
torch.cuda.synchronize()
"""
LOOK = f"""
import torch
found = 0
if not WEAK: held = []
for _ in range(4096):
    if WEAK and held: held.pop()
    try:
        piece = torch.empty(1 << 25, dtype=torch.int64, device='cuda')
        found += int((piece == {MARK}).any())
    except torch.OutOfMemoryError: break
    if WEAK: break
    held.append(piece)
assert found, 'none of it is there'
"""
LEFT = Probe(name="read what another run left in its memory", source=LOOK, control=FILL)
ENDLESS = (
    "import torch\nheld = torch.ones(1 << 28, device='cuda')\ntorch.cuda._sleep(1 << 62)\ntorch.cuda.synchronize()"
)


def late(seen: Observation, _name: str) -> bool:
    """Return whether the container was alive two seconds past its deadline."""
    return seen.result is None or seen.result.duration_s > seen.result.deadline_s - seen.facts["patience"] + 2.0


def held(seen: Observation, _name: str) -> bool:
    """Return whether its memory was still allocated ten seconds after its deadline."""
    return bool(seen.facts["held"] > NOTHING)


KERNEL = Probe(name="run an endless kernel past the deadline", source=ENDLESS, oracle=late)
MEMORY = Probe(name="keep its memory after the deadline", source=ENDLESS, oracle=held)
PROBES = (*OTHERS, *SETTINGS, LEFT, KERNEL, MEMORY)


def run(arena: Arena) -> list[Finding]:
    """Lease an idle GPU and attack; where there is none, or no engine or image for it, nothing is run, and why is said."""
    try:
        gpu.devices()
    except LeaseUnavailable as error:
        return not_run(PROBES, str(error))
    try:
        with lease(LeasePolicy(profile="gpu", reserve_gpus=0), wait_s=WAIT_S) as leased:
            return attack(replace(arena, leased=leased, limit_s=SLOW_S), leased)
    except (LeaseUnavailable, ImageMissing) as error:
        return not_run(PROBES, str(error))


def attack(arena: Arena, leased: Lease) -> list[Finding]:
    """Run every attack on one leased device."""
    if leased.device is None:
        return not_run(PROBES, "no GPU was leased")
    shared = arena.shared(NAME, (*OTHERS, *SETTINGS), profile=ROOM, weaker=weaker(devices=True))
    return [*shared, memory_left(arena), *endless(arena, leased.device)]


def weaker(*, devices: bool = False, patience_s: float = 0.0) -> Weaker:
    """Build a control with room for CUDA, and with every GPU if `devices`."""
    limits = {"Memory": 16 * GIB, "MemorySwap": 16 * GIB, "ShmSize": GIB}
    nodes = [{"PathOnHost": n, "PathInContainer": n, "CgroupPermissions": "rwm"} for n in NODES if Path(n).exists()]
    every = {"DeviceRequests": [ALL_GPUS], "Devices": nodes} if devices else {}
    return Weaker(host=limits | every, patience_s=patience_s)


def memory_left(arena: Arena) -> Finding:
    """Fill the device in one container and look for leftovers in the next; the control looks at what it freed."""
    arena.one(driver((replace(LEFT, source=FILL),), None, arena.limit_s), profile=ROOM)
    strict = arena.one(driver((LEFT,), None, arena.limit_s), (LEFT,), profile=ROOM)
    control = weaker()
    weak = arena.one(driver((LEFT,), control, arena.limit_s), (LEFT,), profile=ROOM, weaker=control)
    return judge(NAME, LEFT, strict, weak)


def endless(arena: Arena, device: Device) -> list[Finding]:
    """Run a kernel that never ends, and one whose deadline is not enforced."""
    profile = {**ROOM, "time_budget_s": STARTING_S, "grace_s": 1.0}
    before = gpu.activity(device).memory_bytes

    def look(running: RunningContainer, seen: Observation) -> None:
        """Measure the memory that is still allocated some time after the deadline; the control is alive then."""
        until = time.monotonic() + STARTING_S + BACK_S
        while (taken := gpu.activity(device).memory_bytes - before) > NOTHING or running.alive():
            if time.monotonic() > until:
                break
            time.sleep(0.2)
        seen.facts["held"] = taken

    def one(control: Weaker | None) -> Observation:
        seen = arena.one(ENDLESS, profile=profile, weaker=control, watch=look)
        seen.facts["patience"] = control.patience_s if control else 0.0
        seconds = seen.result.duration_s if seen.result else -1.0
        said = Outcome(how=AttemptResult.DID, detail=f"{seconds:.1f} s, then {seen.facts['held'] // MIB} MiB")
        seen.outcomes.update({KERNEL.name: said, MEMORY.name: said})
        return seen

    weak, strict = one(weaker(patience_s=BACK_S + STARTING_S)), one(None)
    return [judge(NAME, probe, strict, weak) for probe in (KERNEL, MEMORY)]


def not_run(probes: Sequence[Probe], why: str) -> list[Finding]:
    """Report that this machine has no device to attack."""
    return [Finding(group=NAME, probe=probe.name, verdict=Verdict.NOT_RUN, why=why) for probe in probes]
