"""Sound as it comes, raw, over a websocket (RFC 6455): s16le, and text frames for what samples cannot say.

`{"muted": true}` and `{"muted": false}` follow the track; `{"gap_ms": N}` stands where N ms were lost because
the receiver was away for longer than the buffer holds.
"""

import asyncio
import json
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import av

from openegress.core import plan
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.events import StreamStatus, StreamUpdate
from openegress.output import Emit, Opening, reconnect
from openegress.output.failure import FailureReport
from openegress.output.manifest import Records
from openegress.output.reconnect import Link, Policy

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

PING_S = 30.0
"""Upstream's. A receiver that does not answer within half of it is gone."""

BUFFER_S = 30.0
"""What is kept for a receiver that is away."""

CONNECT_S = 10.0
SEND_S = 10.0
"""A receiver that takes nothing for this long is stuck."""

FINISH_S = 5.0

Message = bytes | str


class SoundBuffer:
    """Messages in order; the oldest sound makes room, and a gap is told in its place. Pure."""

    def __init__(self, max_bytes: int, bytes_per_ms: float) -> None:
        self._max_bytes = max_bytes
        self._bytes_per_ms = bytes_per_ms
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._lost_bytes = 0

    def __len__(self) -> int:
        return len(self._queue) + (1 if self._lost_bytes else 0)

    @property
    def sound_ms(self) -> int:
        """What is in it, and what made room."""
        return round((self._bytes + self._lost_bytes) / self._bytes_per_ms)

    def put(self, message: Message) -> None:
        self._queue.append(message)
        if isinstance(message, bytes):
            self._bytes += len(message)
        while self._bytes > self._max_bytes:
            oldest = next(n for n, each in enumerate(self._queue) if isinstance(each, bytes))
            lost = self._queue[oldest]
            del self._queue[oldest]
            self._bytes -= len(lost)
            self._lost_bytes += len(lost)

    def unsent(self, message: Message) -> None:
        """Back to the front: it was taken, but did not get through."""
        self._queue.appendleft(message)
        if isinstance(message, bytes):
            self._bytes += len(message)

    def pop(self) -> Message:
        """IndexError when empty."""
        if self._lost_bytes:
            gap_ms, self._lost_bytes = round(self._lost_bytes / self._bytes_per_ms), 0
            return json.dumps({"gap_ms": gap_ms})
        message = self._queue.popleft()
        if isinstance(message, bytes):
            self._bytes -= len(message)
        return message


class WebsocketOutput:
    """Takes raw sound (media.FrameSink) and sends it from a task of its own."""

    def __init__(
        self, output: plan.WebsocketOutput, index: int, *, emit: Emit, policy: Policy | None = None
    ) -> None:
        """Called in the event loop, in which the connection lives."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._policy = policy or Policy()
        self._failures = FailureReport(index, emit)
        self._loop = asyncio.get_running_loop()
        bytes_per_s = output.sample_rate * output.channels * 2
        self._buffer = SoundBuffer(round(bytes_per_s * BUFFER_S), bytes_per_s / 1000)
        self._changed = asyncio.Event()
        self._resampling = threading.Lock()
        self._resampler = av.AudioResampler(
            format="s16", layout="stereo" if output.channels == 2 else "mono", rate=output.sample_rate
        )
        self._mutes: deque[tuple[int, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._link = Link()
        self._ending = False
        self._started_at_ns = 0
        self._ended_at_ns = 0
        self._last_retry_at_ns = 0
        self._sent_bytes = 0
        self._bytes_per_s = bytes_per_s

    def open(self, opening: Opening) -> None:
        """Does not wait for the receiver: it is connected to from the event loop."""
        self._started_at_ns = opening.started_at_ns
        self._loop.call_soon_threadsafe(self._start)

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        """Sound only."""

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """s16 interleaved stereo. Never blocks."""
        if self._ending or not samples:
            return
        self._tell_mutes(pts_ns)
        frame = av.AudioFrame(format="s16", layout="stereo", samples=len(samples) // 4)
        frame.planes[0].update(samples)
        frame.sample_rate = sample_rate
        with self._resampling:
            frames = self._resampler.resample(frame)
        data = b"".join(_pcm(each) for each in frames)
        if data:
            self._loop.call_soon_threadsafe(self._put, data)

    def set_muted(self, muted: bool, pts_ns: int) -> None:
        """The track was muted or unmuted; told in its place among the sound, which comes later than the word
        of it."""
        self._mutes.append((pts_ns, muted))

    def _tell_mutes(self, until_ns: int) -> None:
        """Those before a time of the sound. In the thread the sound comes from."""
        while self._mutes and self._mutes[0][0] <= until_ns:
            _, muted = self._mutes.popleft()
            self._loop.call_soon_threadsafe(self._put, json.dumps({"muted": muted}))

    async def finish(self, ended_at_ns: int) -> None:
        """Sends what is buffered while the receiver takes it, and closes. Raises EgressError."""
        if self._task is None:
            # open() was called in this turn of the event loop, or never.
            await asyncio.sleep(0)
        with self._resampling:
            tail = b"".join(_pcm(each) for each in self._resampler.resample(None))
        if tail:
            self._put(tail)
        while self._mutes:
            self._put(json.dumps({"muted": self._mutes.popleft()[1]}))
        self._ending = True
        self._ended_at_ns = ended_at_ns
        self._changed.set()
        if self._task is not None:
            try:
                async with asyncio.timeout(FINISH_S):
                    await self._task
            except TimeoutError:
                self._link = replace(
                    reconnect.stopped(self._link),
                    error=f"{self._plan.redacted}: the receiver had not taken the last "
                    f"{self._buffer.sound_ms} ms {FINISH_S:g} s after the end",
                )
                self._tell(StreamStatus.FINISHED)
        self._failures.raise_if_any()

    def size_bytes(self) -> int:
        return self._sent_bytes

    def waiting_uploads(self) -> int:
        return 0

    def records(self) -> Records:
        return Records()

    def is_settled(self) -> bool:
        return True

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def _put(self, message: Message) -> None:
        self._buffer.put(message)
        self._changed.set()

    async def _run(self) -> None:
        from aiohttp import ClientSession  # only who uses a websocket pays for its import

        async with ClientSession() as session:
            while self._link.phase in (reconnect.Phase.CONNECTING, reconnect.Phase.WAITING):
                if self._link.phase is reconnect.Phase.WAITING:
                    await self._wait()
                    if self._ending:
                        self._link = reconnect.stopped(self._link)
                        break
                    self._link = reconnect.retried(self._link)
                    self._last_retry_at_ns = time.time_ns()
                await self._connect(session)
        if self._link.phase is reconnect.Phase.FAILED:
            self._tell(StreamStatus.FAILED)
            self._failures.report(
                EgressError(Code.UNAVAILABLE, self._link.error, fault=Fault.DESTINATION, phase=Phase.STREAM)
            )
        else:
            self._tell(StreamStatus.FINISHED)

    async def _connect(self, session: "ClientSession") -> None:
        from aiohttp import ClientError, ClientWSTimeout

        where = self._plan.redacted
        headers = {
            "Content-Type": "audio/x-raw",
            "X-Audio-Format": "s16le",
            "X-Audio-Rate": str(self._plan.sample_rate),
            "X-Audio-Channels": str(self._plan.channels),
        }
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await session.ws_connect(
                    self._plan.url,
                    headers=headers,
                    heartbeat=PING_S,
                    timeout=ClientWSTimeout(ws_close=SEND_S),
                    max_msg_size=1 << 16,
                )
        except TimeoutError:
            self._broke(f"{where}: no answer within {CONNECT_S:g} s")
            return
        except (ClientError, OSError, ValueError) as error:
            self._broke(f"{where}: {_words(error)}")
            return
        self._link = reconnect.connected(self._link)
        self._tell(StreamStatus.ACTIVE)
        listening = asyncio.create_task(_listen(socket))
        listening.add_done_callback(lambda _: self._changed.set())
        try:
            await self._send(socket, listening)
        except (ClientError, OSError, TimeoutError) as error:
            self._broke(f"{where}: {_words(error)}")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await socket.close()

    async def _send(self, socket: "ClientWebSocketResponse", listening: "asyncio.Task[None]") -> None:
        while True:
            while not len(self._buffer) and not listening.done():
                if self._ending:
                    self._link = reconnect.stopped(self._link)
                    return
                self._changed.clear()
                await self._changed.wait()
            if listening.done():
                code = socket.close_code
                raise ConnectionResetError(f"the receiver closed the connection (code {code})")
            message = self._buffer.pop()
            try:
                async with asyncio.timeout(SEND_S):
                    if isinstance(message, bytes):
                        await socket.send_bytes(message)
                    else:
                        await socket.send_str(message)
            except BaseException:
                self._buffer.unsent(message)
                raise
            self._sent_bytes += len(message) if isinstance(message, bytes) else 0
            self._link = reconnect.progressed(self._link, time.monotonic(), self._policy)

    async def _wait(self) -> None:
        """Until the next attempt is due, or the end."""
        while not self._ending and (left_s := self._link.retry_at_s - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _broke(self, error: str) -> None:
        self._link = reconnect.broke(self._link, time.monotonic(), error, self._policy)

    def _tell(self, status: StreamStatus) -> None:
        self._emit(
            StreamUpdate(
                output=self._index,
                url=self._plan.redacted,
                status=status,
                started_at_ns=self._started_at_ns,
                ended_at_ns=0 if status is StreamStatus.ACTIVE else self._ended_at_ns or time.time_ns(),
                duration_ns=self._sent_bytes * 1_000_000_000 // self._bytes_per_s,
                error="" if status is StreamStatus.ACTIVE else self._link.error,
                retries=self._link.retries,
                last_retry_at_ns=self._last_retry_at_ns,
            )
        )


async def _listen(socket: "ClientWebSocketResponse") -> None:
    """Reads what the receiver says, which is nothing but pongs and its farewell; ends with the connection."""
    async for _ in socket:
        pass


def _pcm(frame: av.AudioFrame) -> bytes:
    """A packed s16 frame without the padding of its buffer."""
    return bytes(frame.planes[0])[: frame.samples * 2 * frame.layout.nb_channels]


def _words(error: Exception) -> str:
    """What aiohttp says, without the URL it may name."""
    from aiohttp import ClientConnectorError, WSServerHandshakeError

    match error:
        case WSServerHandshakeError():
            return f"the receiver answered HTTP {error.status} to the websocket handshake"
        case ClientConnectorError():
            return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
        case TimeoutError():
            return f"the receiver took no data for {SEND_S:g} s"
        case ConnectionResetError() if error.args and error.errno is None:
            return str(error)
        case _:
            return f"the connection broke ({type(error).__name__})"
