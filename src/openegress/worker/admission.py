"""Decides from the measured load whether this machine has room for one more egress. Pure."""

from dataclasses import dataclass

from openegress.core.errors import Code, EgressError, Fault, Phase

IDLE_HESITATION_S = 0.1
BUSY_HESITATION_S = 0.05
"""Hesitation of a busy worker whose cores are all free. It is longer than the delay of messages on the
bus."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of the machine, or of the container. Cores may be fractions."""

    cores: float
    used_cores: float
    memory_bytes: int
    free_memory_bytes: int
    in_cgroup: bool = False
    """The memory values are those of a cgroup."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The resources that an egress is expected to need. This holds up to `pixels_per_s`, a rate of encoded
    video."""

    cores: float
    memory_bytes: int
    pixels_per_s: int = 1280 * 720 * 30


@dataclass(frozen=True, slots=True)
class Reserved:
    """The resources of accepted egresses that the measured load does not include yet."""

    cores: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much of the machine egresses may take."""

    cpu_utilization: float = 1.0
    """Share of the cores. The rest is for the service itself and other programs."""
    memory_bytes: int = 0
    """Limit for the memory in use; 0: all memory."""
    no_room: Code = Code.UNAVAILABLE
    """The error code of a refusal."""


def admit(
    kind: str, cost: Cost, load: Load, reserved: Reserved, running: int, limits: AdmissionLimits
) -> EgressError | None:
    """Returns None if there is room, else an error that says what is needed and what is free.

    An idle machine accepts any single egress, however small the machine is: a recording with a lower frame
    rate is better than none.
    """
    if running == 0:
        return None
    usable = load.cores * limits.cpu_utilization
    free = max(0.0, usable - load.used_cores - reserved.cores)
    if cost.cores > free:
        return no_room(
            limits,
            f"not enough CPU: {kind} needs about {cost.cores:.2f} cores,"
            f" {free:.2f} of {usable:g} are free with {running} running;"
            " try again later, add a worker, or change cpu_cost",
        )
    usable_bytes = min(load.memory_bytes, limits.memory_bytes or load.memory_bytes)
    used_bytes = load.memory_bytes - load.free_memory_bytes
    free_bytes = usable_bytes - used_bytes - reserved.memory_bytes
    if cost.memory_bytes > free_bytes:
        return no_room(
            limits,
            f"not enough memory: {kind} needs about {_mib(cost.memory_bytes)} MiB,"
            f" {_mib(max(0, free_bytes))} of {_mib(usable_bytes)} are free with {running} running;"
            " try again later or add a worker",
        )
    return None


def hesitation_s(load: Load, reserved: Reserved, running: int) -> float:
    """How long this worker waits before it claims a request, which the first claim gets. Fuller workers wait
    less and idle ones longest, so that egresses gather on few machines and idle ones can be shut down."""
    if running == 0:
        return IDLE_HESITATION_S
    free = 1 - (load.used_cores + reserved.cores) / max(load.cores, 0.1)
    return BUSY_HESITATION_S * min(1.0, max(0.0, free))


def no_room(limits: AdmissionLimits, message: str) -> EgressError:
    return EgressError(limits.no_room, message, fault=Fault.SERVICE, phase=Phase.ADMISSION)


def _mib(size: int) -> int:
    return size // 2**20
