"""Connections to a storage: kept, cut, closed by the other side, encrypted, through proxies."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openegress.core.plan import Proxy, S3Storage
from openegress.storage import http_link, open_storage
from openegress.storage.http_link import CallTimeouts, HttpLink, NotAnswered
from testkit.servers import AuthProxy

PATIENCE = CallTimeouts(2.0, 20.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """On the port, until all that was begun has ended."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


class Far:
    """A server that a test scripts: `answers` to requests in their order, on whichever connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.answers: list[bytes] = []
        self.gone = asyncio.Event()
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.bodies.append(await reader.readexactly(int(length or 0)))
                self.asked.set()
                if not self.answers:
                    await reader.read()
                    return
                answer = self.answers.pop(0)
                if answer != b"close":
                    writer.write(answer)
                    await writer.drain()
                if b"close" in answer:
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.gone.set()


@pytest.fixture
async def far() -> AsyncIterator[tuple[Far, str]]:
    found = Far()
    async with serving(found.serve) as port:
        yield found, f"http://127.0.0.1:{port}"


async def ask(link: HttpLink, body: bytes = b"") -> int:
    return (await link.ask("PUT", "/k", {"host": "h"}, body, PATIENCE)).status


async def test_a_connection_is_kept(far: tuple[Far, str]) -> None:
    server, url = far
    server.answers = [OK] * 3
    link = HttpLink(url)
    assert [await ask(link, b"x" * n) for n in (1, 0, 7)] == [200] * 3
    assert server.connections == 1 and server.bodies == [b"x", b"", b"x" * 7]
    await link.close()


async def test_one_that_the_store_closed_with_its_answer(far: tuple[Far, str]) -> None:
    """That request is asked again; of a new connection a lost answer is one."""
    server, url = far
    server.answers = [OK, b"close", OK]
    link = HttpLink(url)
    assert await ask(link) == 200
    assert await ask(link) == 200
    assert server.connections == 2
    server.answers = [b"close"]
    other = HttpLink(url)
    with pytest.raises(NotAnswered, match="closed before the answer"):
        await ask(other)
    await link.close()
    await other.close()


async def test_a_store_restarts(far: tuple[Far, str]) -> None:
    """Its kept connection is closed when the next request comes: that one goes on another."""
    server, url = far
    server.answers = [OK]
    link = HttpLink(url)
    assert await ask(link) == 200
    (kept,) = link._idle
    kept.cut()
    kept._is_cut = False
    server.answers = [OK]
    assert await ask(link) == 200
    assert server.connections == 2
    await link.close()


async def test_a_cancelled_request_ends_at_once(far: tuple[Far, str]) -> None:
    server, url = far
    link = HttpLink(url)
    asking = asyncio.create_task(ask(link, bytes(4 * 1024 * 1024)))
    await server.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(server.gone.wait(), 5)
    await link.close()


async def test_an_answer_that_comes_before_the_body_has_gone() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.write_eof()
        while await reader.read(65_536):
            pass

    async with serving(refuse) as port:
        link = HttpLink(f"http://127.0.0.1:{port}")
        assert await ask(link, bytes(16 * 1024 * 1024)) == 403
        await link.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH close\r\n\r\n",
        b"HTTP/1.1 abc close\r\n\r\n",
        b"HTTP/1.1 200 OK close\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK close\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK close\r\nContent-Length: 10\r\n\r\nok",
        b"HTTP/1.1 200 OK close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok",
    ],
    ids=["no HTTP", "no status", "many fields", "a long field", "cut short", "bad chunk"],
)
async def test_garbage(far: tuple[Far, str], answer: bytes) -> None:
    server, url = far
    server.answers = [answer]
    link = HttpLink(url)
    with pytest.raises(NotAnswered) as raised:
        await ask(link)
    assert raised.value.answer.status == 0 and len(raised.value.answer.words) < 80
    assert "SSH" not in raised.value.answer.words
    await link.close()


async def test_a_long_answer_is_not_kept(far: tuple[Far, str]) -> None:
    server, url = far
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"a" * 999_999, OK]
    link = HttpLink(url)
    answer = await link.ask("GET", "/k", {"host": "h"}, b"", PATIENCE)
    assert len(answer.body) == http_link.ANSWER_BYTES
    assert await ask(link) == 200 and server.connections == 2
    await link.close()


@pytest.mark.parametrize("url", ["http://h\u00e4\u00e4" + "x" * 70 + ".example", "http://nowhere.invalid"])
async def test_names_that_are_none(url: str) -> None:
    link = HttpLink(url, environment=False)
    with pytest.raises(NotAnswered, match="name"):
        await ask(link)
    await link.close()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of localhost, with its key, and trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    http_link.tls_context.cache_clear()
    return path


@contextlib.asynccontextmanager
async def encrypted(certificate: Path) -> AsyncIterator[tuple[Far, str]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    found = Far()
    async with serving(found.serve, context) as port:
        yield found, f"https://localhost:{port}"
    http_link.tls_context.cache_clear()


async def test_encrypted_and_checked(certificate: Path) -> None:
    async with encrypted(certificate) as (server, url):
        server.answers = [OK] * 2
        link = HttpLink(url)
        body = bytes(range(256)) * 20_000
        assert await ask(link, body) == 200 and server.bodies == [body]
        await link.close()
        other = HttpLink(url.replace("localhost", "127.0.0.1"))
        with pytest.raises(NotAnswered, match="certificate is not accepted"):
            await ask(other)
        await other.close()
        assert len(server.heads) == 1


async def test_encrypted_through_a_proxy(certificate: Path) -> None:
    with AuthProxy() as proxy:
        async with encrypted(certificate) as (server, url):
            server.answers = [OK] * 2
            link = HttpLink(url, Proxy(proxy.url, proxy.username, proxy.password))
            assert await ask(link) == 200
            assert b"roxy-" not in server.heads[0]
            await link.close()
            wrong = HttpLink(url, Proxy(proxy.url, proxy.username, "wrong"))
            with pytest.raises(NotAnswered) as raised:
                await ask(wrong)
            assert raised.value.answer.status == 407
            await wrong.close()


async def test_encrypted_through_an_encrypted_proxy(certificate: Path, tmp_path: Path) -> None:
    """TLS in TLS, which goes by a gateway."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    asked: list[bytes] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        port = int(asked[-1].split(b" ")[1].rpartition(b":")[2])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    (tmp_path / "x").write_bytes(b"x")
    async with serving(connect, context) as port, encrypted(certificate) as (server, url):
        server.answers = [OK]
        through = Proxy(f"https://localhost:{port}")
        storage = await open_storage(S3Storage("b", "key", "secret", endpoint=url, proxy=through))
        await storage.put(tmp_path / "x", "x.mp4", "video/mp4")
        await storage.close()
        assert server.bodies == [b"x"] and asked[0].startswith(b"CONNECT localhost:")
