"""Recordings on the local disk: served to those who may see their record, and nothing else is."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo

from openegress.api.dashboard_state import DashboardState
from openegress.api.recordings import TICKET_AUDIENCE
from openegress.api.server import ApiServer, Listen, Parts
from openegress.core.errors import Code, EgressError
from openegress.core.storages import LocalStorage
from openegress.core.tokens import egress_token

KEYS = {"key": "a secret of more than thirty-two bytes", "second": "another secret of thirty-two bytes!"}
CONTENT = bytes(range(256)) * 4096
LONG = timedelta(hours=6)
"""Tokens and tickets are made when the tests are collected, and used when their turn comes."""
TOKEN = {"Authorization": f"Bearer {egress_token('key', KEYS['key'], LONG)}"}


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.board = DashboardState()
        folder = LocalStorage(root=str(root), private=(str(root / "spool"),))
        self.server = ApiServer(Listen(port=0), Parts(KEYS, board=self.board, folders=[folder]))

    def record(self, egress_id: str, *locations: Path | str, size: int = len(CONTENT), **more: Any) -> None:
        files = [FileInfo(filename="f", location=str(each), size=size) for each in locations]
        fields: dict[str, Any] = {"status": EgressStatus.EGRESS_COMPLETE, "file_results": files} | more
        self.board.update(EgressInfo(egress_id=egress_id, started_at=1, **fields))

    def url(self, egress_id: str, place: str = "") -> str:
        return f"{self.server.url}/dashboard/api/egress/{egress_id}/{place or 'files'}"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    root = tmp_path / "out"
    (root / "sub").mkdir(parents=True)
    (root / "spool").mkdir()
    for path in (root / "a.mp4", root / "sub" / "b page.html", root / "spool" / "own", tmp_path / "secret"):
        path.write_bytes(CONTENT)
    (root / "link.mp4").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.mp4")
    one = Site(root)
    one.record("EG_1", root / "a.mp4", root / "sub" / "b page.html")
    await one.server.start()
    yield one
    await one.server.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def listed(http: aiohttp.ClientSession, site: Site, egress_id: str = "EG_1") -> list[dict[str, Any]]:
    async with http.get(site.url(egress_id), headers=TOKEN) as answer:
        assert answer.status == 200, await answer.text()
        files: list[dict[str, Any]] = (await answer.json())["files"]
        return files


async def test_what_is_listed_can_be_fetched_by_its_ticket(site: Site, http: aiohttp.ClientSession) -> None:
    first, second = await listed(http, site)
    assert (first["name"], first["size_bytes"], first["content_type"]) == ("a.mp4", len(CONTENT), "video/mp4")
    assert TOKEN["Authorization"].split()[1] not in first["url"]
    async with http.get(site.url("EG_1", first["url"])) as answer:
        assert (answer.status, answer.content_type) == (200, "video/mp4")
        assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''a.mp4"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.read() == CONTENT
    async with http.get(site.url("EG_1", second["url"])) as answer:
        # Whatever its name says: no browser runs it.
        assert answer.content_type == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''b%20page.html"
    async with http.get(site.url("EG_1", first["url"] + "&download")) as answer:
        assert answer.headers["Content-Disposition"].startswith("attachment")
    async with http.head(site.url("EG_1", first["url"])) as answer:
        assert (answer.status, answer.content_length) == (200, len(CONTENT))


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=300000-700000", 206, slice(300_000, 700_001)),
        ("bytes=-10", 206, slice(-10, None)),
        (f"bytes=5-{10**12}", 206, slice(5, None)),
        (f"bytes={len(CONTENT)}-", 416, slice(0)),
        ("bytes=9-5", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
async def test_ranges(site: Site, http: aiohttp.ClientSession, asked: str, status: int, part: slice) -> None:
    url = site.url("EG_1", "files/0")
    async with http.get(url, headers=TOKEN | {"Range": asked}) as answer:
        assert (answer.status, await answer.read()) == (status, CONTENT[part])
        if status == 206:
            first = range(len(CONTENT))[part]
            told = f"bytes {first.start}-{first.stop - 1}/{len(CONTENT)}"
            assert answer.headers["Content-Range"] == told
        etag = answer.headers["ETag"]
    if status == 206:
        for validator, expected in ((etag, 206), ('"other"', 200)):
            headers = TOKEN | {"Range": asked, "If-Range": validator}
            async with http.get(url, headers=headers) as answer:
                assert answer.status == expected


def ticket(key: str = "key", **claims: Any) -> str:
    own = {
        "iss": key,
        "aud": TICKET_AUDIENCE,
        "sub": "EG_1/0",
        "exp": int(time.time() + LONG.total_seconds()),
    }
    return jwt.encode(own | claims, KEYS[key], algorithm="HS256")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 401),
        ("ticket=", 401),
        ("ticket=nonsense", 401),
        (f"ticket={ticket()}", 200),
        (f"ticket={ticket('second')}", 200),
        (f"ticket={ticket(sub='EG_1/1')}", 401),
        (f"ticket={ticket(sub='EG_2/0')}", 401),
        (f"ticket={ticket(exp=1)}", 401),
        (f"ticket={ticket(aud='other')}", 401),
        (f"ticket={ticket(iss='second')}", 401),
        (f"ticket={ticket(iss='nobody')}", 401),
        (f"ticket={jwt.encode({'iss': 'key', 'sub': 'EG_1/0'}, KEYS['key'])}", 401),
        (f"ticket={jwt.encode({'iss': 'key', 'sub': 'EG_1/0'}, '', algorithm='none')}", 401),
        (f"ticket={egress_token('key', KEYS['key'], LONG)}", 401),
        (f"access_token={egress_token('key', KEYS['key'], LONG)}", 200),
        (f"access_token={jwt.encode({'iss': 'key', 'exp': 2**40}, KEYS['key'])}", 401),
    ],
)
async def test_who_may(site: Site, http: aiohttp.ClientSession, query: str, status: int) -> None:
    async with http.get(site.url("EG_1", f"files/0?{query}")) as answer:
        assert answer.status == status


async def test_a_ticket_is_not_a_token(site: Site, http: aiohttp.ClientSession) -> None:
    (first, _) = await listed(http, site)
    value = first["url"].partition("ticket=")[2]
    for url in (site.url("EG_1"), f"{site.server.url}/dashboard/api/events"):
        async with http.get(url, headers={"Authorization": f"Bearer {value}"}) as answer:
            assert answer.status == 401
        async with http.get(f"{url}?access_token={value}") as answer:
            assert answer.status == 401


async def test_what_a_record_must_not_open(site: Site, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """As if whoever writes records were hostile: nothing outside of the storage, and nothing by a link."""
    root = site.root
    hostile: list[Path | str] = [
        "/etc/passwd",
        tmp_path / "secret",
        f"{root}/../secret",
        f"{root}/sub/../../secret",
        f"{root}//../secret",
        root / "link.mp4",
        root / "folder" / "secret",
        root / "pipe.mp4",
        root / "sub",
        root / "spool" / "own",
        f"{root}x/a.mp4",
        f"{root}/a.mp4\0",
        f"{root}/",
        str(root),
        "a.mp4",
        "s3://bucket/a.mp4",
        "https://host/a.mp4",
        "",
    ]
    site.record("EG_bad", *hostile)
    assert await listed(http, site, "EG_bad") == []
    for place in range(len(hostile)):
        async with (
            asyncio.timeout(5),
            http.get(site.url("EG_bad", f"files/{place}"), headers=TOKEN) as answer,
        ):
            assert (answer.status, b"\x00\x01\x02" in await answer.read()) == (404, False), hostile[place]


@pytest.mark.parametrize(
    "path",
    [
        "EG_1/files/2",
        "EG_1/files/-1",
        "EG_1/files/a.mp4",
        "EG_1/files/%30%30",
        "EG_1/files/..%2f..%2fa.mp4",
        "EG_1/files/99999999999999999999",
        "EG_1/files/%D9%A1",
        "EG_2/files/0",
        "EG_2/files",
        "..%2f..%2fetc/files/0",
        "EG_1%00/files/0",
    ],
)
async def test_what_is_not_there(site: Site, http: aiohttp.ClientSession, path: str) -> None:
    """Raw, because clients tidy paths up before they send them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    head = f"GET /dashboard/api/egress/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: {TOKEN['Authorization']}\r\n\r\n".encode())
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    if path == "EG_1/files/%30%30":  # only another way to write 00, which is 0
        assert raw.startswith(b"HTTP/1.1 200 ")
    else:
        assert raw.startswith(b"HTTP/1.1 404 ")


async def test_only_what_was_recorded(site: Site, http: aiohttp.ClientSession) -> None:
    """While an egress runs its file is not there yet; a file of another size is another recording's."""
    site.record("EG_runs", site.root / "a.mp4", status=EgressStatus.EGRESS_ACTIVE)
    site.record("EG_older", site.root / "a.mp4", size=5)
    for egress_id in ("EG_runs", "EG_older"):
        assert await listed(http, site, egress_id) == []
        async with http.get(site.url(egress_id, "files/0"), headers=TOKEN) as answer:
            assert answer.status == 404


async def test_records_that_cannot_be_read_now(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async def away(egress_id: str) -> EgressInfo:
        raise EgressError(Code.UNAVAILABLE, "redis does not answer")

    server = ApiServer(Listen(port=0), Parts(KEYS, folders=[LocalStorage(root=str(tmp_path))], find=away))
    await server.start()
    try:
        for path in ("files", "files/0"):
            url = f"{server.url}/dashboard/api/egress/EG_1/{path}"
            async with http.get(url, headers=TOKEN) as answer:
                assert (answer.status, await answer.text()) == (503, "redis does not answer")
    finally:
        await server.close()


async def test_watchers_that_leave_hold_nothing_open(site: Site) -> None:
    def held() -> int:
        return sum(Path(fd).resolve() == site.root / "a.mp4" for fd in Path("/proc/self/fd").iterdir())

    (site.root / "a.mp4").write_bytes(b"x" * 64_000_000)
    site.record("EG_big", site.root / "a.mp4", size=64_000_000)
    async with aiohttp.ClientSession() as http:
        answer = await http.get(site.url("EG_big", "files/0"), headers=TOKEN)
        await answer.content.read(10)
        assert held() == 1
        answer.close()
    async with asyncio.timeout(5):
        while held():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
