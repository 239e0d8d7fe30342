"""Reports the state of one URL that media is sent to, for the record of an egress."""

import time

from openegress.core.events import StreamStatus, StreamUpdate
from openegress.output import Emit, Opening
from openegress.output.live.reconnect import Link


class StreamReport:
    """Emits StreamUpdates; the sender keeps its numbers up to date."""

    def __init__(self, emit: Emit, output: int, url: str, stream: int = 0) -> None:
        """`url`: redacted. `stream`: its number among those of the output, which it keeps when it is added
        again."""
        self._emit = emit
        self._output = output
        self._url = url
        self._is_silent = False
        self.stream = stream
        self.started_at_ns = 0
        self.ended_at_ns = 0
        """Unix ns of the end; 0: at its last update."""
        self.duration_ns = 0
        self.last_retry_at_ns = 0
        self.told_at_s = 0.0
        """Monotonic time of the last update."""

    def go_on(self, told: StreamUpdate, opening: Opening) -> None:
        """Continues from a process that died; `told` is its last update."""
        self.started_at_ns, self.ended_at_ns = told.started_at_ns, told.ended_at_ns
        self.last_retry_at_ns = told.last_retry_at_ns
        until_ns = opening.started_at_ns + opening.goes_on_at_ns
        is_live = told.status is StreamStatus.ACTIVE
        self.duration_ns = max(told.duration_ns, until_ns - told.started_at_ns if is_live else 0)

    def tell(self, status: StreamStatus, link: Link, error: str) -> None:
        if self._is_silent:
            return
        self.told_at_s = time.monotonic()
        self._emit(
            StreamUpdate(
                output=self._output,
                stream=self.stream,
                url=self._url,
                status=status,
                started_at_ns=self.started_at_ns,
                ended_at_ns=0 if status is StreamStatus.ACTIVE else self.ended_at_ns or time.time_ns(),
                duration_ns=self.duration_ns,
                error=error,
                retries=link.retries,
                last_retry_at_ns=self.last_retry_at_ns,
            )
        )

    def silence(self) -> None:
        """Stops reporting, because another stream has taken the place of this one."""
        self._is_silent = True
