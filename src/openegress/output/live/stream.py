"""Runs one live stream: a URL with its own queue, thread and state."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto

from av.error import FFmpegError

from openegress.core.codecs import MediaKind
from openegress.core.errors import EgressError
from openegress.core.events import StreamStatus
from openegress.core.networks import Network
from openegress.core.plan import StreamTarget
from openegress.media import Packet, StreamFormat
from openegress.media.interleave import end_ns
from openegress.output.live import reconnect
from openegress.output.live.connection import StreamConnection, connection, explain
from openegress.output.live.queue import LiveQueue
from openegress.output.live.reconnect import FRESH, Link, ReconnectPolicy
from openegress.output.live.report import StreamReport

_INTERRUPT_S = 1.0
"""Time-out after an interrupt. FFmpeg and libsrt answer one within 100 ms."""

_LINGER_S = 0.03
"""How long a packet may wait for others, so that the thread wakes a few times a second and not for each."""

_BATCH = 32
"""Number of packets sent in one go."""

_RETRY_UPDATE_S = 60.0
"""Interval of StreamUpdates that only report another attempt: each may become a webhook."""


class _DesiredState(Enum):
    """The state that its owner wants for a stream."""

    SEND = auto()
    FINISH = auto()
    """The recording ends: send what is queued."""
    REMOVE = auto()
    """The same for this URL alone; its end is not a failure of the output."""


@dataclass(frozen=True, slots=True)
class StreamListener:
    """The callbacks of a stream, called from its thread."""

    on_failed: Callable[[str], None]
    """Called with the error that ended the stream while it was wanted."""
    on_sent: Callable[[int], None]
    """Called with the size of each packet."""
    on_awaits_key: Callable[[], None]
    """Called when the stream is connected, and needs a key frame before it can send anything."""


class LiveStream:
    """One URL: connects, sends, and reconnects after a loss, until it is finished or given up."""

    def __init__(
        self,
        target: StreamTarget,
        formats: Sequence[StreamFormat],
        policy: ReconnectPolicy,
        report: StreamReport,
        listener: StreamListener,
        networks: Sequence[Network] = (),
        link: Link = FRESH,
    ) -> None:
        self.target = target
        self.report = report
        self._formats = formats
        self._policy = policy
        self._networks = networks
        self._listener = listener
        self._link = link
        self._queue = LiveQueue(has_video=any(f.kind is MediaKind.VIDEO for f in formats))
        self._changed = threading.Condition()
        self._wish = _DesiredState.SEND
        self._connection: StreamConnection | None = None
        self._first_ns: int | None = None
        """PTS of the first packet sent, minus the length of what an earlier process had sent."""
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"stream {target.redacted}", daemon=True)

    @property
    def is_wanted(self) -> bool:
        """Whether the stream is live, and nobody has removed it."""
        return not self._link.is_over and self._wish is not _DesiredState.REMOVE

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Accepts no more packets; finish() waits for the end of the stream, which is not a failure of the
        output."""
        with self._changed:
            self._wish = _DesiredState.REMOVE
            self._changed.notify()

    def put(self, packet: Packet) -> None:
        """Queues a packet. Never blocks; packets that cannot be sent in time are dropped."""
        with self._changed:
            if self._wish is _DesiredState.SEND and not self._link.is_over:
                self._queue.put(packet)
                if len(self._queue) == 1:
                    self._changed.notify()

    async def finish(self, timeout_s: float) -> None:
        """Sends what is queued and ends the stream; a server that takes too long is abandoned."""
        with self._changed:
            if self._wish is _DesiredState.SEND:
                self._wish = _DesiredState.FINISH
            self._changed.notify()
        ended = asyncio.wrap_future(self._ended)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(ended)
        except TimeoutError:
            if self._connection is not None:
                self._connection.interrupt()
            try:
                async with asyncio.timeout(_INTERRUPT_S):
                    await asyncio.shield(ended)
            except TimeoutError:
                # The name server does not answer; the thread ends when it does.
                return
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._link.is_over:
                match self._link.phase:
                    case reconnect.LinkPhase.CONNECTING:
                        self._connect()
                    case reconnect.LinkPhase.ACTIVE:
                        self._send()
                    case reconnect.LinkPhase.WAITING:
                        self._wait()
        except Exception as error:
            # A bug of ours ends only this stream, with its name in the log.
            where, text = self.target.redacted, repr(error).replace(self.target.url, self.target.redacted)
            self._link = Link(phase=reconnect.LinkPhase.FAILED, error=f"{where}: {text}")
        finally:
            if self._connection is not None:
                self._connection.abandon()
            failed = self._link.phase is reconnect.LinkPhase.FAILED
            self._tell(StreamStatus.FAILED if failed else StreamStatus.FINISHED)
            if failed and self._wish is not _DesiredState.REMOVE:
                self._listener.on_failed(self._link.error)
            self._ended.set_result(None)

    def _connect(self) -> None:
        if self._wish is not _DesiredState.SEND:
            self._link = reconnect.stopped(self._link)
            return
        try:
            self._connection = connection(self.target, self._formats, self._networks)
            self._connection.open()
        except EgressError as error:
            self._link = Link(
                phase=reconnect.LinkPhase.FAILED, error=f"{self.target.redacted}: {error.message}"
            )
            return
        except (OSError, FFmpegError) as error:
            self._broke(error, was_connected=False)
            return
        with self._changed:
            self._queue.restart()
            awaits_key = self._queue.awaits_key
        if awaits_key:
            self._listener.on_awaits_key()
        self._link = reconnect.connected(self._link)
        self.report.started_at_ns = self.report.started_at_ns or time.time_ns()
        self._tell(StreamStatus.ACTIVE)

    def _send(self) -> None:
        assert self._connection is not None
        with self._changed:
            while not len(self._queue) and self._wish is _DesiredState.SEND:
                self._changed.wait()
            if self._wish is _DesiredState.SEND:
                self._changed.wait(_LINGER_S)  # put() notifies only the first
            # No more at a time than a stalled server may lose.
            packets = [self._queue.pop() for _ in range(min(len(self._queue), _BATCH))]
        try:
            if not packets:
                self._connection.close()
                self._link = reconnect.stopped(self._link)
                return
            for packet in packets:
                self._connection.write(packet)
                self._listener.on_sent(len(packet.data))
                if self._first_ns is None:
                    self._first_ns = packet.pts_ns - self.report.duration_ns
                self.report.duration_ns = max(self.report.duration_ns, end_ns(packet) - self._first_ns)
        except (OSError, FFmpegError) as error:
            self._broke(error, was_connected=True)
            return
        recovering = self._link.lost_at_s is not None
        self._link = reconnect.progressed(self._link, time.monotonic(), self._policy)
        if recovering and self._link.lost_at_s is None:
            self._tell(StreamStatus.ACTIVE)

    def _wait(self) -> None:
        with self._changed:
            while (
                self._wish is _DesiredState.SEND and (left_s := self._link.retry_at_s - time.monotonic()) > 0
            ):
                self._changed.wait(left_s)
        if self._wish is not _DesiredState.SEND:
            self._link = reconnect.stopped(self._link)
            return
        self._link = reconnect.retried(self._link)
        self.report.last_retry_at_ns = time.time_ns()
        if time.monotonic() - self.report.told_at_s >= _RETRY_UPDATE_S or self._link.attempt == 1:
            self._tell(StreamStatus.ACTIVE)

    def _broke(self, error: OSError | FFmpegError, *, was_connected: bool) -> None:
        text = explain(error, self.target, was_connected=was_connected)
        if was_connected and not self._link.works:
            text += " right after accepting it; check application and stream key"
        if self._connection is not None:
            self._connection.abandon()
        self._link = reconnect.broke(self._link, time.monotonic(), text, self._policy)
        if self._wish is not _DesiredState.SEND:
            # Lost while ending: the queue is gone, and there is no time to reconnect.
            self._link = reconnect.stopped(self._link)

    def _tell(self, status: StreamStatus) -> None:
        self.report.tell(status, self._link, self._link.error)
