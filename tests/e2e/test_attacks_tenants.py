"""Callers with a token who ask for what is not theirs are refused, and a recording beside them is whole."""

import asyncio
import json
import os
import urllib.parse
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp import web

from openegress.config.destination import LOCKS
from openegress.core.tokens import egress_token
from testkit.bystander import unharmed_recording
from testkit.health_watch import idle_ms, keeps_nobody_waiting
from testkit.odd_requests import answer_to, leave_unanswered, odd_requests
from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.service import Refused, Service, location

pytestmark = pytest.mark.quiet

FORGED = "2026-01-01T00:00:00Z [error    ] FORGED"
KEYS = {"access_key": "the-key", "secret": "the-secret", "region": "us-east-1", "force_path_style": True}


class Storage:
    """A tenant's, which answers with more than a code: on an address that is denied and one that is not."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """(address, the Authorization header)."""
        self.ports: dict[str, int] = {}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        sockname = request.transport.get_extra_info("sockname") if request.transport else ("",)
        self.asked.append((sockname[0], request.headers.get("Authorization", "")))
        if request.path.startswith("/endless"):
            response = web.StreamResponse(status=403)
            await response.prepare(request)
            while True:
                await response.write(b"a" * 1_000_000)
        document = f"<Error><Code>No\n{FORGED}</Code><Message>INSIDE {'x' * 300_000}</Message></Error>"
        return web.Response(status=403, text=document)

    async def __aenter__(self) -> "Storage":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        for host in ("127.0.0.1", "127.0.0.2"):
            await web.TCPSite(self._runner, host, 0).start()
        self.ports = {at[0]: at[1] for at in self._runner.addresses}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def at(self, host: str) -> str:
        return f"http://{host}:{self.ports[host]}"


async def until_judged(service: Service, body: dict[str, Any]) -> Refused:
    """What a request is refused for, once the machine has room to look at it."""
    async with asyncio.timeout(60):
        while True:
            with pytest.raises(Refused) as caught:
                await service.call("StartWebEgress", **body)
            if "not enough" not in caught.value.message:
                return caught.value
            await asyncio.sleep(0.5)


async def test_a_tenant_reads_and_forges_nothing(tmp_path: Path) -> None:
    # A twentieth of any machine up to 1080p60: 32 times as many pixels do not fit.
    config = {
        "deny_networks": ["127.0.0.2/32"],
        "cpu_cost": {"max_cpu_utilization": 1.0, "web_cpu_cost": 0.05 * (os.cpu_count() or 1)},
    }
    async with (
        PageServer() as pages,
        Storage() as storage,
        Service(tmp_path, config=config) as service,
    ):
        request = {"url": pages.url("pattern.html?tone=1&busy=1"), "file_outputs": [{"filepath": "a.mp4"}]}
        egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
        await service.active(egress_id)

        async def refused(upload: dict[str, Any], **more: Any) -> str:
            outputs = [{"filepath": "x", **upload}]
            body = {"url": "http://127.0.0.1:9/", "file_outputs": outputs, **more}
            message = (await until_judged(service, body)).message
            assert len(message) < 600 and "INSIDE" not in message
            assert len(message.splitlines()) == 1
            return message

        inside, outside = storage.at("127.0.0.2"), storage.at("127.0.0.1")
        denied = await refused({"s3": {"bucket": "b", "endpoint": inside, **KEYS}})
        assert "deny_networks" in denied
        proxied = {"bucket": "b", "endpoint": "http://storage.example", "proxy": {"url": inside}, **KEYS}
        assert "deny_networks" in await refused({"s3": proxied})
        assert storage.asked == []

        assert "HTTP status 403" in await refused({"s3": {"bucket": "b", "endpoint": outside, **KEYS}})
        await refused({"s3": {"bucket": "endless", "endpoint": outside, **KEYS}})
        assert storage.asked and all("the-key" in authorization for _, authorization in storage.asked)
        asked = len(storage.asked)
        await refused({"s3": {"bucket": "b", "endpoint": outside}})
        port = storage.ports["127.0.0.1"]
        for account in (
            f"localhost:{port}/",
            f"localhost:{port}/#",
            f"x@localhost:{port}/#",
            f"localhost:{port}\\",
        ):
            await refused({"azure": {"account_name": account, "container_name": "c"}})
        assert len(storage.asked) == asked
        await refused({}, webhooks=[{"url": "http://h/", "signing_key": f"k\n{FORGED}"}])
        await refused({"s3": {"bucket": f"b\n{FORGED}", **KEYS}})
        await refused({}, image_outputs=[{}] * 1000)
        too_large = {"width": 7680, "height": 4320, "framerate": 120}
        with pytest.raises(Refused, match="not enough"):
            await service.call(
                "StartWebEgress",
                url="http://127.0.0.1:9/",
                file_outputs=[{}],
                advanced=too_large,
            )
        assert [line for line in service.log.splitlines() if line.startswith("2026-01-01")] == []
        assert "INSIDE" not in service.log and len(service.log) < 50_000

        await asyncio.sleep(1)
        info = await service.finish(egress_id)
        assert info["status"] == "EGRESS_COMPLETE", info["error"]
        facts = probe(location(info))
        assert facts.audio is not None and facts.audio.contiguous
        assert counters(location(info)).in_order


LONG = 60_000
"""Of patterns: a text of a quarter of a megabyte, which is what a request may be."""
DEEP = '{"a":' * 30_000
STRANGE = {f"n{number}": 1 for number in range(5000)}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a path of placeholders": ("StartWebEgress", {"file_outputs": [{"filepath": "{time}" * (LONG // 2)}]}),
    "a path of parents": ("StartWebEgress", {"file_outputs": [{"filepath": "../" * LONG + "x"}]}),
    "a stream's query": ("StartWebEgress", {"stream_outputs": [{"urls": ["rtmp://h/a/?" + "a&" * LONG]}]}),
    "a websocket's": ("StartTrackEgress", {"websocket_url": "wss://h/" + "%41&=?" * (LONG // 2) + " "}),
    "a webhook's": ("StartWebEgress", {"webhooks": [{"url": "http://[" + "@" * LONG, "signing_key": "x"}]}),
    "a page's": ("StartWebEgress", {"url": "http://" + "x:y@" * LONG}),
    "deep credentials": ("StartWebEgress", {"file_outputs": [{"gcp": {"bucket": "b", "credentials": DEEP}}]}),
    "a place that is not theirs": ("StartWebEgress", {"file_outputs": [{"filepath": "/var/spool/x.mp4"}]}),
    "names that nobody knows": ("StartWebEgress", {"file_outputs": [STRANGE]}),
    "an id that is a path": ("StopEgress", {"egress_id": "../" * LONG}),
    "a stop with names that nobody knows": (
        "StopEgress",
        {"egress_id": "EG_x"} | STRANGE,
    ),
    "a page of a list": ("ListEgress", {"page_token": {"token": "\n" * LONG}}),
    "a layout": ("UpdateLayout", {"egress_id": "EG_x", "layout": "grid?" + "max_duratio=1&" * (LONG // 4)}),
}
PLACES = ("../spool", "..%2f..%2fdata", "%2e%2e/%2e%2e/data/openegress.db", LOCKS)
"""Behind a recording's files, for the dashboard."""


async def test_what_is_refused_costs_nobody_a_picture(tmp_path: Path) -> None:
    """All that a caller cannot have, asked for again and again: answers are short, and nobody waits."""
    async with PageServer() as pages, Service(tmp_path) as service, aiohttp.ClientSession() as http:
        token = egress_token(service.api_key, service.api_secret)
        headers = {"Authorization": f"Bearer {token}"}
        base = {"url": "http://127.0.0.1:9/", "room_name": "r", "track_id": "TR_1"}

        async def ask(method: str, body: dict[str, Any]) -> tuple[int, str]:
            if method.startswith("Start"):
                body = base | body
            url = f"{service.url}/twirp/livekit.Egress/{method}"
            async with http.post(url, json=body, headers=headers) as answer:
                return answer.status, await answer.text()

        async def attack() -> None:
            for name, (method, body) in REFUSED.items():
                status, text = await ask(method, body)
                assert status in (400, 404) and len(text) < 5000, f"{name}: {status} {text[:300]}"
            for place in PLACES:
                url = yarl.URL(f"{service.url}/dashboard/api/egress/EG_x/files/{place}", encoded=True)
                async with http.get(url, headers=headers) as answer:
                    assert answer.status in (401, 404), place

            for name, sent, wanted in odd_requests(service.api_key, service.api_secret):
                if wanted:
                    line = await answer_to(service.port, sent)
                    assert line.split(b" ")[1:2] == [wanted], f"{name}: {line!r}"
                else:
                    await leave_unanswered(service.port, sent)

        usual_ms = await idle_ms(service.health_port)
        async with unharmed_recording(service, pages):
            await keeps_nobody_waiting(service.health_port, usual_ms, attack)
        assert "Traceback" not in service.log
        assert len(service.log) < 200_000


async def test_a_hostile_page_beside_a_recording(tmp_path: Path) -> None:
    """It takes memory, fills the log, and asks for what it must not reach, all at once."""
    config = {"deny_networks": ["127.0.0.2/32"], "page_max_memory": 0.75}
    async with PageServer() as pages, Storage() as storage, Service(tmp_path, config=config) as service:
        places = [storage.at("127.0.0.2").removeprefix("http://"), f"127.0.0.1:{service.health_port}"]
        url = pages.url("hostile") + "#" + urllib.parse.quote(json.dumps(places))
        request = {"url": url, "file_outputs": [{"filepath": "hostile.mp4"}]}
        async with unharmed_recording(service, pages):
            egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
            info = await service.wait(egress_id)
        assert info["error_code"] == 429 and "MiB of memory" in info["error"], info["error"]
        assert probe(location(info)).video is not None
        assert storage.asked == [] and "REACHED" not in service.log
        assert len(service.log) < 200_000
