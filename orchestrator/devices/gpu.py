"""NVML, only here: which GPUs there are, what runs on them, what broke. It reads; no setting is ever changed.

Any failure is a LeaseUnavailable of one line that says what to fix.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pynvml

from orchestrator.errors import LeaseUnavailable
from orchestrator.units import MIB

SYSFS = Path("/sys")
IDLE_MEMORY_BYTES = 500 * MIB
IDLE_MEMORY_SHARE = 0.02
IDLE_UTILISATION_PERCENT = 5
BROKEN_XIDS = frozenset({48, 61, 62, 63, 64, 74, 79, 94, 95, 119, 120, 140, 143})  # the device, not the program on it
THROTTLES = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat (hardware)",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting: "clocks set by its administrator",
}
_UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_NO_PERMISSION,
)
_FIXES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed here; install it, or use --profile cpu",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded; `modprobe nvidia`, or use --profile cpu",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "driver and library versions differ (the driver was updated under a running kernel); reboot, or use"
        " --profile cpu"
    ),
    pynvml.NVML_ERROR_GPU_IS_LOST: "a GPU fell off the bus; its administrator must reset it or reboot",
    pynvml.NVML_ERROR_RESET_REQUIRED: "a GPU needs a reset; ask its administrator",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not use the NVIDIA driver; check the permissions of /dev/nvidia*",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU, or a MIG instance of one: what can be leased."""

    uuid: str
    name: str  # of a MIG instance it ends with the profile: "NVIDIA H100 MIG 1g.10gb"
    memory_bytes: int
    pci: Path  # its directory in sysfs; of a MIG instance, that of the whole GPU
    driver: str
    power_limit_w: int | None
    parent: str = ""  # UUID of the GPU that a MIG instance is a part of
    mig_index: int | None = None

    @property
    def hardware(self) -> str:
        """The hardware class; only scores of the same class are comparable."""
        power = f"{self.power_limit_w} W" if self.power_limit_w else "power limit unknown"
        return f"{self.name}, {power}, driver {self.driver}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The current use of a device."""

    pids: frozenset[int]  # host pids
    memory_bytes: int
    utilisation_percent: int | None  # None if NVML does not report it: MIG instances

    def busy(self, device: Device) -> str:
        """Return why the device is not idle, "" if it is."""
        if self.memory_bytes >= max(IDLE_MEMORY_BYTES, IDLE_MEMORY_SHARE * device.memory_bytes):
            return f"{self.memory_bytes // MIB} MiB of its memory are in use"
        if (self.utilisation_percent or 0) > IDLE_UTILISATION_PERCENT:
            return f"it is {self.utilisation_percent} % busy"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The current speed of a GPU and what limits it; None for what NVML does not report."""

    sm_mhz: float | None
    power_w: float | None
    temperature_c: float | None
    throttled: frozenset[str]  # reasons for a clock below the highest, idleness left out


def devices(sysfs: Path = SYSFS) -> tuple[Device, ...]:
    """List every GPU and MIG instance that answers, in NVML's order; a GPU split into instances is not listed."""
    return list_devices(sysfs)[0]


def list_devices(sysfs: Path = SYSFS) -> tuple[tuple[Device, ...], str]:
    """List the devices that answer, and return why one does not, "" if they all do."""
    found: list[Device] = []
    lost: pynvml.NVMLError | None = None
    with open_nvml():
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                found.extend(_leasable(pynvml.nvmlDeviceGetHandleByIndex(index), driver, sysfs))
            except pynvml.NVMLError as error:
                lost = error
        if lost is not None and not found:
            raise lost
    return tuple(found), str(_to_lease_error(lost)) if lost else ""


def lost(sysfs: Path = SYSFS) -> tuple[str, ...]:
    """Return why each GPU that does not answer fails; it is not leased."""
    found: list[str] = []
    with open_nvml():
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                list(_leasable(pynvml.nvmlDeviceGetHandleByIndex(index), "", sysfs))
            except pynvml.NVMLError as error:
                found.append(f"GPU {index}: {_to_lease_error(error)}")
    return tuple(found)


def activity(device: Device) -> Activity:
    """Read processes, memory and utilisation of a device. Raises LeaseUnavailable if it is lost."""
    with open_nvml():
        handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
        running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
        with _where_supported():
            running = running + pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle)
        utilisation = None
        with _where_supported():
            utilisation = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        return Activity(
            pids=frozenset(int(process.pid) for process in running),
            memory_bytes=int(_memory(handle).used),
            utilisation_percent=utilisation,
        )


def clocks(device: Device) -> Clocks:
    """Read clock, power and temperature of a device, of the whole GPU for a part of one. Raises LeaseUnavailable."""
    with open_nvml():
        handle = pynvml.nvmlDeviceGetHandleByUUID(device.parent or device.uuid)
        sm_mhz = power_w = temperature_c = None
        reasons = 0
        with _where_supported():
            sm_mhz = float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        with _where_supported():
            power_w = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
        with _where_supported():
            temperature_c = float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        with _where_supported():
            reasons = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        return Clocks(
            sm_mhz=sm_mhz,
            power_w=power_w,
            temperature_c=temperature_c,
            throttled=frozenset(name for bit, name in THROTTLES.items() if reasons & bit),
        )


def trouble(device: Device) -> str:
    """Return why a device should not be used, "" if it is fine. Raises LeaseUnavailable if it is lost."""
    found: list[str] = []
    with open_nvml():
        handle = pynvml.nvmlDeviceGetHandleByUUID(device.parent or device.uuid)
        with _where_supported():
            if pynvml.nvmlDeviceGetComputeMode(handle) != pynvml.NVML_COMPUTEMODE_DEFAULT:
                found.append("its compute mode lets one process at most use it, and an experiment has two predictors")
        with _where_supported():
            if len(set(pynvml.nvmlDeviceGetMigMode(handle))) > 1:
                found.append("its MIG mode changes at the next reset")
        with _where_supported():
            _, _, pending, failed = pynvml.nvmlDeviceGetRemappedRows(handle)
            if pending or failed:
                found.append("rows of its memory are broken and wait for a reset or a repair")
        with _where_supported():
            kinds = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            if count := int(pynvml.nvmlDeviceGetTotalEccErrors(handle, *kinds)):
                found.append(f"{count} memory errors could not be corrected since its last reset")
    return "; ".join(found)


class XidWatch:
    """Collects the Xid errors that the driver reports for a device while the block runs."""

    def __init__(self, device: Device) -> None:
        """Prepare the listener; NVML is not called before the block begins."""
        self._uuid = device.parent or device.uuid
        self._events: Any = None

    def __enter__(self) -> Self:
        """Subscribe; a driver without events disables the watch, not the experiment."""
        with _nvml_error():
            pynvml.nvmlInit()
            with _where_supported():
                events = pynvml.nvmlEventSetCreate()
                handle = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
                self._events = events
        return self

    def new(self) -> list[int]:
        """Return the Xids since the last call."""
        found: list[int] = []
        while self._events is not None:
            try:
                found.append(int(pynvml.nvmlEventSetWait_v2(self._events, 0).eventData))
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    raise _to_lease_error(error) from error
                break
        return found

    def __exit__(self, *_: object) -> None:
        """Unsubscribe; errors are ignored."""
        with suppress(pynvml.NVMLError):
            if self._events is not None:
                pynvml.nvmlEventSetFree(self._events)
            pynvml.nvmlShutdown()


def _leasable(handle: Any, driver: str, sysfs: Path) -> Iterator[Device]:  # noqa: ANN401  # NVML's handles have no type
    whole = _device(handle, driver, _pci(handle, sysfs), _power_w(handle))
    mig = False
    with _where_supported():
        mig = pynvml.nvmlDeviceGetMigMode(handle)[0] == 1
    if not mig:
        yield whole
        return
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                raise
            continue
        yield _device(instance, driver, whole.pci, whole.power_limit_w, parent=whole.uuid, mig_index=index)


def _device(handle: Any, driver: str, pci: Path, power_w: int | None, **mig: Any) -> Device:  # noqa: ANN401
    return Device(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(_memory(handle).total),
        pci=pci,
        driver=driver,
        power_limit_w=power_w,
        **mig,
    )


def _pci(handle: Any, sysfs: Path) -> Path:  # noqa: ANN401
    """Return the device's sysfs folder; NVML writes 00000000:65:00.0 where sysfs has 0000:65:00.0."""
    domain, rest = _text(pynvml.nvmlDeviceGetPciInfo(handle).busId).lower().split(":", 1)
    return sysfs / "bus/pci/devices" / f"{int(domain, 16):04x}:{rest}"


def _power_w(handle: Any) -> int | None:  # noqa: ANN401
    with _where_supported():
        return int(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) // 1000
    return None


def _memory(handle: Any) -> Any:  # noqa: ANN401
    """Return memory use; version 2 leaves out what the driver reserves, old drivers have only version 1."""
    with _where_supported():
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        if error.value not in _UNSUPPORTED:
            raise


@contextmanager
def _nvml_error() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise _to_lease_error(error) from error


@contextmanager
def open_nvml() -> Iterator[None]:
    """Open NVML for the length of the block; nested blocks share it.

    A GPU without persistence mode is initialised again whenever it has no user, and then seems busy for a moment.
    """
    with _nvml_error():
        pynvml.nvmlInit()
        try:
            yield
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def _to_lease_error(error: pynvml.NVMLError) -> LeaseUnavailable:
    fix = _FIXES.get(error.value, "`nvidia-smi` may say more; or use --profile cpu")
    message = str(error).rstrip(".")
    return LeaseUnavailable(f"NVML: {message}: {fix}")
