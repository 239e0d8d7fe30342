"""What a page's proxy lets through: judged by the address that is connected to, and never this service."""

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest

from openegress.source.web.filtering_proxy import FilteringProxy, SocksReply, is_here, parse_networks

NAME = 3


class Service:
    """Something that listens on loopback and counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    await service.start()
    yield service
    await service.close()


async def asked(proxy: FilteringProxy, host: str, port: int) -> SocksReply:
    """The proxy's reply to a CONNECT by name (RFC 1928)."""
    url = await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    name = host.encode()
    writer.write(bytes((5, 1, 0)) + bytes((5, 1, 0, NAME, len(name))) + name + port.to_bytes(2))
    async with asyncio.timeout(5):
        answer = await reader.readexactly(2 + 10)
    writer.close()
    await proxy.close()
    return SocksReply(answer[3])


HOSTS = ["127.0.0.1", "127.0.0.9", "0.0.0.0", "::ffff:127.0.0.1", "localhost"]


@pytest.mark.parametrize("host", HOSTS)
async def test_no_page_reaches_this_service_by_any_address_of_it(service: Service, host: str) -> None:
    proxy = FilteringProxy((), [service.port])
    assert await asked(proxy, host, service.port) is SocksReply.NOT_ALLOWED
    assert "this service itself" in proxy.reason(f"http://[{host}]/" if ":" in host else f"http://{host}/")
    assert service.visits == 0


async def test_another_port_of_this_machine_is_no_business_of_that(service: Service) -> None:
    assert (
        await asked(FilteringProxy((), [service.port + 1]), "127.0.0.1", service.port) is SocksReply.SUCCEEDED
    )


async def test_a_template_of_its_own_is_let_through(service: Service) -> None:
    proxy = FilteringProxy((), [service.port])
    proxy.open_own(f"http://127.0.0.1:{service.port}/?layout=grid")
    assert await asked(proxy, "127.0.0.1", service.port) is SocksReply.SUCCEEDED


async def test_but_not_into_a_denied_network(service: Service) -> None:
    proxy = FilteringProxy(parse_networks(["127.0.0.0/8"]), [service.port])
    proxy.open_own(f"http://127.0.0.1:{service.port}/")
    assert await asked(proxy, "127.0.0.1", service.port) is SocksReply.NOT_ALLOWED
    assert service.visits == 0


async def test_a_name_that_changes_its_address_is_judged_by_the_one_that_is_connected_to(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what the browser may have been told before does not matter."""
    told = iter(["192.0.2.1", "127.0.0.1"])
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def resolve(host: str, port: Any, **options: Any) -> Any:
        if host != "rebinding.test":
            return await real(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(told), port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    next(told)  # what it was when the page was loaded
    proxy = FilteringProxy(parse_networks(["127.0.0.0/8"]))
    assert await asked(proxy, "rebinding.test", service.port) is SocksReply.NOT_ALLOWED
    assert service.visits == 0


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_what_is_here(address: str, here: bool) -> None:
    assert is_here(ip_address(address)) is here
