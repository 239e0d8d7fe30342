"""Keeps the latest log lines and states of each recording, bounded, for the report of one that fails."""

import time
from collections import OrderedDict, deque
from typing import Any

import msgspec
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import ipc

LOG_BYTES = 256 * 1024
"""Limit for the log of each egress: some two thousand lines."""
MAX_TRACES = 500
"""Limit for the number of egresses. Beyond that, the one that has been silent longest is dropped."""
STATES = 100
_VALUE_CHARS = 16_384
"""Limit for one value: room for the stacks of some thirty threads."""


class Trace:
    """The trace of one egress."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        """JSON objects, oldest first."""
        self.left_out = 0
        """The number of lines dropped before the first."""
        self.states: deque[dict[str, Any]] = deque(maxlen=STATES)
        self._bytes = 0

    def log(self, record: ipc.Log, at_ns: int) -> None:
        fields = {name: _cut(value) for name, value in record.fields.items()}
        said = {"at_ns": at_ns, "level": record.level, "event": _cut(record.event), "fields": fields}
        line = msgspec.json.encode(said).decode()
        self.lines.append(line)
        self._bytes += len(line)
        while self._bytes > LOG_BYTES:
            self._bytes -= len(self.lines.popleft())
            self.left_out += 1

    def state(self, info: EgressInfo, at_ns: int) -> None:
        status = EgressStatus.Name(info.status)
        if not self.states or self.states[-1]["status"] != status:
            self.states.append({"at_ns": at_ns, "status": status})


class Traces:
    """Traces by egress id, each from the egress' first line until take()."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def log(self, egress_id: str, record: ipc.Log) -> None:
        self._of(egress_id).log(record, time.time_ns())

    def state(self, info: EgressInfo) -> None:
        self._of(info.egress_id).state(info, time.time_ns())

    def take(self, egress_id: str) -> Trace:
        return self._traces.pop(egress_id, None) or Trace()

    def _of(self, egress_id: str) -> Trace:
        trace = self._traces.get(egress_id)
        if trace is None:
            trace = self._traces[egress_id] = Trace()
        self._traces.move_to_end(egress_id)
        while len(self._traces) > MAX_TRACES:
            self._traces.popitem(last=False)
        return trace


def _cut(value: Any) -> Any:
    return value[:_VALUE_CHARS] if isinstance(value, str) else value
