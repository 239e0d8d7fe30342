"""An RTMP server that accepts everything that is published and notes what was requested (Adobe's RTMP
specification 1.0). It takes no media: nginx in stream_servers.py does."""

import asyncio
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_CHUNK_SIZE, _ACK_SIZE, _BANDWIDTH, _COMMAND = 1, 5, 6, 20
"""Message types."""
_HANDSHAKE_BYTES = 1536
_FIRST_CHUNK_BYTES = 128
_HEADER_BYTES = (11, 7, 3, 0)
"""Length of a chunk's message header, by its format."""


@dataclass(slots=True)
class Asked:
    """What one connection requested; empty before that."""

    app: str = ""
    tc_url: str = ""
    stream: str | None = None


@dataclass(slots=True)
class _Message:
    kind: int = 0
    length: int = 0
    body: bytes = b""


class RtmpRecorder:
    """Listens on 127.0.0.1 in a thread of its own while it is entered."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.port = 0
        self._ready = threading.Event()
        self._published = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def published(self, timeout_s: float = 10) -> Asked:
        """Waits for the next publish command."""
        if not self._published.acquire(timeout=timeout_s):
            raise TimeoutError(f"nothing was published: {self.asked}")
        return self.asked[-1]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = Asked()
        self.asked.append(asked)
        try:
            await reader.readexactly(1 + _HANDSHAKE_BYTES)
            writer.write(b"\x03" + bytes(2 * _HANDSHAKE_BYTES))
            await reader.readexactly(_HANDSHAKE_BYTES)
            await self._messages(reader, writer, asked)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test has gone
        finally:
            writer.close()

    async def _messages(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked
    ) -> None:
        chunk_bytes = _FIRST_CHUNK_BYTES
        channels: dict[int, _Message] = {}
        while True:
            first = (await reader.readexactly(1))[0]
            message = channels.setdefault(first & 0x3F, _Message())
            header = await reader.readexactly(_HEADER_BYTES[first >> 6])
            if len(header) >= 7:
                message.length, message.kind = int.from_bytes(header[3:6], "big"), header[6]
            if header[:3] == b"\xff\xff\xff":
                await reader.readexactly(4)
            wanted = min(chunk_bytes, message.length - len(message.body))
            message.body += await reader.readexactly(wanted)
            if len(message.body) < message.length:
                continue
            body, message.body = message.body, b""
            if message.kind == _CHUNK_SIZE:
                chunk_bytes = int.from_bytes(body, "big")
            elif message.kind == _COMMAND:
                self._command(_values(body), writer, asked)

    def _command(self, values: list[object], writer: asyncio.StreamWriter, asked: Asked) -> None:
        match values:
            case ["connect", float(number), dict(about), *_]:
                asked.app, asked.tc_url = about["app"], about["tcUrl"]
                _send(writer, _ACK_SIZE, struct.pack(">I", 2_500_000))
                _send(writer, _BANDWIDTH, struct.pack(">IB", 2_500_000, 2))
                _send(
                    writer,
                    _COMMAND,
                    _text("_result") + _number(number) + _status("NetConnection.Connect.Success"),
                )
            case ["createStream", float(number), *_]:
                _send(writer, _COMMAND, _text("_result") + _number(number) + b"\x05" + _number(1))
            case ["publish", float(), None, str(stream), *_]:
                asked.stream = stream
                body = _text("onStatus") + _number(0) + b"\x05" + _status("NetStream.Publish.Start")
                _send(writer, _COMMAND, body, stream_id=1)
                self._published.release()


# --- AMF0 (Adobe's Action Message Format specification)


def _values(data: bytes) -> list[object]:
    values, at = [], 0
    while at < len(data):
        value, at = _value(data, at)
        values.append(value)
    return values


def _value(data: bytes, at: int) -> tuple[object, int]:
    match data[at]:
        case 0:
            return struct.unpack_from(">d", data, at + 1)[0], at + 9
        case 1:
            return bool(data[at + 1]), at + 2
        case 2:
            return _string(data, at + 1)
        case 3:
            return _object(data, at + 1)
        case 5:
            return None, at + 1
        case marker:
            raise ValueError(f"AMF0 marker {marker}")


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end].decode(), end


def _object(data: bytes, at: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    while data[at : at + 3] != b"\x00\x00\x09":
        key, at = _string(data, at)
        found[key], at = _value(data, at)
    return found, at + 3


def _text(text: str) -> bytes:
    return b"\x02" + len(text).to_bytes(2, "big") + text.encode()


def _number(value: float) -> bytes:
    return b"\x00" + struct.pack(">d", value)


def _status(code: str) -> bytes:
    pairs = {"level": "status", "code": code, "description": "ok"}
    fields = (len(key).to_bytes(2, "big") + key.encode() + _text(value) for key, value in pairs.items())
    return b"\x03" + b"".join(fields) + b"\x00\x00\x09"


def _send(writer: asyncio.StreamWriter, kind: int, body: bytes, stream_id: int = 0) -> None:
    channel = 3
    head = bytes([channel]) + bytes(3) + len(body).to_bytes(3, "big") + bytes([kind])
    chunks = [body[at : at + _FIRST_CHUNK_BYTES] for at in range(0, len(body), _FIRST_CHUNK_BYTES)]
    writer.write(head + struct.pack("<I", stream_id) + bytes([0xC0 | channel]).join(chunks))
