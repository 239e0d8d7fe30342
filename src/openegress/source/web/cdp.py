"""Speaks the Chrome DevTools Protocol over a pair of pipes, without a port: JSON messages that end with a
NUL.

https://chromedevtools.github.io/devtools-protocol/; the pipes are `--remote-debugging-pipe`.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from openegress.core import foreign_json

_log = logging.getLogger(__name__)

Params = dict[str, Any]
Listener = Callable[[str, Params], None]
"""Called with method and params of each event of a session, in order, in the event loop; never blocks."""

COMMAND_TIMEOUT_S = 15.0
"""Time-out for commands: they answer in milliseconds, except one that waits for a hung renderer."""


MAX_MESSAGE_BYTES = 4 * 2**20
"""Limit for a message: answers to the commands sent here are a few kilobytes."""


class CommandError(Exception):
    """Chromium refused a command because of a mistake of ours, or because the page disappeared meanwhile."""


class Disconnected(Exception):
    """The browser closed its end: it exited or was killed."""


class Message(msgspec.Struct):
    """An answer (with `id`) or an event (with `method`)."""

    id: int = 0
    method: str = ""
    params: Params = {}
    result: Params = {}
    error: Params | None = None
    sessionId: str = ""


class Splitter:
    """Splits bytes from the pipe into messages: feed() takes bytes and returns complete messages. Messages
    larger than MAX_MESSAGE_BYTES are dropped: a page decides how long a line of its console is."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_left_out = False
        """Whether the bytes belong to a message that is too long."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *complete, last = data.split(b"\0")
        for part in complete:
            self._add(part)
            message, is_left_out = bytes(self._rest), self._is_left_out
            self._rest.clear()
            self._is_left_out = False
            if not is_left_out:
                yield message
        self._add(last)

    def _add(self, part: bytes) -> None:
        if self._is_left_out or len(self._rest) + len(part) > MAX_MESSAGE_BYTES:
            self._rest.clear()
            self._is_left_out = True
        else:
            self._rest += part


class DevToolsConnection(asyncio.Protocol):
    """The browser's end of the pipes. `session_id` is empty for commands to the browser itself."""

    def __init__(self) -> None:
        self._writer: asyncio.WriteTransport | None = None
        self._reader: asyncio.ReadTransport | None = None
        self._splitter = Splitter()
        self._decoder = msgspec.json.Decoder(Message)
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[Params]] = {}
        self._listeners: dict[str, Listener] = {}
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the browser closed its end."""

    @classmethod
    async def open(cls, read_fd: int, write_fd: int) -> "DevToolsConnection":
        """Takes over both descriptors."""
        loop = asyncio.get_running_loop()
        connection = cls()
        reader = os.fdopen(read_fd, "rb", buffering=0)
        writer = os.fdopen(write_fd, "wb", buffering=0)
        connection._reader, _ = await loop.connect_read_pipe(lambda: connection, reader)
        connection._writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writer)
        return connection

    def listen(self, session_id: str, listener: Listener) -> None:
        self._listeners[session_id] = listener

    async def command(
        self, method: str, session_id: str = "", timeout_s: float = COMMAND_TIMEOUT_S, **params: Any
    ) -> Params:
        """Sends a command and returns its result. Raises CommandError, Disconnected or TimeoutError."""
        answer = self.send(method, session_id, **params)
        async with asyncio.timeout(timeout_s):
            return await answer

    def send(self, method: str, session_id: str = "", **params: Any) -> asyncio.Future[Params]:
        """Sends a command; the future holds its result, or a CommandError or Disconnected."""
        future: asyncio.Future[Params] = asyncio.get_running_loop().create_future()
        if self._writer is None or self.closed.done():
            future.set_exception(Disconnected(f"the browser is gone; {method} was not sent"))
            return future
        self._next_id += 1
        self._waiting[self._next_id] = future
        message: Params = {"id": self._next_id, "method": method, "params": params}
        if session_id:
            message["sessionId"] = session_id
        self._writer.write(msgspec.json.encode(message) + b"\0")
        return future

    def notify(self, method: str, session_id: str = "", **params: Any) -> None:
        """Sends a command whose outcome does not matter: a page may be gone before it arrives."""
        self.send(method, session_id, **params).add_done_callback(_forget)

    def close(self) -> None:
        for transport in (self._reader, self._writer):
            if transport is not None:
                transport.close()

    def data_received(self, data: bytes) -> None:
        for raw in self._splitter.feed(data):
            message = self._decode(raw)
            if message is None:
                continue
            if message.id:
                self._answer(message)
            else:
                listener = self._listeners.get(message.sessionId)
                if listener is not None:
                    listener(message.method, message.params)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Disconnected("the browser is gone"))
        self._waiting.clear()

    def _decode(self, raw: bytes) -> Message | None:
        """Decodes a message. None for an invalid one, which must not affect the others."""
        try:
            return self._decoder.decode(raw)
        except ValueError:
            pass
        try:
            return self._decoder.decode(_whole_characters(raw))
        except ValueError as error:
            _log.warning("the browser sent something that is not a message: %s", error)
            return None

    def _answer(self, message: Message) -> None:
        future = self._waiting.pop(message.id, None)
        if future is None or future.done():
            return
        if message.error is not None:
            future.set_exception(CommandError(str(message.error.get("message", message.error))))
        else:
            future.set_result(message.result)


def _whole_characters(raw: bytes) -> bytes:
    """Replaces halves of surrogate pairs in JSON by U+FFFD. JavaScript strings may hold them, but UTF-8 may
    not: a page that cuts a text at a given length may cut through an emoji.

    Raises ValueError if it is not JSON.
    """
    text = json.dumps(foreign_json.loads(raw), ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _forget(future: asyncio.Future[Params]) -> None:
    if not future.cancelled():
        future.exception()
