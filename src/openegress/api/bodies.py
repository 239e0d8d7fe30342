"""Bodies of requests: read in time, unpacked within bounds, and decoded where nobody else has to wait."""

import asyncio
import zlib
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from openegress.core.errors import Code, EgressError
from openegress.core.text import shown

READ_S = 20.0
"""For a whole body of at most a megabyte: 50 kB/s, which the slowest line of a caller has."""
OFF_THE_LOOP_BYTES = 16 * 1024
"""Decoding so much takes a millisecond; a megabyte can take a second, in which nobody else is answered."""
AT_ONCE = 2
"""Large bodies decoded at a time: each holds the interpreter for milliseconds at a stretch."""
MEMBERS = 16
"""Of a gzip body; clients send one. Each costs a copy of what follows it, and one may hold nothing."""

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
"""zlib's own way to say: whichever of the two headers is there."""

_PLAIN = frozenset({"", "identity"})
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})

T = TypeVar("T")


class TooLarge(Exception):
    """The body is larger than the server takes, as sent or once unpacked."""


class Bodies:
    """Reads and decodes bodies, large ones a few at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, request: web.Request) -> bytes:
        """The body, unpacked. Raises TooLarge, and EgressError for one that comes too slowly, is cut off, or
        is packed in a way this server does not know (RFC 9110, 8.4: gzip and deflate are)."""
        coding = request.headers.get("Content-Encoding", "").strip().lower()
        if coding not in _PLAIN | _PACKED:
            raise EgressError(
                Code.MALFORMED, f'Content-Encoding "{shown(coding)}" is not supported; use gzip or none'
            )
        body = await _as_sent(request)
        if coding in _PLAIN:
            return body
        async with self._turns:
            return await asyncio.to_thread(unpacked, body, request.client_max_size)

    async def decode(self, body: bytes, decode: Callable[[bytes], T]) -> T:
        """The result of `decode`, which runs in a thread where the body is large."""
        if len(body) < OFF_THE_LOOP_BYTES:
            return decode(body)
        async with self._turns:
            return await asyncio.to_thread(decode, body)


async def _as_sent(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(READ_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge from None
    except TimeoutError:
        raise EgressError(
            Code.DEADLINE_EXCEEDED, f"the request's body did not arrive within {READ_S:g} s; send it faster"
        ) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise EgressError(Code.MALFORMED, f"the request's body is incomplete: {shown(str(error))}") from None


def unpacked(packed: bytes, limit_bytes: int) -> bytes:
    """What gzip (RFC 1952, one member or more) or zlib (RFC 1950) data holds; never more than the limit is
    unpacked. Raises TooLarge; EgressError for data that is neither, or not whole."""
    found = b""
    for _ in range(MEMBERS):
        unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            found += unpacker.decompress(packed, limit_bytes + 1 - len(found))
        except zlib.error:
            raise _unreadable() from None
        if len(found) > limit_bytes:
            raise TooLarge
        if not unpacker.eof:
            raise _unreadable()
        packed = unpacker.unused_data
        if not packed:
            return found
    raise _unreadable()


def _unreadable() -> EgressError:
    return EgressError(Code.MALFORMED, "the request's body cannot be unpacked as its Content-Encoding says")
