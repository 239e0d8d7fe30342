"""Storages that requests name: nothing they lead to may be in a denied network, and no answer is too long.

Denied is 127.0.0.2/32, a second loopback address; names are those of a resolver of the test.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from openegress.core.errors import EgressError, Fault
from openegress.core.storages import AliOSSStorage, AzureStorage, Backend, GCPStorage, Proxy, S3Storage
from openegress.request.destinations import Named
from openegress.storage import Storage, gateway, identity, open_storage
from openegress.storage.gateway import Gateway
from testkit.gcs_double import GcsDouble

DENIED = ("127.0.0.2/32",)
BODY = b"the words of a server that only we reach"

Answer = Callable[[bytes], bytes | AsyncIterator[bytes]]


class Inside:
    """A server on an address of its own, which notes what it is asked."""

    def __init__(self, answer: bytes = b"") -> None:
        self.asked: list[bytes] = []
        self.sent = 0
        self._answer = answer
        self.endless = False

    async def __aenter__(self) -> "Inside":
        self._server = await asyncio.start_server(self._serve, "127.0.0.2", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            writer.write(self._answer)
            while self.endless:
                writer.write(b"a" * 65_536)
                self.sent += 65_536
                await writer.drain()
            await writer.drain()
        except OSError:
            pass  # the other side has had enough
        finally:
            writer.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Name -> the addresses its resolution gives, one after the other; the last one repeats."""
    known: dict[str, list[str]] = {}
    real = asyncio.BaseEventLoop.getaddrinfo

    async def resolve(self: Any, host: str, port: int, **options: Any) -> Any:
        if host in known:
            addresses = known[host]
            host = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return await real(self, host, port, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    return known


Opens = Callable[[Backend], Awaitable[Storage]]


@pytest.fixture
async def opens() -> AsyncIterator[Opens]:
    async with AsyncExitStack() as stack:

        async def open_one(backend: Backend) -> Storage:
            storage = await open_storage(backend)
            stack.push_async_callback(storage.close)
            return storage

        yield open_one


def s3(endpoint: str, proxy: Proxy | None = None, role: str = "") -> S3Storage:
    return S3Storage(
        bucket="b",
        access_key="key",
        secret="very-secret",
        endpoint=endpoint,
        force_path_style=True,
        assume_role_arn=role,
        proxy=proxy,
        deny_networks=DENIED,
    )


def credentials(**more: str) -> str:
    """Of a service account that says where its tokens come from."""
    with GcsDouble() as double:
        known = json.loads(double.credentials())
    del known["gcs_base_url"]
    return json.dumps(known | more)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["127.0.0.2", "[::ffff:127.0.0.2]", "inside.example", "2130706434", "0x7f000002"]
)
async def test_denied_whatever_it_is_called(
    opens: Opens, names: dict[str, list[str]], scheme: str, host: str
) -> None:
    names["inside.example"] = ["127.0.0.2"]
    async with Inside() as inside:
        storage = await opens(s3(f"{scheme}://{host}:{inside.port}"))
        with pytest.raises(EgressError) as refused:
            await storage.check("x.mp4")
        assert inside.asked == []
    assert "127.0.0.2/32, which is one of deny_networks" in refused.value.message
    assert refused.value.fault is Fault.CALLER


@pytest.mark.parametrize(
    "backend",
    [
        lambda at: s3("http://storage.example", Proxy(f"http://{at}", "u", "p")),
        lambda at: s3("http://storage.example", Proxy(f"https://{at}")),
        lambda at: s3(f"http://{at}", role="arn:aws:iam::123456789012:role/recorder"),
        lambda at: GCPStorage(
            bucket="b", credentials=credentials(gcs_base_url=f"http://{at}"), deny_networks=DENIED
        ),
        lambda at: AzureStorage(
            container="c",
            account_name="name",
            account_key="a2V5",
            endpoint=f"http://{at}",
            deny_networks=DENIED,
        ),
    ],
    ids=["proxy", "proxy by TLS", "STS", "GCS base URL", "Azure endpoint"],
)
async def test_denied_on_every_way(
    opens: Opens, names: dict[str, list[str]], backend: Callable[[str], Backend]
) -> None:
    names["storage.example"] = ["127.0.0.1"]
    async with Inside() as inside:
        storage = await opens(backend(f"127.0.0.2:{inside.port}"))
        with pytest.raises(EgressError) as refused:
            await storage.check("x.mp4")
        assert inside.asked == []
    assert "deny_networks" in refused.value.message


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there_is_named(opens: Opens, scheme: str) -> None:
    storage = await opens(s3(f"{scheme}://storage.example", Proxy("http://127.0.0.1:1", "u", "p")))
    with pytest.raises(EgressError, match=r"its proxy 127\.0\.0\.1:1 cannot be reached: Connection refused"):
        await storage.check("x.mp4")


async def test_a_token_url_in_credentials(opens: Opens, names: dict[str, list[str]]) -> None:
    """The client library signs its tokens itself today; should it ask for them, it is refused."""
    names["storage.googleapis.com"] = ["127.0.0.1"]
    async with Inside() as inside:
        at = f"http://127.0.0.2:{inside.port}/token"
        storage = await opens(
            GCPStorage(bucket="b", credentials=credentials(token_uri=at), deny_networks=DENIED)
        )
        with pytest.raises(EgressError):
            await storage.check("x.mp4")
        assert inside.asked == []


async def test_a_name_that_changes_its_address(opens: Opens, names: dict[str, list[str]]) -> None:
    """The address that was judged is the one that is connected to."""
    names["moving.example"] = ["127.0.0.1", "127.0.0.2"]
    async with Inside() as inside:
        storage = await opens(s3(f"http://moving.example:{inside.port}"))
        for _ in range(3):
            with pytest.raises(EgressError):
                await storage.check("x.mp4")
        assert inside.asked == []


async def test_a_redirect(opens: Opens) -> None:
    async with Inside() as inside:
        away = (
            f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.2:{inside.port}/b/k\r\nContent-Length: 0\r\n\r\n"
        )

        def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(away.encode())
            writer.close()

        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        storage = await opens(s3(f"http://127.0.0.1:{port}"))
        with pytest.raises(EgressError):
            await storage.check("x.mp4")
        server.close()
        assert inside.asked == []


@pytest.mark.parametrize("is_tunnel", [False, True])
async def test_an_answer_without_end(is_tunnel: bool) -> None:
    """A gigabyte of it would be the worker's memory, and with it every recording's."""
    head = b"" if is_tunnel else b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9999999999\r\n\r\n"
    async with Inside(head) as inside:
        inside.endless = True
        way = await Gateway.open(())
        got = await _ask(way, f"127.0.0.2:{inside.port}", is_tunnel=is_tunnel)
        assert got < gateway.ANSWER_BYTES + 1000
        assert inside.sent < 30 * gateway.ANSWER_BYTES
        assert "more than" in way.problem
        await way.close()


async def _ask(way: Gateway, at: str, *, is_tunnel: bool) -> int:
    """Bytes that came back."""
    auth = aiohttp.encode_basic_auth(way.proxy.username, way.proxy.password)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(way.proxy.url.rpartition(":")[2]))
    first = f"CONNECT {at} HTTP/1.1" if is_tunnel else f"GET http://{at}/ HTTP/1.1"
    writer.write(f"{first}\r\nHost: {at}\r\nProxy-Authorization: {auth}\r\n\r\n".encode())
    got = 0
    if is_tunnel:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
    try:
        while data := await reader.read(65_536):
            got += len(data)
    except ConnectionError:
        pass
    writer.close()
    return got


@pytest.mark.parametrize("auth", ["", "Proxy-Authorization: Basic b3BlbmVncmVzczp4\r\n"])
async def test_others_on_this_machine_do_not_get_through(auth: str) -> None:
    async with Inside(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as inside:
        way = await Gateway.open(())
        reader, writer = await asyncio.open_connection("127.0.0.1", int(way.proxy.url.rpartition(":")[2]))
        writer.write(f"GET http://127.0.0.2:{inside.port}/ HTTP/1.1\r\nHost: x\r\n{auth}\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 407 ")
        assert inside.asked == []
        writer.close()
        await way.close()


async def test_nothing_of_an_answer_but_its_code(opens: Opens) -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    async with Inside(answer) as inside:
        backend = s3(f"http://127.0.0.2:{inside.port}")
        storage = await opens(
            S3Storage(
                **{f: getattr(backend, f) for f in backend.__struct_fields__ if f != "deny_networks"},
                deny_networks=(),
            )
        )
        with pytest.raises(EgressError) as refused:
            await storage.check("x.mp4")
        assert inside.asked
    assert "HTTP status 403" in refused.value.message and "only we" not in refused.value.message


async def test_the_servers_own_proxy_is_used(
    opens: Opens, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY of the service: names are its business, addresses are still judged."""
    async with Inside(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.2:{proxy.port}")
        storage = await opens(s3("http://only.the.proxy.knows.example"))
        with pytest.raises(EgressError, match="HTTP status 403"):
            await storage.check("x.mp4")
        assert proxy.asked[0].startswith(b"PUT http://only.the.proxy.knows.example/b/")
        asked = len(proxy.asked)
        storage = await opens(s3("http://127.0.0.2:1"))
        with pytest.raises(EgressError, match="deny_networks"):
            await storage.check("x.mp4")
        assert len(proxy.asked) == asked


async def test_who_tells_the_server_who_it_is_may_be_anywhere(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is asked only for a request without credentials: deny_networks are there for metadata servers."""
    token = b'{"access_token":"ours","expires_on":"4102444800","token_type":"Bearer","resource":"r"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    async with Inside(answer % (len(token), token)) as metadata:
        at = f"http://127.0.0.2:{metadata.port}"
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{at}/msi")
        monkeypatch.setenv("IDENTITY_HEADER", "h")
        ambient = AzureStorage(
            container="c", account_name="name", endpoint="http://127.0.0.1:1", deny_networks=DENIED
        )
        with pytest.raises(EgressError, match="Connection refused"):
            await (await opens(ambient)).check("x.mp4")
        assert metadata.asked[0].startswith(b"GET /msi?")
        asked = len(metadata.asked)
        storage = await opens(s3(at))
        with pytest.raises(EgressError, match="deny_networks"):
            await storage.check("x.mp4")
        assert len(metadata.asked) == asked


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        (S3Storage(bucket="b"), True),
        (S3Storage(bucket="b", access_key="a", secret="s"), False),
        (GCPStorage(bucket="b"), True),
        (GCPStorage(bucket="b", credentials="{}"), False),
        (AzureStorage(container="c", account_name="name"), True),
        (AzureStorage(container="c", account_name="name", account_key="k"), False),
        (AzureStorage(container="c", account_name="name", sas_token="k"), False),
        (AliOSSStorage(bucket="b"), False),
    ],
)
def test_whose_client_may_ask_for_it(backend: Named, told: bool) -> None:
    found = identity.hosts(backend, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://[fd00::1]:80/v1"})
    assert ("169.254.169.254" in found, "fd00::1" in found) == (told, told)
