"""Publishes one stream: handshake, commands, and the server's messages (RTMP 1.0, sections 5.2, 5.4 and
7.2)."""

import os
import struct
import time
from typing import TypeAlias

from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.output.live.rtmp import RtmpError, RtmpRefused, amf0, login
from openegress.output.live.rtmp.amf0 import Value
from openegress.output.live.rtmp.chunks import ChunkReader, ChunkWriter, MessageKind, RtmpMessage
from openegress.output.live.rtmp.wire import Wire
from openegress.request.rtmp_url import RtmpUrl

ANSWERS = RefillRate(16 * 1024, 256 * 1024)
"""Limit for a server in bytes per second, and at once: handshake, results, pings and acknowledgements are a
few kilobytes."""

OPEN_S = 20.0
"""Time-out from the handshake until the server accepts the stream. It may have to ask other servers first."""

_VERSION = b"\x03"
_HANDSHAKE_BYTES = 1536
_CHUNK_BYTES = 4096
_FLASH_VERSION = "FMLE/3.0 (compatible; openegress)"
"""Our name for ourselves. Some servers accept only Adobe's encoder and what is compatible with it."""
_COMMANDS, _SOURCE = 3, 8
_MEDIA_CHANNELS = {MessageKind.AUDIO: 4, MessageKind.VIDEO: 6}
"""Channels of media, the same as FFmpeg's and librtmp's."""
_PING, _PONG = 6, 7
_METADATA = amf0.text("onMetaData")
_SET_DATA_FRAME = amf0.text("@setDataFrame")

Words: TypeAlias = list[Value]


class NeedsLogin(Exception):
    """The server requires a login. Try again on a new connection, with `query`."""

    def __init__(self, query: str) -> None:
        super().__init__("needs a login")
        self.query = query


class Publisher:
    """One published stream. Confined to one thread. Methods raise OSError when the connection is lost,
    RtmpError for what the server did, and RtmpRefused."""

    def __init__(self, wire: Wire, url: RtmpUrl, query: str = "") -> None:
        """`query`: the query of NeedsLogin."""
        self._wire = wire
        self._url = url
        self._query = query
        self._reader = ChunkReader()
        self._writer = ChunkWriter()
        self._answers = TokenBucket(ANSWERS)
        self._commands = 0
        self._stream = 0
        self._heard_bytes = 0
        self._acknowledged_bytes = 0
        self._window_bytes = 0
        """Number of bytes after which the server waits for an acknowledgement; 0: it does not wait."""

    def open(self) -> None:
        """Returns once the server accepts the stream. Also raises NeedsLogin."""
        deadline_s = time.monotonic() + OPEN_S
        left = self._shake_hands(deadline_s)
        waiting = self._taken(left)
        self._result(self._connect(), waiting, deadline_s)
        self._tell(RtmpMessage(MessageKind.CHUNK_SIZE, _CHUNK_BYTES.to_bytes(4)))
        self._writer.chunk_bytes = _CHUNK_BYTES
        self._command("releaseStream", None, self._url.key)
        self._command("FCPublish", None, self._url.key)
        self._stream = _stream_of(self._result(self._command("createStream", None), waiting, deadline_s))
        asked = self._command("publish", None, self._url.key, "live", channel=_SOURCE, stream=self._stream)
        while not self._is_published(asked, self._next(waiting, deadline_s)):
            pass

    def send(self, kind: int, time_ms: int, body: bytes) -> None:
        """Sends one FLV tag."""
        if kind == MessageKind.DATA and body.startswith(_METADATA):
            body = _SET_DATA_FRAME + body
        channel = _MEDIA_CHANNELS.get(MessageKind(kind), _SOURCE)
        self._tell(RtmpMessage(kind, body, channel, self._stream, time_ms))
        while data := self._wire.take():
            for words in self._taken(data):
                _check_goes_on(words)

    def close(self) -> None:
        """Ends the stream, in a single write: some servers hang up after its first command."""
        over = self._next_command("FCUnpublish", None, self._url.key)
        gone = self._next_command("deleteStream", None, self._stream)
        self._wire.send(self._writer.encode(over) + self._writer.encode(gone))

    def _shake_hands(self, deadline_s: float) -> bytes:
        """Exchanges the handshake. Returns the bytes that came after it."""
        self._wire.send(_VERSION + bytes(8) + os.urandom(_HANDSHAKE_BYTES - 8))
        data = b""
        while len(data) < 1 + 2 * _HANDSHAKE_BYTES:
            _left_s(deadline_s)
            data += self._wire.receive()
        self._wire.send(data[1 : 1 + _HANDSHAKE_BYTES])
        return data[1 + 2 * _HANDSHAKE_BYTES :]

    def _connect(self) -> int:
        about: dict[str, Value] = {
            "app": self._url.app + self._query,
            "type": "nonprivate",
            "flashVer": _FLASH_VERSION,
            "tcUrl": self._url.tc_url + self._query,
        }
        return self._command("connect", about)

    def _command(self, name: str, *values: Value, channel: int = _COMMANDS, stream: int = 0) -> int:
        """Sends a command. Returns its number."""
        self._tell(self._next_command(name, *values, channel=channel, stream=stream))
        return self._commands

    def _next_command(
        self, name: str, *values: Value, channel: int = _COMMANDS, stream: int = 0
    ) -> RtmpMessage:
        self._commands += 1
        body = amf0.encode(name, self._commands, *values)
        return RtmpMessage(MessageKind.COMMAND, body, channel, stream)

    def _tell(self, message: RtmpMessage) -> None:
        self._wire.send(self._writer.encode(message))

    def _result(self, number: int, waiting: list[Words], deadline_s: float) -> Words:
        while True:
            words = self._next(waiting, deadline_s)
            match words:
                case ["_result", float(answered), *rest] if answered == number:
                    return rest
                case ["_error", float(answered), *rest] if answered == number:
                    raise self._refusal(rest)
                case _:
                    _check_taken(words)

    def _refusal(self, words: Words) -> Exception:
        match words:
            case [_, {"description": str(description)}, *_]:
                query = login.answer(description, self._url.credentials, self._url.app)
                return RtmpRefused() if query is None else NeedsLogin(query)
            case _:
                return RtmpRefused()

    def _is_published(self, asked: int, words: Words) -> bool:
        match words:
            case ["_error", float(answered), *_] if answered == asked:
                raise RtmpRefused
            case ["onStatus", _, _, {"code": "NetStream.Publish.Start"}, *_]:
                return True
            case _:
                _check_taken(words)
                return False

    def _next(self, waiting: list[Words], deadline_s: float) -> Words:
        """Returns the server's next command; `waiting` holds those that have arrived."""
        while not waiting:
            waiting += self._taken(self._heard(deadline_s))
        return waiting.pop(0)

    def _heard(self, deadline_s: float) -> bytes:
        """Waits for bytes until the deadline, as the server may stay silent while it asks other servers."""
        try:
            return self._wire.receive(_left_s(deadline_s))
        except TimeoutError:
            raise _not_taken() from None

    def _taken(self, data: bytes) -> list[Words]:
        """Answers all messages except commands, which it returns."""
        self._heard_bytes += len(data)
        if not self._answers.spend(len(data), time.monotonic_ns()):
            raise RtmpError("the server says more than it has to say")
        commands: list[Words] = []
        for message in self._reader.feed(data):
            match message.kind:
                case MessageKind.COMMAND:
                    commands.append(amf0.decode(message.body))
                case MessageKind.WINDOW:
                    self._window_bytes = int.from_bytes(message.body[:4])
                case MessageKind.USER_CONTROL if message.body[:2] == struct.pack(">H", _PING):
                    pong = struct.pack(">H", _PONG) + message.body[2:6]
                    self._tell(RtmpMessage(MessageKind.USER_CONTROL, pong))
                case _:
                    pass
        self._acknowledge()
        return commands

    def _acknowledge(self) -> None:
        if 0 < self._window_bytes // 2 < self._heard_bytes - self._acknowledged_bytes:
            self._acknowledged_bytes = self._heard_bytes
            count = (self._heard_bytes % 2**32).to_bytes(4)
            self._tell(RtmpMessage(MessageKind.ACKNOWLEDGEMENT, count))


def _left_s(deadline_s: float) -> float:
    """Returns the time left. Raises RtmpError once the deadline has passed."""
    if (left_s := deadline_s - time.monotonic()) <= 0:
        raise _not_taken()
    return left_s


def _not_taken() -> RtmpError:
    return RtmpError(f"the server had not taken the stream after {OPEN_S:g} s")


def _check_taken(words: Words) -> None:
    """Raises RtmpRefused if the server refused the stream."""
    if _is_the_end(words):
        raise RtmpRefused


def _check_goes_on(words: Words) -> None:
    """Raises RtmpError if the server ended the stream."""
    if _is_the_end(words):
        raise RtmpError("the server has ended the stream")


def _is_the_end(words: Words) -> bool:
    match words:
        case ["close", *_] | ["onStatus", _, _, {"level": "error"}, *_]:
            return True
        case _:
            return False


def _stream_of(words: Words) -> int:
    match words:
        case [_, float(number), *_] if 0 <= number < 2**32:
            return int(number)
        case _:
            raise RtmpRefused
