"""Names whose servers stay silent: nobody else waits for them."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from openegress.core import lookup_loop

SILENT = "silent.test"
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


@pytest.fixture
def begun() -> threading.Semaphore:
    """Once for each lookup of SILENT."""
    return threading.Semaphore(0)


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch, begun: threading.Semaphore) -> Iterator[threading.Event]:
    """Until then nobody answers for SILENT."""
    ended = threading.Event()

    def look_up(host: str, *_: Any) -> list[Any]:
        if host == SILENT:
            begun.release()
            ended.wait(30)
        return ANSWER

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield ended
    ended.set()


def test_threads_and_other_names_do_not_wait(end: threading.Event) -> None:
    async def attacked() -> None:
        loop = asyncio.get_running_loop()
        silent = [asyncio.ensure_future(loop.getaddrinfo(SILENT, 80)) for _ in range(200)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "from the disk") == "from the disk"
            assert await loop.getaddrinfo("other.test", 80, type=socket.SOCK_STREAM) == ANSWER
        assert not any(each.done() for each in silent)
        end.set()
        assert await asyncio.gather(*silent) == [ANSWER] * 200

    lookup_loop.run(attacked())


def test_no_more_than_so_many_at_a_time(
    end: threading.Event, begun: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that nobody waits for any more: their threads are there."""
    monkeypatch.setattr(lookup_loop, "MAX_LOOKUPS", 3)

    async def attacked() -> None:
        loop = asyncio.get_running_loop()
        silent = [asyncio.ensure_future(loop.getaddrinfo(SILENT, 80)) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in silent:
            assert begun.acquire(timeout=5)
        for each in silent:
            each.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        with pytest.raises(socket.gaierror, match="3 names"):
            await loop.getaddrinfo("other.test", 80)
        end.set()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await loop.getaddrinfo("other.test", 80) == ANSWER
                    return
                except socket.gaierror:
                    await asyncio.sleep(0.01)

    lookup_loop.run(attacked())


def test_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def asked() -> None:
        with pytest.raises(socket.gaierror, match="unknown"):
            await asyncio.get_running_loop().getaddrinfo("nobody.test", 80)

    lookup_loop.run(asked())
