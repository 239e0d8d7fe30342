"""Requests that no HTTP client sends, as bytes, and their answers."""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Iterator

from openegress.core.tokens import egress_token

ANSWER_S = 5.0


def odd_requests(api_key: str, api_secret: str) -> Iterator[tuple[str, bytes, bytes]]:
    """(description, bytes, status of the first answer; b"": no answer is awaited)."""
    token = f"Authorization: Bearer {egress_token(api_key, api_secret)}\r\n".encode()

    def head(path: bytes, *lines: bytes) -> bytes:
        return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: x", *lines, b""]) + token

    asked = head(b"/twirp/livekit.Egress/ListEgress", b"Content-Type: application/json")
    start = head(b"/twirp/livekit.Egress/StartWebEgress", b"Content-Type: application/json")

    def packed(body: bytes, coding: bytes) -> bytes:
        length = str(len(body)).encode()
        return start + b"Content-Encoding: " + coding + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body

    def plain(body: bytes) -> bytes:
        return packed(body, b"identity")

    chunked = asked + b"Transfer-Encoding: chunked\r\n\r\n"
    whole = asked + b"Content-Length: 2\r\n\r\n{}"
    million = gzip.compress(bytes(50_000_000))
    yield "HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(24), b"400"
    upgrade = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: "
    yield "HTTP/2 by an upgrade", b"GET /healthz HTTP/1.1\r\n" + upgrade + b"h2c\r\n\r\n", b"200"
    socket = (
        upgrade + b"websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    yield "a WebSocket", b"GET /dashboard/api/events HTTP/1.1\r\n" + socket + b"\r\n", b"401"
    yield "zeros", bytes(100_000), b"400"
    yield "a chunk of no length", chunked + b"zz\r\n{}\r\n0\r\n\r\n", b"400"
    yield "a chunk without end", chunked + b"fffffffffffffff\r\n{}", b""
    yield "trailers without end", chunked + b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 100_000, b"400"
    yield "two lengths", asked + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"
    yield "a length and chunks", asked + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"400"
    yield "a length below zero", asked + b"Content-Length: -2\r\n\r\n{}", b"400"
    yield "a body that is cut", asked + b"Content-Length: 200\r\n\r\n{", b""
    yield "a hundred thousand headers", asked + b"A: b\r\n" * 100_000, b"400"
    yield "a header of a megabyte", asked + b"A: " + b"b" * 1_000_000 + b"\r\n\r\n", b"400"
    yield "a folded header", asked + b"A: b\r\n" + b" c\r\n" * 100_000 + b"\r\n", b"400"
    yield "a path of a megabyte", b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", b"400"
    yield "two thousand requests at once", whole * 2000, b"200"
    yield "gzip in gzip", packed(gzip.compress(million), b"gzip, gzip"), b"400"
    yield "gzip twice in one", packed(gzip.compress(million), b"gzip"), b"400"
    yield "gzip in ten thousand members", packed(gzip.compress(b"") * 10_000, b"gzip"), b"400"
    yield "deflate that unpacks to 50 MB", packed(zlib.compress(bytes(50_000_000)), b"deflate"), b"413"
    yield "brotli", packed(b"\x0b\x00\x80{}\x03", b"br"), b"400"
    yield "a number of 200,000 digits", plain(b'{"preset": ' + b"9" * 200_000 + b"}"), b"400"
    yield "a number beyond all", plain(b'{"preset": 1e999999999}'), b"400"
    yield "half a character", plain(b'{"url": "\\ud800"}'), b"400"
    yield "no character", plain(b'{"url": "\xff\xfe"}'), b"400"
    yield "one name 20,000 times", plain(b"{" + b'"url":"a",' * 20_000 + b'"url":"b"}'), b"400"


async def answer_to(port: int, sent: bytes) -> bytes:
    """The first line of it; b"" if the connection is closed before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER_S):
                return await reader.readline()
        return b""
    finally:
        writer.close()


async def leave_unanswered(port: int, sent: bytes) -> None:
    """Closes the connection once everything is on its way."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    writer.close()
