"""Whether there is room for one more egress on this machine: pure arithmetic on measured load."""

from dataclasses import dataclass

from openegress.core.errors import Code, EgressError, Fault, Phase

IDLE_HESITATION_S = 0.1
BUSY_HESITATION_S = 0.05
"""Of one with all its cores free. Messages take some milliseconds, and are of different speed."""


@dataclass(frozen=True, slots=True)
class Load:
    """Of the machine, or of the container it is limited to. Cores may be fractions."""

    cores: float
    used_cores: float
    memory_bytes: int
    free_memory_bytes: int
    in_cgroup: bool = False
    """The memory is that of a cgroup, whose files could be read."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an egress is taken to need. `pixels_per_s`: up to which rate of encoded video that holds."""

    cores: float
    memory_bytes: int
    pixels_per_s: int = 1280 * 720 * 30


@dataclass(frozen=True, slots=True)
class Reserved:
    """Egresses that were let in but do not show in the measured load yet."""

    cores: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much of the machine egresses may take."""

    cpu_utilization: float = 1.0
    """Share of the cores; the rest is left to the service itself and to whatever else runs here."""
    memory_bytes: int = 0
    """0: all there is."""
    no_room: Code = Code.UNAVAILABLE
    """What a refusal says to whoever may ask again."""


def admit(
    kind: str, cost: Cost, load: Load, reserved: Reserved, running: int, limits: AdmissionLimits
) -> EgressError | None:
    """None: there is room. Otherwise why not, with what is needed and what is free.

    An idle machine takes any single egress, however small it is: under pressure a recording loses frame
    rate, and that beats no recording at all.
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
    """How long this worker leaves a request that it has room for to others: the fuller, the shorter, and idle
    ones come last, so that jobs pack and idle machines can go. Who claims first gets it."""
    if running == 0:
        return IDLE_HESITATION_S
    free = 1 - (load.used_cores + reserved.cores) / max(load.cores, 0.1)
    return BUSY_HESITATION_S * min(1.0, max(0.0, free))


def no_room(limits: AdmissionLimits, message: str) -> EgressError:
    return EgressError(limits.no_room, message, fault=Fault.SERVICE, phase=Phase.ADMISSION)


def _mib(size: int) -> int:
    return size // 2**20
