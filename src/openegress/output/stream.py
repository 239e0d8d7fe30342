"""Live streams: each URL with its own queue, thread and fate."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from av.error import FFmpegError

from openegress.core import plan
from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.events import StreamAdded, StreamStatus, StreamUpdate
from openegress.core.plan import StreamTarget
from openegress.core.stream_urls import redact, shown_alike
from openegress.media import Packet
from openegress.media.interleave import end_ns
from openegress.media.muxer import check_fit
from openegress.output import Emit, Opening, reconnect
from openegress.output.connection import Connection, connection, explain
from openegress.output.failure import FailureReport
from openegress.output.live_queue import LiveQueue
from openegress.output.manifest import Records
from openegress.output.reconnect import Link, Policy

FINISH_S = 6.0
"""At the end, for a server to take what is queued; a live one needs no time at all."""

_ANSWER_S = 1.5
"""How long whoever removes a stream waits for its end: a server that takes what is queued needs less, SRT's
drain included, and the psrpc call behind it lasts 3 s."""

_INTERRUPT_S = 1.0
"""FFmpeg and libsrt answer an interrupt within 100 ms."""

_LINGER_S = 0.03
"""How long a packet may wait for others, so that the thread wakes some times a second and not for each."""

_BATCH = 32
"""Packets sent in one go."""

_RETRY_UPDATE_S = 60.0
"""Between two StreamUpdates that only tell of another attempt: each may become a webhook."""


class StreamOutput:
    """All URLs of one StreamOutput."""

    def __init__(
        self,
        output: plan.StreamOutput,
        index: int,
        *,
        emit: Emit,
        on_empty: Callable[[], None] | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`on_empty` is called, from any thread, when the last URL was removed and none is left."""
        self._plan = output
        self._emit = emit
        self._on_empty = on_empty
        self._policy = policy or Policy()
        self._index = index
        self._failures = FailureReport(index, emit)
        self._opening: Opening | None = None
        self._lock = threading.Lock()
        self._streams: dict[str, LiveStream] = {}
        """By what is dialled; those that ended stay, so that finish() reports them."""
        self._leaving: list[asyncio.Task[None]] = []
        """Streams that were removed, on their way out."""
        self._bytes_sent = 0

    def open(self, opening: Opening) -> None:
        """Raises EgressError when the codecs do not fit the protocol. Does not wait for the servers: each
        stream connects in its thread, and what cannot be dialled fails alone."""
        self._opening = opening
        check_fit(Container.TS if self._plan.protocol == "srt" else Container.FLV, opening.formats)
        streams = [self._take(target) for target in self._plan.targets]
        # Not before all are known: one that fails at once is not to be taken for the last.
        for stream in streams:
            stream.start()

    def write(self, packet: Packet) -> None:
        for stream in list(self._streams.values()):
            stream.put(packet)

    def add(self, target: StreamTarget) -> None:
        """Streams to one more server from the next key frame on. Raises EgressError ALREADY_EXISTS; nothing
        was said of the stream then."""
        with self._lock:
            present = self._streams.get(target.url)
            if present is not None and present.is_wanted:
                raise EgressError(Code.ALREADY_EXISTS, f"stream {target.redacted} is already being sent")
            if present is not None:
                present.disown()
        stream = self._take(target)
        self._emit(StreamAdded(self._index, stream.number, target.redacted, target.id))
        stream.start()

    async def remove(self, url: str) -> None:
        """Ends one stream, named by its URL or the redacted form. Returns when it has ended or soon will: a
        server that does not answer is dealt with until finish().

        Raises EgressError NOT_FOUND, or INVALID_ARGUMENT for a redacted form that two streams share.
        """
        stream = self._named(url)
        if not stream.is_wanted:
            raise _not_found(stream.target.redacted)
        stream.end()
        leaving = asyncio.create_task(stream.finish(FINISH_S), name=f"remove {stream.target.redacted}")
        self._leaving.append(leaving)
        await asyncio.wait([leaving], timeout=_ANSWER_S)
        if self._on_empty is not None and not any(s.is_wanted for s in self._streams.values()):
            self._on_empty()

    async def finish(self, ended_at_ns: int) -> None:
        """Ends all that are left. Raises EgressError when the last one had failed, or all have."""
        await asyncio.gather(*(s.finish(FINISH_S) for s in self._streams.values()), *self._leaving)
        self._failures.raise_if_any()

    def size_bytes(self) -> int:
        return self._bytes_sent

    def waiting_uploads(self) -> int:
        return 0

    def records(self) -> Records:
        return Records()

    def is_settled(self) -> bool:
        return True

    def _named(self, url: str) -> "LiveStream":
        """The stream that `url` means, one that is being sent first."""
        if (exact := self._streams.get(url)) is not None:
            return exact
        streams = self._streams.values()
        alike = [s for s in streams if url == s.target.redacted or shown_alike(s.target.url, url)]
        found = [s for s in alike if s.is_wanted] or alike
        if not found:
            raise _not_found(redact(url))
        if len(found) > 1:
            raise EgressError(
                Code.INVALID_ARGUMENT,
                f"stream {redact(url)} names {len(found)} streams; give the URL in full",
            )
        return found[0]

    def _take(self, target: StreamTarget) -> "LiveStream":
        assert self._opening is not None
        before = self._streams.get(target.url)
        stream = LiveStream(
            target,
            self._opening,
            self._policy,
            self._emit,
            self._given_up,
            self._sent,
            output=self._index,
            number=len(self._streams) if before is None else before.number,
        )
        with self._lock:
            self._streams[target.url] = stream
        return stream

    def _sent(self, count: int) -> None:
        self._bytes_sent += count

    def _given_up(self, error: str) -> None:
        """From a stream's thread, when it was given up. The output fails with its last stream."""
        with self._lock:
            alone = not any(s.is_wanted for s in self._streams.values())
        if alone:
            self._failures.report(
                EgressError(Code.UNAVAILABLE, error, fault=Fault.DESTINATION, phase=Phase.STREAM)
            )


def _not_found(shown: str) -> EgressError:
    return EgressError(Code.NOT_FOUND, f"stream {shown} not found")


class LiveStream:
    """One URL: connects, sends, and comes back after a loss, until it is finished or given up."""

    def __init__(
        self,
        target: StreamTarget,
        opening: Opening,
        policy: Policy,
        emit: Emit,
        on_failed: Callable[[str], None],
        on_sent: Callable[[int], None],
        *,
        output: int,
        number: int,
    ) -> None:
        """`output` and `number`: what StreamUpdate says of it."""
        self.target = target
        self._opening = opening
        self._policy = policy
        self._emit = emit
        self._on_failed = on_failed
        self._on_sent = on_sent
        self._output = output
        self.number = number
        """Its place among the streams of the output; who comes back has the same."""
        self._link = Link()
        self._queue = LiveQueue(has_video=any(f.kind is MediaKind.VIDEO for f in opening.formats))
        self._changed = threading.Condition()
        self._ending = False
        self._is_removed = False
        self._is_disowned = False
        self._connection: Connection | None = None
        self._started_at_ns = 0
        self._last_retry_at_ns = 0
        self._first_ns: int | None = None
        self._sent_ns = 0
        self._told_at_s = 0.0
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"stream {target.redacted}", daemon=True)

    @property
    def is_live(self) -> bool:
        return self._link.phase not in (reconnect.Phase.FAILED, reconnect.Phase.FINISHED)

    @property
    def is_wanted(self) -> bool:
        """It is live, and nobody has removed it."""
        return self.is_live and not self._is_removed

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Takes no more packets; finish() sees it out. How it ends is no failure of the output."""
        with self._changed:
            self._is_removed = self._ending = True
            self._changed.notify()

    def disown(self) -> None:
        """Another stream has taken its place: what becomes of this one is told no more."""
        self._is_disowned = True

    def put(self, packet: Packet) -> None:
        """Never blocks; what cannot be sent in time is dropped."""
        with self._changed:
            if not self._ending and self.is_live:
                self._queue.put(packet)
                if len(self._queue) == 1:
                    self._changed.notify()

    async def finish(self, timeout_s: float) -> None:
        """Sends what is queued and ends the stream; a server that takes too long is left."""
        with self._changed:
            self._ending = True
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
                # A name server that does not answer: the thread ends when that does.
                return
        self._thread.join()

    def _run(self) -> None:
        try:
            while self.is_live:
                match self._link.phase:
                    case reconnect.Phase.CONNECTING:
                        self._connect()
                    case reconnect.Phase.ACTIVE:
                        self._send()
                    case reconnect.Phase.WAITING:
                        self._wait()
        except Exception as error:
            # A bug of ours ends this stream with its name, and no other.
            self._link = Link(phase=reconnect.Phase.FAILED, error=f"{self.target.redacted}: {error!r}")
        finally:
            if self._connection is not None:
                self._connection.abandon()
            failed = self._link.phase is reconnect.Phase.FAILED
            self._tell(StreamStatus.FAILED if failed else StreamStatus.FINISHED)
            if failed and not self._is_removed:
                self._on_failed(self._link.error)
            self._ended.set_result(None)

    def _connect(self) -> None:
        if self._ending:
            self._link = reconnect.stopped(self._link)
            return
        try:
            self._connection = connection(self.target, self._opening.formats)
            self._connection.open()
        except EgressError as error:
            self._link = Link(phase=reconnect.Phase.FAILED, error=f"{self.target.redacted}: {error.message}")
            return
        except (OSError, FFmpegError) as error:
            self._broke(error, was_connected=False)
            return
        with self._changed:
            self._queue.restart()
        self._link = reconnect.connected(self._link)
        self._started_at_ns = self._started_at_ns or time.time_ns()
        self._tell(StreamStatus.ACTIVE)

    def _send(self) -> None:
        assert self._connection is not None
        with self._changed:
            while not len(self._queue) and not self._ending:
                self._changed.wait()
            if not self._ending:
                self._changed.wait(_LINGER_S)  # put() notifies only the first
            # Not more at a time than a stalled server may lose.
            packets = [self._queue.pop() for _ in range(min(len(self._queue), _BATCH))]
        try:
            if not packets:
                self._connection.close()
                self._link = reconnect.stopped(self._link)
                return
            for packet in packets:
                self._connection.write(packet)
                self._on_sent(len(packet.data))
                self._first_ns = packet.pts_ns if self._first_ns is None else self._first_ns
                self._sent_ns = max(self._sent_ns, end_ns(packet))
        except (OSError, FFmpegError) as error:
            self._broke(error, was_connected=True)
            return
        recovering = self._link.lost_at_s is not None
        self._link = reconnect.progressed(self._link, time.monotonic(), self._policy)
        if recovering and self._link.lost_at_s is None:
            self._tell(StreamStatus.ACTIVE)

    def _wait(self) -> None:
        with self._changed:
            while not self._ending and (left_s := self._link.retry_at_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
        if self._ending:
            self._link = reconnect.stopped(self._link)
            return
        self._link = reconnect.retried(self._link)
        self._last_retry_at_ns = time.time_ns()
        if time.monotonic() - self._told_at_s >= _RETRY_UPDATE_S or self._link.attempt == 1:
            self._tell(StreamStatus.ACTIVE)

    def _broke(self, error: OSError | FFmpegError, *, was_connected: bool) -> None:
        text = explain(error, self.target, was_connected=was_connected)
        if was_connected and not self._link.works:
            text += " right after accepting it; check application and stream key"
        if self._connection is not None:
            self._connection.abandon()
        self._link = reconnect.broke(self._link, time.monotonic(), text, self._policy)
        if self._ending:
            # Lost while ending: what was queued is gone, and there is no time to come back.
            self._link = reconnect.stopped(self._link)

    def _tell(self, status: StreamStatus) -> None:
        if self._is_disowned:
            return
        self._told_at_s = time.monotonic()
        self._emit(
            StreamUpdate(
                output=self._output,
                stream=self.number,
                url=self.target.redacted,
                status=status,
                started_at_ns=self._started_at_ns,
                ended_at_ns=0 if status is StreamStatus.ACTIVE else time.time_ns(),
                duration_ns=max(0, self._sent_ns - (self._first_ns or 0)),
                error=self._link.error,
                retries=self._link.retries,
                last_retry_at_ns=self._last_retry_at_ns,
            )
        )
