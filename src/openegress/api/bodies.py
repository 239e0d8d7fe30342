"""Reads, decompresses and decodes the bodies of requests, with limits on time, size and blocking."""

import asyncio
import zlib
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from openegress.core.errors import Code, EgressError
from openegress.core.text import shown

READ_TIMEOUT_S = 20.0
"""Time-out for a whole body of at most a megabyte: 50 kB/s, which even slow callers reach."""
THREAD_THRESHOLD_BYTES = 16 * 1024
"""Size above which bodies are decoded in a thread. This much takes a millisecond; a megabyte can take a
second, during which the event loop would answer nobody."""
MAX_CONCURRENT = 2
"""Limit for large bodies that are decoded in parallel: each holds the interpreter lock for milliseconds."""
MAX_GZIP_MEMBERS = 16
"""Limit for the members of a gzip body; clients send one. Each costs a copy of the rest, and may be empty."""

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
"""The value of wbits that makes zlib accept either header."""

_PLAIN = frozenset({"", "identity"})
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})

T = TypeVar("T")


class TooLarge(Exception):
    """Raised if the body is too large, as sent or decompressed."""


class Bodies:
    """Reads and decodes bodies; at most MAX_CONCURRENT large ones in parallel."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_CONCURRENT)

    async def read(self, request: web.Request) -> bytes:
        """The decompressed body. Raises TooLarge, and EgressError if the body arrives too slowly, is
        incomplete, or has an unknown content coding (RFC 9110, 8.4; gzip and deflate are supported)."""
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
        """Runs `decode`, in a thread if the body is large, and returns its result."""
        if len(body) < THREAD_THRESHOLD_BYTES:
            return decode(body)
        async with self._turns:
            return await asyncio.to_thread(decode, body)


async def _as_sent(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge from None
    except TimeoutError:
        raise EgressError(
            Code.DEADLINE_EXCEEDED,
            f"the request's body did not arrive within {READ_TIMEOUT_S:g} s; send it faster",
        ) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise EgressError(Code.MALFORMED, f"the request's body is incomplete: {shown(str(error))}") from None


def unpacked(packed: bytes, limit_bytes: int) -> bytes:
    """Decompresses gzip (RFC 1952, one member or more) or zlib (RFC 1950) data, never beyond the limit.
    Raises TooLarge, and EgressError for data that is neither, or incomplete."""
    found = b""
    for _ in range(MAX_GZIP_MEMBERS):
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
