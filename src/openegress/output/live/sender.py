"""Sends a stream output to its URLs, which can change during the recording."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from openegress.core import plan
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError, Fault, Phase, invalid
from openegress.core.events import StreamAdded, StreamUpdate
from openegress.core.networks import networks_of
from openegress.core.plan import StreamTarget
from openegress.media import Packet
from openegress.media.muxer import check_fit
from openegress.output import Emit, Opening
from openegress.output.failure import FailureReport
from openegress.output.left import LeftStream
from openegress.output.live import StoresNothing, reconnect
from openegress.output.live.reconnect import Link, ReconnectPolicy
from openegress.output.live.report import StreamReport
from openegress.output.live.stream import LiveStream, StreamListener
from openegress.request.stream_urls import MAX_AT_ONCE, redact, shown_alike

FINISH_S = 6.0
"""Time at the end for a server to take what is queued; live servers need no time at all."""

_ANSWER_S = 1.5
"""How long the removal of a stream waits for its end. A server that takes what is queued needs less,
including SRT's drain, and the psrpc call that waits for it lasts 3 s."""


class StreamSender(StoresNothing):
    """Sends one stream output to all its URLs."""

    def __init__(
        self,
        output: plan.StreamOutput,
        index: int,
        *,
        emit: Emit,
        on_empty: Callable[[], None] | None = None,
        policy: ReconnectPolicy | None = None,
        left: Sequence[LeftStream] = (),
        ask_key: Callable[[int], None] = lambda at_ns: None,
    ) -> None:
        """`on_empty` is called, from any thread, when the last URL was removed. `left`: the streams that
        another process has sent to so far, instead of the plan's targets. `ask_key`: see build_output(); an
        added stream begins with the key frame that it requests."""
        self._plan = output
        self._emit = emit
        self._on_empty = on_empty
        self._policy = policy or ReconnectPolicy()
        self._left = left or [LeftStream(target) for target in output.targets]
        self._ask_key = ask_key
        self.index = index
        self._failures = FailureReport(index, emit)
        self._opening: Opening | None = None
        self._lock = threading.Lock()
        self._streams: dict[str, LiveStream] = {}
        """Streams by the URL that is dialled; ended ones stay, so that finish() reports them."""
        self._leaving: list[asyncio.Task[None]] = []
        """Removed streams that are ending."""
        self._bytes_sent = 0

    def open(self, opening: Opening) -> None:
        """Starts all streams. Raises EgressError when the codecs do not fit the protocol. Does not wait for
        the servers: each stream connects in its thread, and one that cannot be dialled fails alone."""
        self._opening = opening
        check_fit(Container.TS if self._plan.protocol == "srt" else Container.FLV, opening.formats)
        streams = [self._take(each.target, each.told) for each in self._left]
        # They start only after all are known: one that fails at once must not count as the last one.
        for stream in streams:
            stream.start()

    def write(self, packet: Packet) -> None:
        for stream in list(self._streams.values()):
            stream.put(packet)

    def add(self, target: StreamTarget) -> None:
        """Streams to another server from the next key frame on. Raises EgressError ALREADY_EXISTS, or
        INVALID_ARGUMENT for one too many, without having reported the stream."""
        with self._lock:
            present = self._streams.get(target.url)
            if present is not None and present.is_wanted:
                raise EgressError(Code.ALREADY_EXISTS, f"stream {target.redacted} is already being sent")
            if sum(stream.is_wanted for stream in self._streams.values()) >= MAX_AT_ONCE:
                raise invalid(
                    f"stream {target.redacted} is one too many: at most {MAX_AT_ONCE} are sent at once;"
                    " remove one first"
                )
            if present is not None:
                present.report.silence()
        stream = self._take(target)
        self._emit(StreamAdded(self.index, stream.report.stream, target.redacted, target.id))
        stream.start()

    async def remove(self, url: str) -> None:
        """Ends one stream, named by its URL or the redacted form. Returns when it has ended or soon will:
        finish() deals with a server that does not answer. Raises EgressError NOT_FOUND, or INVALID_ARGUMENT
        for a redacted form that two streams share."""
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
        """Ends all remaining streams. Raises EgressError when the last one had failed, or all have."""
        await asyncio.gather(*(s.finish(FINISH_S) for s in self._streams.values()), *self._leaving)
        self._failures.raise_if_any()

    def size_bytes(self) -> int:
        return self._bytes_sent

    def _named(self, url: str) -> LiveStream:
        """Returns the stream that `url` means; an active one comes first."""
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

    def number_of(self, target: StreamTarget) -> int:
        """Returns the target's number among all URLs so far."""
        return self._streams[target.url].report.stream

    def _take(self, target: StreamTarget, told: StreamUpdate | None = None) -> LiveStream:
        assert self._opening is not None
        before = self._streams.get(target.url)
        number = len(self._streams) if before is None else before.report.stream
        report = StreamReport(self._emit, self.index, target.redacted, number)
        link = Link()
        if told is not None:
            report.go_on(told, self._opening)
            link = reconnect.left(told, time.monotonic())
        stream = LiveStream(
            target,
            self._opening.formats,
            self._policy,
            report,
            StreamListener(self._given_up, self._sent, self._ask_key_now),
            networks_of(self._plan.deny_networks),
            link,
        )
        with self._lock:
            self._streams[target.url] = stream
        return stream

    def _ask_key_now(self) -> None:
        self._ask_key(0)

    def _sent(self, count: int) -> None:
        self._bytes_sent += count

    def _given_up(self, error: str) -> None:
        """Reports that a stream was given up. Called from its thread. The output fails with its last
        stream."""
        with self._lock:
            alone = not any(s.is_wanted for s in self._streams.values())
        if alone:
            self._failures.report(
                EgressError(Code.UNAVAILABLE, error, fault=Fault.DESTINATION, phase=Phase.STREAM)
            )


def _not_found(shown: str) -> EgressError:
    return EgressError(Code.NOT_FOUND, f"stream {shown} not found")
