"""Sends raw sound as it comes over a websocket (RFC 6455): s16le, and text frames for what samples cannot
express.

`{"muted": true}` and `{"muted": false}` follow the track; `{"gap_ms": N}` marks where N ms were lost because
the receiver was away for longer than the buffer holds, or the process that sent had died.
"""

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from openegress.core import plan
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.events import StreamStatus, StreamUpdate
from openegress.core.networks import networks_of
from openegress.core.reach import socket_factory
from openegress.core.tasks import cancelled
from openegress.core.units import MS, S
from openegress.output import Emit, Opening
from openegress.output.failure import FailureReport
from openegress.output.live import StoresNothing, reconnect
from openegress.output.live.receive_limit import TOO_MUCH, ReceiveLimit
from openegress.output.live.reconnect import Link, ReconnectPolicy
from openegress.output.live.report import StreamReport
from openegress.output.live.sound_buffer import Message, SoundBuffer
from openegress.output.live.sound_messages import SoundMessages

if TYPE_CHECKING:
    import av
    from aiohttp import ClientSession, ClientWebSocketResponse

PING_S = 30.0
"""Interval of pings, the same as upstream's. A receiver that does not answer within half of it is gone."""

BUFFER_S = 30.0
"""Length of the sound kept for a receiver that is away."""

CONNECT_S = 10.0
SEND_S = 10.0
"""Time after which a receiver that takes nothing is stuck."""

FINISH_S = 5.0


class WebsocketSender(StoresNothing):
    """Takes raw sound (media.FrameSink) and sends it from a task of its own."""

    def __init__(
        self,
        output: plan.WebsocketOutput,
        index: int,
        *,
        emit: Emit,
        policy: ReconnectPolicy | None = None,
        left: StreamUpdate | None = None,
    ) -> None:
        """Call it in the event loop, in which the connection lives. `left`: the last update of a process that
        died."""
        self._plan = output
        self._policy = policy or ReconnectPolicy()
        self._report = StreamReport(emit, index, output.redacted)
        self._failures = FailureReport(index, emit)
        self._loop = asyncio.get_running_loop()
        self._sound = SoundMessages(output.sample_rate, output.channels)
        self._bytes_per_s = output.sample_rate * output.channels * 2
        self._buffer = SoundBuffer(round(self._bytes_per_s * BUFFER_S), self._bytes_per_s / 1000)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._left = left
        self._link = Link() if left is None else reconnect.left(left, time.monotonic())
        self._before_ns = 0
        """Length of the sound that an earlier process has sent."""
        self._ending = False
        self._sent_bytes = 0

    def open(self, opening: Opening) -> None:
        """Starts connecting in the event loop. Does not wait for the receiver."""
        self._report.started_at_ns = opening.started_at_ns
        if self._left is not None:
            self._report.go_on(self._left, opening)
            self._before_ns = self._report.duration_ns
            gap = json.dumps({"gap_ms": round(opening.gap_ns / MS)})
            self._loop.call_soon_threadsafe(self._put, gap)
        self._loop.call_soon_threadsafe(self._start)

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None:
        """Ignores pictures."""

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Sends s16 interleaved stereo. Never blocks."""
        if self._ending or not samples:
            return
        for message in self._sound.of(samples, pts_ns, sample_rate):
            self._loop.call_soon_threadsafe(self._put, message)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """Does nothing, as listeners notice a pause by its silence."""

    def set_muted(self, muted: bool, pts_ns: int) -> None:
        """Reports that the track was muted or unmuted."""
        self._sound.set_muted(muted, pts_ns)

    async def finish(self, ended_at_ns: int) -> None:
        """Sends the buffered sound while the receiver takes it, and closes. Raises EgressError."""
        if self._task is None:
            # open() was called in this turn of the event loop, or never.
            await asyncio.sleep(0)
        for message in self._sound.rest():
            self._put(message)
        self._ending = True
        self._report.ended_at_ns = ended_at_ns
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

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def _put(self, message: Message) -> None:
        self._buffer.put(message)
        self._changed.set()

    async def _run(self) -> None:
        from aiohttp import ClientSession, TCPConnector  # loads only for websockets

        networks = networks_of(self._plan.deny_networks)
        async with ClientSession(connector=TCPConnector(socket_factory=socket_factory(networks))) as session:
            while not self._link.is_over:
                if self._link.phase is reconnect.LinkPhase.WAITING:
                    await self._wait()
                    if self._ending:
                        self._link = reconnect.stopped(self._link)
                        break
                    self._link = reconnect.retried(self._link)
                    self._report.last_retry_at_ns = time.time_ns()
                await self._connect(session)
        if self._link.phase is reconnect.LinkPhase.FAILED:
            self._tell(StreamStatus.FAILED)
            self._failures.report(
                EgressError(Code.UNAVAILABLE, self._link.error, fault=Fault.DESTINATION, phase=Phase.STREAM)
            )
        else:
            self._tell(StreamStatus.FINISHED)

    async def _connect(self, session: "ClientSession") -> None:
        from aiohttp import ClientError, ClientWSTimeout

        from openegress.core.exact_url import verbatim

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
                    verbatim(self._plan.url),
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
            await cancelled(listening)
            await socket.close()

    async def _send(self, socket: "ClientWebSocketResponse", listening: "asyncio.Task[None]") -> None:
        heard = ReceiveLimit(socket.get_extra_info("socket"))
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
            if heard.is_too_much(time.monotonic_ns()):
                raise ConnectionResetError(TOO_MUCH)
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
        """Waits until the next attempt is due, or the end."""
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
        self._report.duration_ns = self._before_ns + self._sent_bytes * S // self._bytes_per_s
        self._report.tell(status, self._link, "" if status is StreamStatus.ACTIVE else self._link.error)


async def _listen(socket: "ClientWebSocketResponse") -> None:
    """Reads what the receiver sends, which is only pongs and a close frame; ends with the connection."""
    async for _ in socket:
        pass


def _words(error: Exception) -> str:
    """Describes an error of aiohttp, without the URL that it may name."""
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
