"""Outputs fed with raw frames: JPEG images, sound over a websocket; and manifests of all outputs together."""

import asyncio
import contextlib
import io
import json
import re
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
from aiohttp import WSMsgType, web

from openegress.core import plan, storages
from openegress.core.backoff import Backoff
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.events import (
    AnyEvent,
    BackupUsed,
    ImagesUpdate,
    ManifestStored,
    StreamStatus,
    StreamUpdate,
    Thumbnail,
)
from openegress.core.units import S
from openegress.handler import thumbnails
from openegress.handler.thumbnails import Thumbnails
from openegress.media import FrameSink
from openegress.output import Opening
from openegress.output.build import build_output
from openegress.output.images import pictures, recorder
from openegress.output.images.recorder import ImageRecorder
from openegress.output.images.recover import Taken, store_left_images
from openegress.output.live.reconnect import ReconnectPolicy
from openegress.output.live.websocket import WebsocketSender
from openegress.output.manifest import Header
from openegress.output.manifest_store import store_manifests
from openegress.request import stream_urls
from openegress.storage.uploader import Stored, Uploader
from testkit.encoded import Encoded, Spec
from testkit.local_app import serving
from testkit.pattern import Picture, PictureSpec, read_counter

STARTED_NS = 1_700_000_000 * S


@pytest.fixture
def storage(tmp_path: Path) -> storages.StoragePlan:
    (tmp_path / "stored").mkdir()
    return storages.StoragePlan(storages.LocalStorage(str(tmp_path / "stored")), retry_for_s=0)


def opening(tmp_path: Path, encoded: Encoded | None = None) -> Opening:
    return Opening(encoded.formats if encoded else (), STARTED_NS, str(tmp_path / "spool"), {})


def show(output: FrameSink, seconds: float, colour: tuple[int, int, int] = (200, 40, 40)) -> None:
    picture = Picture(PictureSpec(640, 360, 10, colour))
    for n in range(round(seconds * 10)):
        planes = np.frombuffer(picture.draw(n), np.uint8).reshape(540, 640)
        output.video(av.VideoFrame.from_ndarray(planes, "yuv420p"), n * S // 10)


@pytest.mark.parametrize(
    ("suffix", "names"),
    [
        ("index", ["shot_00000.jpeg", "shot_00001.jpeg", "shot_00002.jpeg"]),
        (
            "timestamp",
            ["shot_20231114221320000.jpeg", "shot_20231114221322000.jpeg", "shot_20231114221324000.jpeg"],
        ),
        ("none", ["shot.jpeg"]),
    ],
)
async def test_images_are_taken_at_each_interval(
    tmp_path: Path, storage: storages.StoragePlan, suffix: str, names: list[str]
) -> None:
    events: list[AnyEvent] = []
    wanted = plan.ImageOutput("i/", "shot", 2, 0, 0, suffix, storage)  # type: ignore[arg-type]
    output = ImageRecorder(wanted, 0, emit=events.append, uploader=Uploader(storage))
    output.open(opening(tmp_path))
    show(output, 5.5)
    await output.finish(STARTED_NS + 6 * S)
    files = sorted((tmp_path / "stored/i").iterdir())
    assert [p.name for p in files] == names
    with av.open(str(files[-1])) as image:
        frame = next(image.decode(video=0))
    assert (frame.width, frame.height) == (640, 360)
    assert read_counter(frame.to_ndarray(format="gray").astype(np.uint8)) == 40
    red, green, blue = frame.to_ndarray(format="rgb24")[300, 20].tolist()
    assert (red, green, blue) == pytest.approx((200, 40, 40), abs=6)
    update = [e for e in events if isinstance(e, ImagesUpdate)][-1]
    assert (update.image_count, update.filename_prefix) == (3, "i/shot")
    assert [r.filename for r in output.records().images] == [f"i/{name}" for name in names]


async def test_images_are_scaled(tmp_path: Path, storage: storages.StoragePlan) -> None:
    wanted = plan.ImageOutput("", "s", 1, 160, 90, "index", storage)
    output = ImageRecorder(wanted, 0, emit=lambda _: None, uploader=Uploader(storage))
    output.open(opening(tmp_path))
    show(output, 0.3)
    await output.finish(STARTED_NS)
    with av.open(str(tmp_path / "stored/s_00000.jpeg")) as image:
        assert (image.streams.video[0].width, image.streams.video[0].height) == (160, 90)


@pytest.mark.parametrize("stuck", ["the disk", "an upload that reads from it"])
async def test_a_dead_disk_does_not_hold_up_the_end_and_its_images_wait_there(
    tmp_path: Path, storage: storages.StoragePlan, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    events: list[AnyEvent] = []
    uploader = Uploader(storage)
    wanted = plan.ImageOutput("", "s", 1, 0, 0, "index", storage)
    output = ImageRecorder(wanted, 0, emit=events.append, uploader=uploader)
    output.open(opening(tmp_path))
    dead = threading.Event()
    note = pictures.note_taken  # type: ignore[attr-defined]

    def hang(folder: Path, taken: Taken) -> None:
        if not taken.local.startswith("00000"):
            dead.wait()
        note(folder, taken)

    async def read_for_ever(*_: object, **__: object) -> Stored:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(pictures, "note_taken", hang)
    monkeypatch.setattr(recorder, "CLOSE_TIMEOUT_S", 0.3)
    if stuck != "the disk":
        monkeypatch.setattr(uploader, "put", read_for_ever)
    show(output, 2.5)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(EgressError, match="image output s: the disk of the recordings") as caught:
                await output.finish(STARTED_NS + 3 * S)
        told = [event for event in events if isinstance(event, ImagesUpdate)]
        assert not any(event.ended_at_ns for event in told), "the journal is on that disk"
    finally:
        dead.set()
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert not output.is_settled()
    assert (tmp_path / "spool/images-0/00001.jpeg").exists()


async def test_images_that_went_to_the_backup_are_found_there(tmp_path: Path) -> None:
    """By a recovery that finds the storage back, and the images gone from the spool."""
    primary = tmp_path / "primary"
    primary.write_text("no folder")
    storage = storages.StoragePlan(
        storages.LocalStorage(str(primary)),
        backup=storages.LocalStorage(str(tmp_path / "backup")),
        retry_for_s=0,
    )
    events: list[AnyEvent] = []
    wanted = plan.ImageOutput("i/", "s", 1, 0, 0, "index", storage)
    output = ImageRecorder(wanted, 0, emit=events.append, uploader=Uploader(storage))
    output.open(opening(tmp_path))
    show(output, 2.5)
    await output.finish(STARTED_NS + 3 * S)
    assert any(isinstance(event, BackupUsed) for event in events)
    primary.unlink()
    told = next(event for event in events if isinstance(event, ImagesUpdate))
    _, records, backup_used = await store_left_images(tmp_path / "spool/images-0", told, Uploader(storage))
    assert backup_used
    assert [image.location for image in records.images] == [
        str(tmp_path / f"backup/i/s_{n:05d}.jpeg") for n in range(3)
    ]
    assert all(Path(image.location).is_file() for image in records.images)


async def test_thumbnails_are_small_and_rare() -> None:
    sent: list[Thumbnail] = []
    show(Thumbnails(sent.append), 20.5)
    assert len(sent) == 3
    for thumbnail in sent:
        assert len(thumbnail.jpeg) < 30_000
        with av.open(io.BytesIO(thumbnail.jpeg)) as image:
            assert (image.streams.video[0].width, image.streams.video[0].height) == (480, 270)


async def test_a_thumbnail_that_fails_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(picture: av.VideoFrame, quality: int) -> bytes:
        raise av.FFmpegError(12, "no memory")

    monkeypatch.setattr(thumbnails, "jpeg", fail)
    sent: list[Thumbnail] = []
    show(Thumbnails(sent.append), 1)
    assert sent == []
    assert "no thumbnail" in caplog.text


@dataclass
class Receiver:
    """A websocket server that keeps what it gets, each connection apart."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """As they stood in the request line."""
    connections: list[list[bytes | str]] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    refuse: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuse:
            return web.Response(status=self.refuse)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.headers.append(dict(request.headers))
        self.paths.append(request.raw_path)
        got: list[bytes | str] = []
        self.connections.append(got)
        self.sockets.append(socket)
        self.arrived.set()
        async for message in socket:
            if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                got.append(message.data)
                self.arrived.set()
        return socket

    def sound(self, connection: int) -> bytes:
        return b"".join(m for m in self.connections[connection] if isinstance(m, bytes))

    def texts(self, connection: int) -> list[object]:
        return [json.loads(m) for m in self.connections[connection] if isinstance(m, str)]

    async def until_connections(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.connections) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def until_bytes(self, count: int) -> None:
        async with asyncio.timeout(10):
            while sum(len(self.sound(n)) for n in range(len(self.connections))) < count:
                self.arrived.clear()
                await self.arrived.wait()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_get("/sink{more:.*}", receiver.handle)
    async with serving(app) as port:
        receiver.url = f"ws://127.0.0.1:{port}/sink"
        yield receiver


def tone(block: int, rate: int = 48_000) -> bytes:
    """10 ms, left 1 kHz, right silent."""
    at = (np.arange(rate // 100) + block * rate // 100) / rate
    left = (np.sin(2 * np.pi * 1000 * at) * 10_000).astype("<i2")
    return np.stack([left, np.zeros_like(left)], axis=1).tobytes()


async def test_sound_arrives_as_it_was(tmp_path: Path, receiver: Receiver) -> None:
    events: list[AnyEvent] = []
    output = WebsocketSender(plan.WebsocketOutput(receiver.url, "ws://***"), 0, emit=events.append)
    output.open(opening(tmp_path))
    await receiver.until_connections(1)
    sent = b""
    for n in range(100):
        sent += tone(n)
        output.audio(tone(n), n * S // 100, 48_000)
        if n == 49:
            output.set_muted(True, S // 2)
    await output.finish(STARTED_NS + S)
    assert receiver.sound(0) == sent
    assert receiver.texts(0) == [{"muted": True}]
    at = receiver.connections[0].index('{"muted": true}')
    assert sum(len(m) for m in receiver.connections[0][:at]) == len(sent) // 2
    assert receiver.headers[0]["Content-Type"] == "audio/x-raw"
    last = [e for e in events if isinstance(e, StreamUpdate)][-1]
    assert (last.status, last.url, last.duration_ns, last.error) == (
        StreamStatus.FINISHED,
        "ws://***",
        S,
        "",
    )


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("?sig=a%2Fb%2Bc%3D&x=a+b&y=%7E~", "?sig=a%2Fb%2Bc%3D&x=a+b&y=%7E~"),
        ("/a%2Fb/%E4%BC%9A", "/a%2Fb/%E4%BC%9A"),
        ("/会?q=ü", "/%E4%BC%9A?q=%C3%BC"),
    ],
)
async def test_receivers_see_their_urls_as_they_were_given(
    tmp_path: Path, receiver: Receiver, path: str, seen: str
) -> None:
    wanted = stream_urls.websocket(f"{receiver.url}{path}")
    output = WebsocketSender(wanted, 0, emit=lambda _: None)
    output.open(opening(tmp_path))
    await receiver.until_connections(1)
    await output.finish(STARTED_NS)
    assert receiver.paths == [f"/sink{seen}"]


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1)])
async def test_sound_is_resampled_as_asked(
    tmp_path: Path, receiver: Receiver, rate: int, channels: int
) -> None:
    wanted = plan.WebsocketOutput(receiver.url, "ws://***", rate, channels)
    output = WebsocketSender(wanted, 0, emit=lambda _: None)
    output.open(opening(tmp_path))
    for n in range(100):
        output.audio(tone(n), n * S // 100, 48_000)
    await output.finish(STARTED_NS)
    samples = np.frombuffer(receiver.sound(0), "<i2").reshape(-1, channels)
    assert len(samples) == pytest.approx(rate, abs=rate // 200)
    spectrum = np.abs(np.fft.rfft(samples[:, 0]))
    assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(1000, abs=5)


async def test_a_receiver_that_goes_and_returns_misses_nothing_that_was_buffered(
    tmp_path: Path, receiver: Receiver
) -> None:
    events: list[AnyEvent] = []
    policy = ReconnectPolicy(stable_s=0.0, backoff=Backoff(first_s=0.2, ceiling_s=8.0, least=1.0))
    output = WebsocketSender(
        plan.WebsocketOutput(receiver.url, "ws://***"), 0, emit=events.append, policy=policy
    )
    output.open(opening(tmp_path))
    block = len(tone(0))
    for n in range(50):
        output.audio(tone(n), n * S // 100, 48_000)
    await receiver.until_bytes(50 * block)
    await receiver.sockets[0].close()
    for n in range(50, 100):
        output.audio(tone(n), n * S // 100, 48_000)
    await receiver.until_connections(2)
    await receiver.until_bytes(100 * block)
    await output.finish(STARTED_NS)
    assert receiver.sound(0) + receiver.sound(1) == b"".join(tone(n) for n in range(100))
    last = [e for e in events if isinstance(e, StreamUpdate)][-1]
    assert (last.status, last.retries) == (StreamStatus.FINISHED, 1)


async def test_a_receiver_that_takes_no_more_is_left_and_what_it_missed_is_said(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openegress.output.live.websocket.FINISH_S", 0.5)
    events: list[AnyEvent] = []
    output = WebsocketSender(plan.WebsocketOutput(receiver.url, "ws://***"), 0, emit=events.append)
    output.open(opening(tmp_path))
    await receiver.until_connections(1)
    transport = receiver.sockets[0]._req.transport  # type: ignore[union-attr]
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    for n in range(2900):  # more than kernels keep, less than the output does
        output.audio(tone(n), n * S // 100, 48_000)
    async with asyncio.timeout(10):
        await output.finish(STARTED_NS)
    last = [e for e in events if isinstance(e, StreamUpdate)][-1]
    said = re.fullmatch(
        r"ws://\*\*\*: the receiver had not taken the last (\d+) ms 0.5 s after the end", last.error
    )
    assert said is not None, last.error
    assert last.status is StreamStatus.FINISHED
    assert int(said[1]) == 29_000 - last.duration_ns // 1_000_000 > 0


async def test_a_receiver_that_refuses_is_reported_at_once_without_the_url(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.refuse = 403
    events: list[AnyEvent] = []
    output = WebsocketSender(
        plan.WebsocketOutput(receiver.url + "?token=s3cret", "ws://***"), 0, emit=events.append
    )
    output.open(opening(tmp_path))
    with pytest.raises(EgressError, match="HTTP 403"):
        await output.finish(STARTED_NS)
    assert not any("s3cret" in repr(e) for e in events)


async def test_all_outputs_of_a_plan_from_one_encode_and_one_manifest(
    tmp_path: Path, storage: storages.StoragePlan
) -> None:
    outputs: list[plan.Output] = [
        plan.FileOutput("r/x.mp4", Container.MP4, storage),
        plan.SegmentOutput("r/hls/", "s", "p.m3u8", "", 2, Container.TS, False, storage),
        plan.ImageOutput("r/", "i", 2, 0, 0, "index", storage),
        plan.StreamOutput("rtmp", ()),
    ]
    events: list[AnyEvent] = []
    built = [build_output(output, n, emit=events.append) for n, output in enumerate(outputs)]
    encoded = Encoded(Spec(seconds=4.0))
    start = opening(tmp_path, encoded)
    assert [(each.packets is None, each.frames is None) for each in built] == [
        (False, True),
        (False, True),
        (True, False),
        (False, True),
    ]
    await asyncio.gather(*(asyncio.to_thread(each.output.open, start) for each in built))
    for packet in encoded.packets():
        for each in built:
            if each.packets is not None:
                each.packets.write(packet)
    for each in built:
        if each.frames is not None:
            show(each.frames, 3.0)
    ended_at_ns = time.time_ns()
    await asyncio.gather(*(each.output.finish(ended_at_ns) for each in built))
    await store_manifests(
        Header("EG_1", started_at_ns=STARTED_NS),
        [(output, each.output.records()) for output, each in zip(outputs, built, strict=True)],
        start.spool,
        start.name_values,
        emit=events.append,
    )
    manifest = json.loads((tmp_path / "stored/r/EG_1.json").read_text())
    assert (tmp_path / "stored/r/hls/EG_1.json").read_text() == (tmp_path / "stored/r/EG_1.json").read_text()
    assert [f["filename"] for f in manifest["files"]] == ["r/x.mp4"]
    assert [s["filename"] for s in manifest["playlists"][0]["segments"]] == [
        "r/hls/s_00000.ts",
        "r/hls/s_00001.ts",
    ]
    assert [i["filename"] for i in manifest["images"]] == ["r/i_00000.jpeg", "r/i_00001.jpeg"]
    assert [e for e in events if isinstance(e, ManifestStored)] == [
        ManifestStored(str(tmp_path / "stored/r/EG_1.json"))
    ]
    left = {path.suffix for path in (tmp_path / "spool").rglob("*") if path.is_file()}
    assert left == {".m3u8", ".jsonl"}


@pytest.mark.parametrize("redirects", [False, True])
async def test_a_receiver_in_a_denied_network(tmp_path: Path, redirects: bool) -> None:
    """Nobody there is asked, also when a receiver that may be asked sends us there."""
    asked: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://127.0.0.2:{port}/secret")

    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for host, handle in (("127.0.0.2", inside), ("127.0.0.1", away)):
            app = web.Application()
            app.router.add_get("/{path:.*}", handle)
            ports.append(await stack.enter_async_context(serving(app, host)))
        port, way = ports
        url = f"ws://127.0.0.1:{way}/" if redirects else f"ws://127.0.0.2:{port}/"
        events: list[AnyEvent] = []
        wanted = plan.WebsocketOutput(url, "ws://***", deny_networks=("127.0.0.2/32",))
        output = WebsocketSender(wanted, 0, emit=events.append)
        output.open(opening(tmp_path))
        for n in range(100):
            output.audio(tone(n), n * S // 100, 48_000)
        with contextlib.suppress(EgressError):
            await output.finish(STARTED_NS)
        assert asked == []
        last = [e for e in events if isinstance(e, StreamUpdate)][-1]
        assert "deny_networks" in last.error
