"""Receives data channels (RFC 8831): data that the server sends besides media, over SCTP in the existing DTLS
association.

SCTP is aiortc's, which is imported only if data is wanted. It needs a DTLS transport of its own kind; this
module has everything that it uses of one.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from openegress.core.tasks import cancelled
from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.room.transport.sctp_packet import is_sound

_log = logging.getLogger(__name__)

TRACK_CHANNEL_LABEL = "_data_track"
"""The label of the channel that carries LiveKit's data tracks."""
MAX_MESSAGE_BYTES = 256 * 1024
"""Limit for a message, as in aiortc. LiveKit's SDKs send less: they split longer messages into chunks of
15,000 bytes."""
DATAGRAMS = RefillRate(500, 2000)
"""Limit for datagrams, per second and at once. More are dropped, as in a bad network, and SCTP slows down
then. Each takes up to a tenth of a millisecond, and strangers send them."""
MAX_WAITING = 4096
"""Limit for datagrams that wait while others are parsed."""


class DataChannels:
    """The data channels of one connection. `on_message` gets each message with its time of arrival in
    monotonic ns, and `on_track` each packet of a data track."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        on_message: Callable[[bytes, int], None],
        on_track: Callable[[bytes, int], None],
    ) -> None:
        self._send = send
        self._on_message = on_message
        self._on_track = on_track
        self._budget = TokenBucket(DATAGRAMS)
        self._waiting: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue(MAX_WAITING)
        self._arrived_ns = 0
        """Arrival of the datagram that is parsed."""
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Datagrams that were dropped, cannot be parsed, or have messages that are too large."""

    def start(self, port: int) -> None:
        """Call it when DTLS is up. `port`: the server's SCTP port, from its offer."""
        self._task = asyncio.create_task(self._run(port), name="data channels")

    def received(self, packet: bytes, arrival_ns: int) -> None:
        """Takes data that DTLS has decrypted."""
        now_ns = time.monotonic_ns()
        if self._budget.left(now_ns) < 1 or self._waiting.full() or not is_sound(packet):
            self.dropped += 1
            return
        self._budget.spend(1, now_ns)
        self._waiting.put_nowait((packet, arrival_ns))

    async def close(self) -> None:
        """Idempotent. Nothing is handed out after this."""
        task, self._task = self._task, None
        await cancelled(task)

    async def _run(self, port: int) -> None:
        try:
            await self._follow(port)
        except Exception:
            # A failure of data channels does not end the recording.
            _log.exception("the data channels failed: no more data is kept on this connection")

    async def _follow(self, port: int) -> None:
        from aiortc.rtcdatachannel import RTCDataChannel
        from aiortc.rtcsctptransport import RTCSctpTransport

        waiting = self._waiting

        class Sctp(RTCSctpTransport):
            """Sends one acknowledgement for datagrams that came together: encrypting and sending an answer to
            each takes three times as long as parsing it."""

            async def _send_sack(self) -> None:
                if waiting.empty():
                    await super()._send_sack()

        wire = _Wire(self._send)
        sctp = Sctp(wire)  # type: ignore[arg-type]

        def on_channel(channel: RTCDataChannel) -> None:
            is_of_tracks = channel.label == TRACK_CHANNEL_LABEL
            channel.on("message", self._take_of_track if is_of_tracks else self._take)

        sctp.on("datachannel", on_channel)
        try:
            await sctp.start(None, port)
            while True:
                packet, self._arrived_ns = await self._waiting.get()
                await self._take_apart(wire, packet)
        finally:
            await sctp.stop()

    async def _take_apart(self, wire: "_Wire", packet: bytes) -> None:
        try:
            await wire.receiver._handle_data(packet)
        except Exception:
            # aiortc checks little of a chunk's content: a chunk that makes it fail is dropped.
            if not self.dropped:
                _log.warning("a datagram of the data channels is dropped", exc_info=True)
            self.dropped += 1

    def _take(self, message: bytes | str) -> None:
        if isinstance(message, str) or len(message) > MAX_MESSAGE_BYTES:
            self.dropped += 1
        else:
            self._on_message(message, self._arrived_ns)

    def _take_of_track(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            self._on_track(message, self._arrived_ns)


class _Wire:
    """The part of RTCDtlsTransport that aiortc's SCTP uses."""

    state = "connected"
    _role = "client"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.receiver: Any = None

    async def _send_data(self, data: bytes) -> None:
        self._send(data)

    def _register_data_receiver(self, receiver: Any) -> None:
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        """Does nothing: the receiver ends with the connection."""
