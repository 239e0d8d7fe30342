"""Writes and reads messages and the chunks that carry them (RTMP 1.0, section 5.3). Pure."""

from dataclasses import dataclass, field
from enum import IntEnum

from openegress.output.live.rtmp import RtmpError

FIRST_CHUNK_BYTES = 128
"""The chunk size in each direction until its sender changes it."""
MAX_MESSAGE_BYTES = 65_536
"""Limit for a message from a server: results, states and pings have a few hundred bytes."""
MAX_CHANNELS = 16
"""Limit for channels of a server. Few use more than three."""
LONGEST = 0xFFFFFF
"""Limit for a sent message in bytes, and for a time in a chunk's header in ms."""

_CONTROL_CHANNEL = 2
_TYPE_0, _TYPE_1, _TYPE_3 = 0, 1, 3
_HEADER_BYTES = (11, 7, 3, 0)
"""Length of a message header, by chunk type."""
_TYPE_SHIFT = 6


class MessageKind(IntEnum):
    CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW = 5
    AUDIO = 8
    VIDEO = 9
    DATA = 18
    COMMAND = 20


@dataclass(frozen=True, slots=True)
class RtmpMessage:
    kind: int
    body: bytes
    channel: int = _CONTROL_CHANNEL
    """Channel, 2 to 63."""
    stream: int = 0
    time_ms: int = 0


class ChunkWriter:
    """Encodes messages, and keeps a sender's state of each channel."""

    def __init__(self) -> None:
        self.chunk_bytes = FIRST_CHUNK_BYTES
        self._last_ms: dict[int, int] = {}

    def encode(self, message: RtmpMessage) -> bytes:
        """Encodes a message. Raises RtmpError for a message longer than RTMP allows."""
        if len(message.body) > LONGEST:
            raise RtmpError("a frame is larger than RTMP can send (16 MB)")
        before_ms = self._last_ms.get(message.channel)
        is_later = before_ms is not None and message.time_ms >= before_ms
        kind = _TYPE_1 if is_later and message.kind in (MessageKind.AUDIO, MessageKind.VIDEO) else _TYPE_0
        stamp = message.time_ms - (before_ms or 0) if kind == _TYPE_1 else message.time_ms
        self._last_ms[message.channel] = message.time_ms
        extended = stamp.to_bytes(4) if stamp >= LONGEST else b""
        head = _basic(kind, message.channel) + min(stamp, LONGEST).to_bytes(3)
        head += len(message.body).to_bytes(3) + bytes((message.kind,))
        if kind == _TYPE_0:
            head += message.stream.to_bytes(4, "little")
        size, body = self.chunk_bytes, message.body
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        return head + extended + (_basic(_TYPE_3, message.channel) + extended).join(pieces)


def _basic(kind: int, channel: int) -> bytes:
    return bytes((kind << _TYPE_SHIFT | channel,))


@dataclass(slots=True)
class _Channel:
    length: int = 0
    kind: int = 0
    is_extended: bool = False
    body: bytearray = field(default_factory=bytearray)


class ChunkReader:
    """Reassembles a server's messages, within the limits of what a publisher needs to read."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._chunk_bytes = FIRST_CHUNK_BYTES
        self._channels: dict[int, _Channel] = {}

    def feed(self, data: bytes) -> list[RtmpMessage]:
        """Returns the messages that `data` completes. Raises RtmpError for a message or channel beyond the
        limits."""
        self._data += data
        found: list[RtmpMessage] = []
        at = 0
        while (step := self._chunk(at, found)) > 0:
            at += step
        del self._data[:at]
        return found

    def _chunk(self, start: int, found: list[RtmpMessage]) -> int:
        """Reads the chunk at `start` and returns its length; 0 if it is incomplete."""
        at, number = self._number(start)
        if at == 0:
            return 0
        header = bytes(self._data[at : at + _HEADER_BYTES[self._data[start] >> _TYPE_SHIFT]])
        if len(header) < _HEADER_BYTES[self._data[start] >> _TYPE_SHIFT]:
            return 0
        at += len(header)
        channel = self._channels.get(number) or _Channel()
        length = int.from_bytes(header[3:6]) if len(header) >= 7 else channel.length
        is_extended = header[:3] == b"\xff\xff\xff" if header else channel.is_extended
        at += 4 if is_extended else 0
        if length > MAX_MESSAGE_BYTES:
            raise RtmpError("the server says more than it has to say")
        piece = min(self._chunk_bytes, max(0, length - len(channel.body)))
        if len(self._data) < at + piece:
            return 0
        channel.length, channel.is_extended = length, is_extended
        channel.kind = header[6] if len(header) >= 7 else channel.kind
        channel.body += self._data[at : at + piece]
        self._keep(number, channel)
        if len(channel.body) >= channel.length:
            self._whole(number, channel, found)
        return at + piece - start

    def _number(self, at: int) -> tuple[int, int]:
        """Returns the position of the message header, and its channel; (0, 0) if incomplete."""
        data = self._data
        if len(data) <= at:
            return 0, 0
        number = data[at] & 0x3F
        size = (2, 3)[number] if number < 2 else 1
        if len(data) < at + size:
            return 0, 0
        if size == 2:
            number = 64 + data[at + 1]
        elif size == 3:
            number = 64 + data[at + 1] + 256 * data[at + 2]
        return at + size, number

    def _keep(self, number: int, channel: _Channel) -> None:
        self._channels[number] = channel
        if len(self._channels) > MAX_CHANNELS:
            raise RtmpError("the server says more than it has to say")

    def _whole(self, number: int, channel: _Channel, found: list[RtmpMessage]) -> None:
        body, channel.body = bytes(channel.body), bytearray()
        value = int.from_bytes(body[:4])
        match channel.kind:
            case MessageKind.CHUNK_SIZE:
                self._chunk_bytes = max(1, value & 0x7FFF_FFFF)
            case MessageKind.ABORT:
                if value in self._channels:
                    self._channels[value].body.clear()
            case kind:
                found.append(RtmpMessage(kind, body, number))
