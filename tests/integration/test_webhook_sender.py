"""Webhooks from a record's change to real receivers: order, retries, restarts, official verification."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from livekit.api import TokenVerifier, WebhookReceiver
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo, WebEgressRequest
from livekit.protocol.models import WebhookConfig

from openegress.config.load import load
from openegress.config.settings import Redis as RedisSettings
from openegress.config.settings import Settings
from openegress.store import outbox as outbox_module
from openegress.store.ioinfo import IOInfoService
from openegress.store.outbox import WebhookSender, pause_s
from openegress.store.redis import RedisStore
from openegress.store.sqlite import SqliteStore
from openegress.store.webhooks import Webhooks
from testkit.livekit_server import free_port
from testkit.node_packages import install
from testkit.redis_server import RedisServer

KEY, SECRET = "key", "secret-of-key-0123456789-0123456789"
ROOT = Path(__file__).resolve().parents[2]


class Receiver:
    """A webhook endpoint; `answer` decides the status per event, a hung one never answers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.got: asyncio.Queue[tuple[str, bytes, dict[str, str]]] = asyncio.Queue()
        self.answer: Callable[[str], int] = lambda event: 200
        self.hung = False
        self.moved_to = ""
        self.asked = asyncio.Event()
        self.paths: list[str] = []
        """Somebody waits for a hung one."""
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=hunter2"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook{rest:.*}", self._hook)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def next(self) -> tuple[str, bytes, dict[str, str]]:
        async with asyncio.timeout(15):
            return await self.got.get()

    async def _hook(self, request: web.Request) -> web.Response:
        self.paths.append(request.raw_path)
        body = await request.read()
        event = json.loads(body)["event"]
        if self.hung:
            self.asked.set()
            await asyncio.Event().wait()
        if self.moved_to:
            return web.Response(status=308, headers={"Location": self.moved_to})
        status = self.answer(event)
        if status == 200:
            self.got.put_nowait((event, body, dict(request.headers)))
        return web.Response(status=status)


class Service:
    """Records with webhooks, as a server of one process has them."""

    def __init__(self, db: Path, settings: Settings) -> None:
        self.store = SqliteStore(db)
        self.sender = WebhookSender(Webhooks(settings), self.store, settings.all_keys, retry_for_s=3600)
        self.records = IOInfoService(self.store, self.sender)

    async def start(self) -> "Service":
        await self.store.open()
        await self.sender.start()
        return self

    async def stop(self) -> None:
        await self.sender.close()
        await self.store.close()


def settings_for(*receivers: Receiver) -> Settings:
    urls = ", ".join(f"'{receiver.url}'" for receiver in receivers)
    body = f"api_key: {KEY}\napi_secret: {SECRET}\nwebhook: {{urls: [{urls}]}}"
    return load(body=body, environ={}).settings


@pytest.fixture
async def receivers() -> AsyncIterator[list[Receiver]]:
    receivers = [Receiver(), Receiver()]
    for receiver in receivers:
        await receiver.start()
    yield receivers
    for receiver in receivers:
        await receiver.stop()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "FIRST_PAUSE_S", 0.05)


def info(status: EgressStatus, at: int, egress_id: str = "EG_1", **more: Any) -> EgressInfo:
    return EgressInfo(egress_id=egress_id, room_name="room", status=status, updated_at=at, **more)


LIFE = [
    (info(EgressStatus.EGRESS_STARTING, 1), "egress_started"),
    (info(EgressStatus.EGRESS_ACTIVE, 2), "egress_updated"),
    (info(EgressStatus.EGRESS_ENDING, 3), "egress_updated"),
    (
        info(EgressStatus.EGRESS_COMPLETE, 4, file_results=[FileInfo(duration=1_500_000_000)]),
        "egress_ended",
    ),
]


async def test_a_life_arrives_in_order_signed_as_official_receivers_want(
    receivers: list[Receiver], tmp_path: Path
) -> None:
    receiver = receivers[0]
    service = await Service(tmp_path / "db", settings_for(receiver)).start()
    for record, _ in (*LIFE, LIFE[1], LIFE[3]):  # the last two are late copies
        await service.records.update(record)
    verifier = WebhookReceiver(TokenVerifier(KEY, SECRET))
    seen = []
    for _ in LIFE:
        event, body, headers = await receiver.next()
        assert headers["Content-Type"] == "application/webhook+json"
        assert headers["User-Agent"] == "LiveKit"
        received = verifier.receive(body.decode(), headers["Authorization"])
        seen.append((received.egress_info, event))
    assert seen == LIFE
    assert await service.sender.drain(5)
    assert receiver.got.empty()

    answer = receive_with_node(body.decode(), headers["Authorization"])
    assert answer["event"] == "egress_ended"
    assert (answer["room"], answer["egressId"], answer["duration"]) == ("room", "EG_1", "1500000000")
    assert answer["status"] == EgressStatus.EGRESS_COMPLETE
    await service.stop()


async def test_an_event_that_is_not_accepted_comes_again_before_the_next(
    receivers: list[Receiver], tmp_path: Path
) -> None:
    receiver = receivers[0]
    attempts: list[str] = []

    def refuse_three_times(event: str) -> int:
        attempts.append(event)
        return 200 if len(attempts) > 3 else (500, 404, 429)[len(attempts) - 1]

    receiver.answer = refuse_three_times
    service = await Service(tmp_path / "db", settings_for(receiver)).start()
    for record, _ in LIFE:
        await service.records.update(record)
    assert [(await receiver.next())[0] for _ in LIFE] == [event for _, event in LIFE]
    assert attempts[:4] == ["egress_started"] * 4
    assert await service.sender.drain(5)
    assert service.sender.tally == outbox_module.Tally(delivered=4, failed_attempts=3)
    await service.stop()


async def test_an_event_that_is_refused_gives_way_to_newer_ones(
    receivers: list[Receiver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of its egress is tried on, as a receiver may be out of its mind for a while."""
    monkeypatch.setattr(outbox_module, "FIRST_PAUSE_S", 0.01)  # which doubles eight times
    receiver = receivers[0]
    asked: Counter[str] = Counter()

    def refuse(event: str) -> int:
        asked[event] += 1
        knows = event == "egress_ended" and asked[event] > 2 * outbox_module.REFUSED_ATTEMPTS
        return 200 if knows else 404

    receiver.answer = refuse
    service = await Service(tmp_path / "db", settings_for(receiver)).start()
    for record, _ in LIFE:
        await service.records.update(record)
    assert (await receiver.next())[0] == "egress_ended"
    assert await service.sender.drain(5)
    most = outbox_module.REFUSED_ATTEMPTS
    assert asked == {"egress_started": most, "egress_updated": 2 * most, "egress_ended": 2 * most + 1}
    assert service.sender.tally.given_up == 3
    await service.stop()


async def test_a_receiver_that_has_moved_is_followed(receivers: list[Receiver], tmp_path: Path) -> None:
    old, new = receivers
    old.moved_to = new.url
    service = await Service(tmp_path / "db", settings_for(old)).start()
    await service.records.update(LIFE[0][0])
    assert (await new.next())[0] == "egress_started"
    old.moved_to = "/hook"  # in a circle
    await service.records.update(LIFE[1][0])
    assert not await service.sender.drain(0.3)
    await service.stop()


async def test_events_survive_a_receiver_and_a_restart_of_ours(
    receivers: list[Receiver], tmp_path: Path
) -> None:
    receiver = receivers[0]
    await receiver.stop()
    service = await Service(tmp_path / "db", settings_for(receiver)).start()
    await service.records.update(LIFE[0][0])
    await service.records.update(LIFE[3][0])
    assert not await service.sender.drain(0.3)
    await service.stop()
    await receiver.start()
    again = await Service(tmp_path / "db", settings_for(receiver)).start()
    assert [(await receiver.next())[0] for _ in range(2)] == ["egress_started", "egress_ended"]
    await again.stop()


async def test_what_is_in_flight_at_a_stop_is_due_at_the_next_start(
    receivers: list[Receiver], tmp_path: Path
) -> None:
    receiver = receivers[0]
    receiver.hung = True
    service = await Service(tmp_path / "db", settings_for(receiver)).start()
    await service.records.update(LIFE[0][0])
    await receiver.asked.wait()
    await service.stop()
    receiver.hung = False
    again = await Service(tmp_path / "db", settings_for(receiver)).start()
    assert (await receiver.next())[0] == "egress_started"
    await again.stop()


async def test_a_url_that_hangs_or_refuses_keeps_nothing_from_the_others(
    receivers: list[Receiver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "REQUEST_TIMEOUT_S", 1.0)
    bad, good = receivers
    bad.hung = True
    service = await Service(tmp_path / "db", settings_for(bad, good)).start()
    began = asyncio.get_running_loop().time()
    for n in range(100):
        await service.records.update(info(EgressStatus.EGRESS_STARTING, 1, f"EG_{n}"))
    got = {json.loads((await good.next())[1])["egressInfo"]["egressId"] for _ in range(100)}
    assert got == {f"EG_{n}" for n in range(100)}
    assert asyncio.get_running_loop().time() - began < 14
    assert bad.got.empty()
    await service.stop()


async def test_a_host_that_hangs_keeps_nothing_from_the_others(
    receivers: list[Receiver], tmp_path: Path
) -> None:
    """Whoever may start recordings names any number of URLs of it, and does so again and again."""
    hung, good = receivers
    hung.hung = True
    service = await Service(tmp_path / "db", settings_for(good)).start()
    for n in range(2 * outbox_module.IN_FLIGHT):
        webhook = WebhookConfig(url=f"http://127.0.0.1:{hung.port}/hook{n}", signing_key=KEY)
        request = WebEgressRequest(url="https://x", webhooks=[webhook])
        await service.records.update(info(EgressStatus.EGRESS_STARTING, 1, f"EG_{n}", web=request))
    for _ in range(2 * outbox_module.IN_FLIGHT):
        await good.next()
    async with asyncio.timeout(5):
        await service.records.update(info(EgressStatus.EGRESS_STARTING, 1, "EG_last"))
        assert json.loads((await good.next())[1])["egressInfo"]["egressId"] == "EG_last"
    assert 0 < len(hung.paths) <= outbox_module.IN_FLIGHT_PER_HOST
    await service.stop()


async def test_a_request_has_webhooks_of_its_own(receivers: list[Receiver], tmp_path: Path) -> None:
    project, own = receivers
    service = await Service(tmp_path / "db", settings_for(project)).start()
    request = WebEgressRequest(url="https://x", webhooks=[WebhookConfig(url=own.url, signing_key=KEY)])
    await service.records.update(info(EgressStatus.EGRESS_STARTING, 1, web=request))
    (event, body, _), (_, same_body, _) = await own.next(), await project.next()
    assert event == "egress_started"
    assert body == same_body
    await service.stop()


@pytest.mark.parametrize(
    ("credentials", "path", "seen"),
    [
        ("user:pa%40ss@", "/hook", "/hook"),
        ("user@", "/hook", "/hook"),
        ("", "/hook?sig=a%2Fb%2Bc%3D&x=a+b&y=%7E~", "/hook?sig=a%2Fb%2Bc%3D&x=a+b&y=%7E~"),
        ("", "/hook/a%2Fb/%E4%BC%9A", "/hook/a%2Fb/%E4%BC%9A"),
        ("", "/hook/会?q=ü", "/hook/%E4%BC%9A?q=%C3%BC"),
        ("", "/hook#frag", "/hook"),
    ],
)
async def test_urls_of_every_form_get_events_signed_as_ever(
    receivers: list[Receiver], tmp_path: Path, credentials: str, path: str, seen: str
) -> None:
    project, own = receivers
    url = f"http://{credentials}127.0.0.1:{own.port}{path}"
    service = await Service(tmp_path / "db", settings_for(project)).start()
    request = WebEgressRequest(url="https://x", webhooks=[WebhookConfig(url=url, signing_key=KEY)])
    await service.records.update(info(EgressStatus.EGRESS_STARTING, 1, web=request))
    _, body, headers = await own.next()
    verifier = WebhookReceiver(TokenVerifier(KEY, SECRET))
    assert verifier.receive(body.decode(), headers["Authorization"]).event == "egress_started"
    assert own.paths == [seen]
    await service.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_request_cannot_send_us_into_a_denied_network(
    receivers: list[Receiver], tmp_path: Path, host: str
) -> None:
    project, own = receivers
    settings = msgspec.structs.replace(settings_for(project), deny_networks=("127.0.0.0/8", "::1/128"))
    service = await Service(tmp_path / "db", settings).start()
    webhook = WebhookConfig(url=own.url.replace("127.0.0.1", host), signing_key=KEY)
    request = WebEgressRequest(url="https://x", webhooks=[webhook])
    await service.records.update(info(EgressStatus.EGRESS_STARTING, 1, web=request))
    assert (await project.next())[0] == "egress_started"
    assert not await service.sender.drain(0.5)
    assert service.sender.tally.failed_attempts >= 1
    assert own.got.empty()
    await service.stop()


async def test_two_servers_share_an_outbox_in_redis(receivers: list[Receiver]) -> None:
    """Each event goes out once and in order, whichever server sends it; Redis may restart meanwhile."""
    receiver = receivers[0]
    settings = settings_for(receiver)
    async with RedisServer() as redis:
        stores = [RedisStore(RedisSettings(address=redis.address)) for _ in range(2)]
        webhooks = Webhooks(settings)
        senders = [WebhookSender(webhooks, store, settings.all_keys, retry_for_s=3600) for store in stores]
        services = [IOInfoService(store, sender) for store, sender in zip(stores, senders, strict=True)]
        for sender in senders:
            await sender.start()
        got: dict[str, list[str]] = {}
        for round_ in range(2):
            for n in range(20):
                for at, (record, _) in enumerate(LIFE):
                    copy = EgressInfo()
                    copy.CopyFrom(record)
                    copy.egress_id = f"EG_{round_}{n:02}"
                    await services[at % 2].update(copy)
            for _ in range(20 * len(LIFE)):
                event, body, _ = await receiver.next()
                got.setdefault(json.loads(body)["egressInfo"]["egressId"], []).append(event)
            await redis.restart()
        assert len(got) == 40
        assert all(events == [event for _, event in LIFE] for events in got.values())
        assert receiver.got.empty()
        for sender, store in zip(senders, stores, strict=True):
            await sender.close()
            await store.close()


async def test_after_hours_an_event_is_given_up(
    receivers: list[Receiver], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver = receivers[0]
    receiver.answer = lambda event: 500
    settings = settings_for(receiver)
    service = Service(tmp_path / "db", settings)
    service.sender = WebhookSender(Webhooks(settings), service.store, settings.all_keys, retry_for_s=0.2)
    service.records = IOInfoService(service.store, service.sender)
    await service.start()
    await service.records.update(LIFE[0][0])
    assert await service.sender.drain(10)
    assert service.sender.tally.given_up == 1
    assert service.sender.tally.failed_attempts > 1
    await service.stop()
    out, err = capsys.readouterr()
    assert "webhook given up" in out + err
    assert "hunter2" not in out + err


@pytest.mark.parametrize(("failures", "shortest", "longest"), [(1, 0.0, 0.1), (2, 0.05, 0.2), (90, 200, 400)])
def test_pauses_double_up_to_five_minutes(failures: int, shortest: float, longest: float) -> None:
    assert all(shortest <= pause_s(failures) <= longest for _ in range(100))


def receive_with_node(body: str, authorization: str) -> dict[str, object]:
    """What LiveKit's own Node receiver makes of a webhook; installs it on first use."""
    home = install(ROOT / "tools" / "webhook-receiver", "livekit-server-sdk")
    webhook = {"key": KEY, "secret": SECRET, "body": body, "authorization": authorization}
    done = subprocess.run(
        ["node", "receive.js"],
        cwd=home,
        input=json.dumps(webhook),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer
