"""Whether there is room for one more egress on this machine: pure arithmetic on measured load."""

from dataclasses import dataclass

from openegress.core.errors import Code, EgressError, Fault, Phase

_HEADROOM_CORES = 0.1
"""Left to the service itself and to whatever else the machine does."""


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
    cores: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Egresses that were let in but do not show in the measured load yet."""

    cores: float = 0.0
    memory_bytes: int = 0


def admit(kind: str, cost: Cost, load: Load, reserved: Reserved, running: int) -> EgressError | None:
    """None: there is room. Otherwise why not, with what is needed and what is free.

    An idle machine takes any single egress, however small it is: under pressure a recording loses frame
    rate, and that beats no recording at all.
    """
    if running == 0:
        return None
    free = max(0.0, load.cores - load.used_cores - reserved.cores - _HEADROOM_CORES)
    if cost.cores > free:
        return _no_room(
            f"not enough CPU: {kind} needs about {cost.cores:.2f} cores,"
            f" {free:.2f} of {load.cores:g} are free with {running} running;"
            " try again later, add a worker, or lower cpu_cost"
        )
    free_bytes = load.free_memory_bytes - reserved.memory_bytes
    if cost.memory_bytes > free_bytes:
        return _no_room(
            f"not enough memory: {kind} needs about {_mib(cost.memory_bytes)} MiB,"
            f" {_mib(max(0, free_bytes))} of {_mib(load.memory_bytes)} are free with {running} running;"
            " try again later or add a worker"
        )
    return None


def affinity(load: Load, reserved: Reserved, running: int) -> float:
    """How much this worker wants a request it has room for: 1 when idle, so that the caller need not
    wait for others; otherwise the fuller the better, so that jobs pack and idle machines can go."""
    if running == 0:
        return 1.0
    return min(0.95, 0.5 + 0.45 * (load.used_cores + reserved.cores) / max(load.cores, 0.1))


def _no_room(message: str) -> EgressError:
    return EgressError(Code.RESOURCE_EXHAUSTED, message, fault=Fault.SERVICE, phase=Phase.ADMISSION)


def _mib(size: int) -> int:
    return size // 2**20
