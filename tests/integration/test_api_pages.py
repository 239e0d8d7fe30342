"""What the API's port serves beside the API: pages, health, the dashboard's feed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from openegress.api.health import Health, health_app, upstream_status
from openegress.api.pages import Pages
from openegress.api.server import ApiServer, Listen, Parts
from openegress.core.errors import EgressError
from openegress.core.events import Active, Progress
from testkit.egress_api import EgressApi, egress_api
from testkit.local_app import serving

EVENTS = "/dashboard/api/events"


@pytest.fixture
def static(tmp_path: Path) -> Path:
    for name, files in {
        "template": {"index.html": "<p>template", "template.js": "1", "sub/x.css": "p{}"},
        "dashboard": {"index.html": "<p>dashboard", "dashboard.js": "2"},
    }.items():
        for file, text in files.items():
            path = tmp_path / "static" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (tmp_path / "static" / "secret.txt").write_text("secret")
    (tmp_path / "static" / "template" / "link").symlink_to(tmp_path / "static" / "secret.txt")
    return tmp_path / "static"


class Switch:
    def __init__(self) -> None:
        self.trouble: str | None = None

    async def __call__(self) -> str | None:
        if self.trouble == "hang":
            await asyncio.Event().wait()
        if self.trouble == "raise":
            raise RuntimeError("lost")
        return self.trouble


@pytest.fixture
def alive() -> Switch:
    return Switch()


@pytest.fixture
def ready() -> Switch:
    return Switch()


@pytest.fixture
async def api(tmp_path: Path, static: Path, alive: Switch, ready: Switch) -> AsyncIterator[EgressApi]:
    pages = Pages({"/": static / "template", "/dashboard": static / "dashboard"})
    health = Health(alive={"store": alive}, ready={"redis": ready})
    async with egress_api(tmp_path, pages=pages, health=health) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


# --- pages


@pytest.mark.parametrize(
    ("path", "content_type", "text"),
    [
        ("/", "text/html", "<p>template"),
        ("/?layout=grid&token=x", "text/html", "<p>template"),
        ("/index.html", "text/html", "<p>template"),
        ("/template.js", "text/javascript", "1"),
        ("/sub/x.css", "text/css", "p{}"),
        ("/dashboard/", "text/html", "<p>dashboard"),
        ("/dashboard", "text/html", "<p>dashboard"),
        ("/dashboard/dashboard.js", "text/javascript", "2"),
    ],
)
async def test_pages(
    api: EgressApi, http: aiohttp.ClientSession, path: str, content_type: str, text: str
) -> None:
    async with http.get(api.url + path) as answer:
        assert (answer.status, answer.content_type, await answer.text()) == (200, content_type, text)
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize(
    "path",
    [
        b"/nothing",
        b"/sub/",
        b"/../secret.txt",
        b"/..%2fsecret.txt",
        b"/dashboard/../../secret.txt",
        b"//etc/passwd",
        b"/%2fetc/passwd",
        b"/link",
        b"/a%00b",
        b"/" + b"x" * 4000,
        b"/dashboardx",
    ],
)
async def test_not_found(api: EgressApi, path: bytes) -> None:
    """Raw, because clients tidy paths up before they send them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert raw.startswith(b"HTTP/1.1 404 ")
    assert b"/twirp/livekit.Egress/<Method>" in raw
    assert b"secret\n" not in raw and not raw.endswith(b"secret")


@pytest.mark.parametrize(
    "query", [b"?a=%0d%0aSet-Cookie:%20x=y", b"?%00", b"?a=%ff&b=%u0041", b"?" + b"%0a" * 2000]
)
async def test_a_query_that_no_header_can_hold(api: EgressApi, query: bytes) -> None:
    """The page's slash is added, and the query is as it came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(b"GET /dashboard" + query + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    raw = await reader.read()
    writer.close()
    assert raw.startswith(b"HTTP/1.1 308 ")
    assert b"Location: /dashboard/" + query + b"\r\n" in raw
    assert b"\nSet-Cookie" not in raw


async def test_pages_that_were_not_built(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    async with (
        egress_api(tmp_path, pages=Pages({"/": empty})) as api,
        http.get(api.url + "/") as answer,
    ):
        assert answer.status == 404
        assert "make web" in await answer.text()


async def test_pages_take_no_posts(api: EgressApi, http: aiohttp.ClientSession) -> None:
    async with http.post(api.url + "/", data=b"x") as answer:
        assert answer.status == 404


# --- health


async def get_json(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as answer:
        return answer.status, await answer.json()


async def test_health(api: EgressApi, http: aiohttp.ClientSession, alive: Switch, ready: Switch) -> None:
    healthz, readyz = f"{api.url}/healthz", f"{api.url}/readyz"
    assert await get_json(http, healthz) == (200, {"status": "ok", "checks": {"store": "ok"}})
    assert (await get_json(http, readyz))[0] == 200
    ready.trouble = "redis at 127.0.0.1:6379 refuses connections"
    assert (await get_json(http, healthz))[0] == 200
    assert await get_json(http, readyz) == (
        503,
        {"status": "failing", "checks": {"store": "ok", "redis": ready.trouble}},
    )
    alive.trouble, ready.trouble = "raise", "hang"
    assert await get_json(http, readyz) == (
        503,
        {
            "status": "failing",
            "checks": {
                "store": "the check failed (RuntimeError); the log has the details",
                "redis": "no answer within 2 s",
            },
        },
    )
    assert (await get_json(http, healthz))[0] == 503


async def test_upstreams_health_port(api: EgressApi, http: aiohttp.ClientSession) -> None:
    body = {
        "url": "http://e.com",
        "file_outputs": [{"s3": {"bucket": "b", "access_key": "KEY", "secret": "SECRET"}}],
    }
    async with http.post(
        f"{api.url}/twirp/livekit.Egress/StartWebEgress", json=body, headers=api.headers()
    ) as answer:
        egress_id = (await answer.json())["egress_id"]
    infos = list(api.worker.infos.values())
    async with serving(health_app(Health(), lambda: upstream_status(0.25, infos))) as port:
        url = f"http://127.0.0.1:{port}"
        for path in ("/", "/anything"):
            status, found = await get_json(http, url + path)
            assert status == 200
            assert found["CpuLoad"] == 0.25
            assert found[egress_id]["fileOutputs"][0]["s3"]["secret"] == "{secret}"
        assert (await get_json(http, url + "/readyz"))[0] == 200


# --- the dashboard's feed


async def next_event(stream: aiohttp.StreamReader) -> tuple[str, Any]:
    async with asyncio.timeout(5):
        name = (await stream.readline()).decode().removeprefix("event: ").strip()
        data = json.loads((await stream.readline()).decode().removeprefix("data: "))
        assert await stream.readline() == b"\n"
        return name, data


async def start(api: EgressApi, http: aiohttp.ClientSession) -> str:
    body = {"url": "http://e.com", "stream_outputs": [{"urls": ["rtmp://h/app/xxxSECRETxxx"]}]}
    url = f"{api.url}/twirp/livekit.Egress/StartWebEgress"
    async with http.post(url, json=body, headers=api.headers()) as answer:
        egress_id: str = (await answer.json())["egress_id"]
        return egress_id


async def test_feed(api: EgressApi, http: aiohttp.ClientSession) -> None:
    first = await start(api, http)
    api.board.node(lambda: {"cores": 2})
    async with http.get(f"{api.url}{EVENTS}?access_token={api.token()}") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        name, data = await next_event(answer.content)
        assert name == "snapshot"
        assert data["node"] == {"cores": 2}
        assert [entry["info"]["egress_id"] for entry in data["egresses"]] == [first]
        assert "SECRET" not in json.dumps(data)
        second = await start(api, http)
        name, data = await next_event(answer.content)
        assert (name, data["info"]["egress_id"]) == ("egress", second)
        assert data["info"]["status"] == "EGRESS_STARTING"
        assert (data["progress"], data["thumbnail"]) == (None, None)
        await api.worker.tell(second, Active(1))
        name, data = await next_event(answer.content)
        assert data["info"]["status"] == "EGRESS_ACTIVE"
        api.board.progress(second, Progress(5, 4, 3, 2, 1, fps=29.9))
        name, data = await next_event(answer.content)
        assert (data["progress"]["media_ns"], data["progress"]["fps"]) == (5, 29.9)
        assert data.keys() == {"egress_id", "progress"}  # the rest is as it was
        api.board.thumbnail(second, "data:image/jpeg;base64,AA==")
        name, data = await next_event(answer.content)
        assert data["thumbnail"] == "data:image/jpeg;base64,AA=="
        assert data["progress"]["media_ns"] == 5
        assert "info" not in data


async def test_a_slow_watcher_gets_the_latest(api: EgressApi) -> None:
    async with aiohttp.ClientSession() as http:
        egress_id = await start(api, http)
    watching = api.board.watch()
    change = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    for media_ns in range(1, 1001):
        api.board.progress(egress_id, Progress(media_ns, 0, 0, 0, 0))
    entry = await change
    assert entry.progress is not None
    assert entry.progress.media_ns == 1000
    await watching.aclose()
    assert api.board.watchers == 0


async def test_watchers_that_leave_are_forgotten(api: EgressApi, http: aiohttp.ClientSession) -> None:
    egress_id = await start(api, http)
    async with aiohttp.ClientSession() as watcher:
        answer = await watcher.get(f"{api.url}{EVENTS}", headers=api.headers())
        await next_event(answer.content)
        assert api.board.watchers == 1
        answer.close()
    async with asyncio.timeout(5):
        while api.board.watchers:
            api.board.progress(egress_id, Progress(1, 0, 0, 0, 0))
            await asyncio.sleep(0.01)


async def test_the_feed_ends_with_the_server(api: EgressApi, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{api.url}{EVENTS}", headers=api.headers()) as answer:
        await next_event(answer.content)
        async with asyncio.timeout(5):
            await api.server.close()
            assert await answer.content.read() == b""


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"video": {}}, "permissions denied"),
        ({"secret": "0" * 64}, "invalid authorization token: Signature verification failed"),
        ({"exp": 1}, "invalid authorization token: Signature has expired"),
    ],
)
async def test_the_feed_needs_a_token(
    api: EgressApi, http: aiohttp.ClientSession, claims: dict[str, Any], text: str
) -> None:
    async with http.get(f"{api.url}{EVENTS}?access_token={api.token(**claims)}") as answer:
        assert (answer.status, await answer.text()) == (401, text)
    async with http.get(f"{api.url}{EVENTS}") as answer:
        assert (answer.status, await answer.text()) == (401, "permissions denied")


# --- the server


async def test_a_port_that_is_taken(api: EgressApi) -> None:
    second = ApiServer(Listen(port=api.server.port), Parts({}))
    with pytest.raises(EgressError, match=f"cannot listen on 127.0.0.1:{api.server.port}"):
        await second.start()
    await second.close()


async def test_a_worker_has_no_egress_api(http: aiohttp.ClientSession) -> None:
    server = ApiServer(Listen(port=0), Parts({}))
    await server.start()
    try:
        url = f"{server.url}/twirp/livekit.Egress/ListEgress"
        async with http.post(url, json={}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "bad_route")
    finally:
        await server.close()
