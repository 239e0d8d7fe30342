"""The machine of a node: its resources, and what recordings use of them."""

from collections.abc import Callable

from openegress.worker.admission import Load
from openegress.worker.load import LoadMeter
from openegress.worker.usage import ProcessUsage, UsageMeter


class Machine:
    """The machine of one node."""

    def __init__(self, node_id: str, pids: Callable[[], dict[str, int]]) -> None:
        """`pids`: of the handlers, by egress id."""
        self.meter = LoadMeter()
        self._node_id = node_id
        self._pids = pids
        self._usage = UsageMeter()

    def load(self) -> Load:
        return self.meter.sample()

    def usage(self) -> dict[str, ProcessUsage]:
        """Usage of each recording, by egress id."""
        return self._usage.measure(self._pids())

    def free_cores(self) -> float:
        load = self.load()
        return max(0.0, load.cores - load.used_cores)

    def facts(self) -> dict[str, str | int | float]:
        """For the dashboard."""
        load = self.load()
        return {
            "node_id": self._node_id,
            "cpu_cores": load.cores,
            "cpu_used": round(load.used_cores, 2),
            "memory_mib": load.memory_bytes // 2**20,
        }
