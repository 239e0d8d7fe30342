"""Tracks recorded as they are, from a real livekit-server: every picture, every byte, in sync."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from openegress.core.codecs import Container, MediaKind
from openegress.core.passthrough import Passthrough
from openegress.core.plan import AudioRoute, FileOutput, MediaSource, Plan, TrackVideo
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.room.client import RoomClient
from openegress.room.transport.media import Transport
from openegress.source import Closed, SourceEvent
from openegress.source.room.open import open_source
from openegress.source.room.passthrough_source import RoomPacketSource
from testkit import probe
from testkit.collectors import FileSink
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec, places
from testkit.raw_publisher import RawPublisher, RawTrack

pytestmark = pytest.mark.quiet

EGRESS = "EG_test"


def plan_for(server: LivekitServer, **media: object) -> Plan:
    token = server.recorder_token("room", EGRESS)
    source = MediaSource("room", server.ws_url, token, **media)  # type: ignore[arg-type]
    output = FileOutput("out", None, StoragePlan(LocalStorage("/")))
    return Plan(EGRESS, source, (output,), None, None, passthrough=Passthrough.ALWAYS)


@dataclass(frozen=True)
class Recorded:
    path: Path
    sink: FileSink
    zero_ns: int
    names: dict[str, str]


def essence(codec: Codec, data: bytes) -> bytes:
    """An access unit less what RTP does not carry: the length of start codes, H.264's delimiters and
    messages (kept: slices and parameter sets), AV1's temporal delimiters."""
    match codec:
        case "h264":
            units = [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")]
            return b"\0\0\1".join(unit for unit in units if unit and unit[0] & 31 in (1, 5, 7, 8))
        case "av1":
            return data.removeprefix(b"\x12\0")
        case _:
            return data


async def open_packets(plan: Plan) -> RoomPacketSource:
    source = await open_source(plan)
    assert isinstance(source, RoomPacketSource)
    return source


async def record(plan: Plan, path: Path, container: Container, seconds: float) -> Recorded:
    source = await open_packets(plan)
    try:
        await source.prepare()
        sink = FileSink(path, container, list(source.formats()))
        zero_ns = await source.start(sink)
        names = source.name_values()
        await asyncio.sleep(seconds)
    finally:
        await source.stop()
        await source.close()
    sink.close()
    return Recorded(path, sink, zero_ns, names)


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("h264", Container.MP4),
        ("vp8", Container.WEBM),
        ("vp9", Container.WEBM),
        ("av1", Container.MP4),
    ],
)
async def test_every_picture_and_byte(tmp_path: Path, codec: Codec, container: Container) -> None:
    path = tmp_path / f"out.{container.value}"
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec(codec, encoded=True), AudioSpec()) as alice,
    ):
        plan = plan_for(
            server,
            video=TrackVideo(alice.sid("camera")),
            audio=(AudioRoute("track", alice.sid("microphone")),),
        )
        recorded = await record(plan, path, container, 6)
        dropped, sent = await alice.dropped(), alice.sent["camera"]

    pictures = [packet for packet in recorded.sink.packets if packet.kind is MediaKind.VIDEO]
    payloads = [essence(codec, packet.data) for packet in pictures]
    published = [essence(codec, picture.data) for picture in sent]
    sources = [sent[place] for place in places(payloads, published, dropped)]
    numbers = [picture.counter for picture in sources]
    assert len(numbers) > 150

    read = probe.counters(path)
    assert read.values == numbers
    facts = probe.probe(path)
    assert facts.video is not None and facts.video.rising
    # The publisher may be late itself, or leave a picture out.
    sent_gap_s = max(after.at_ns - before.at_ns for before, after in pairwise(sources)) / S
    assert facts.video.longest_gap_s < sent_gap_s + 0.06
    assert facts.audio is not None and facts.audio.contiguous
    offsets = [offset for _, offset in probe.av_offset(path).samples]
    assert abs(median(offsets)) < 40
    # A publisher on a busy machine may be late with a beep now and then; being out of step is another thing.
    assert sum(abs(offset) < 40 for offset in offsets) >= 0.8 * len(offsets)
    assert probe.has_tone(probe.tones(path), 300)

    # Media time zero is true: several recordings can be laid side by side.
    for packet, picture in zip(pictures, sources, strict=True):
        assert abs(recorded.zero_ns + packet.pts_ns - picture.at_ns) < 60_000_000
    assert recorded.names == {"publisher_identity": "alice"}


@pytest.mark.parametrize("b_frames", [1, 3])
async def test_pictures_that_are_sent_out_of_order_are_shown_in_order(tmp_path: Path, b_frames: int) -> None:
    path = tmp_path / "out.mp4"
    camera = RawTrack("h264", b_frames=b_frames)
    async with LivekitServer() as server, RawPublisher(server, "room", "obs", camera) as obs:
        plan = plan_for(server, video=TrackVideo(obs.sid("camera")))
        recorded = await record(plan, path, Container.MP4, 5)
        sent = list(obs.sent["camera"])
    packets = recorded.sink.packets
    first = [essence("h264", each.data) for each in sent].index(essence("h264", packets[0].data))
    sources = sent[first : first + len(packets)]
    assert [essence("h264", each.data) for each in packets] == [
        essence("h264", each.data) for each in sources
    ]
    assert any(after.counter < before.counter for before, after in pairwise(sources)), "it reorders"
    assert all(packet.dts <= packet.pts for packet in packets)
    assert all(before.dts < after.dts for before, after in pairwise(packets))
    # As far apart as they were captured, in the order in which they are shown, once arrivals have told where.
    late_ns = [packet.pts_ns - source.at_ns for packet, source in zip(packets, sources, strict=True)][30:]
    assert max(late_ns) - min(late_ns) < 5_000_000
    read = probe.counters(path)
    assert read.in_order and len(read.values) == len(packets) > 100


async def test_a_track_comes_at_once_and_at_its_time(tmp_path: Path) -> None:
    """No sender report is waited for: the first comes after three seconds."""
    path = tmp_path / "out.webm"
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec("vp8", encoded=True)) as alice,
    ):
        source = await open_packets(plan_for(server, single_track_id=alice.sid("camera")))
        try:
            await source.prepare()
            sink = FileSink(path, Container.WEBM, list(source.formats()))
            zero_ns = await source.start(sink)
            began_s = time.monotonic()
            async with asyncio.timeout(10):
                while not sink.packets:
                    await sink.written()
                waited_s = time.monotonic() - began_s
                while len(sink.packets) < 60:
                    await sink.written()
        finally:
            await source.stop()
            await source.close()
        sink.close()
        sent = {picture.data: picture.at_ns for picture in alice.sent["camera"]}
    assert waited_s < 1
    for packet in sink.packets:
        assert abs(zero_ns + packet.pts_ns - sent[packet.data]) < 60_000_000


async def test_muted_microphone_becomes_silence(tmp_path: Path) -> None:
    path = tmp_path / "out.ogg"
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", audio=AudioSpec(tone_hz=440, level=0.3)) as alice,
    ):
        source = await open_packets(plan_for(server, single_track_id=alice.sid("microphone")))
        try:
            await source.prepare()
            names = source.name_values()
            sink = FileSink(path, Container.OGG, list(source.formats()))
            await source.start(sink)
            begun_s = time.monotonic()
            await asyncio.sleep(4)
            alice.mute("microphone")
            await asyncio.sleep(2)
            alice.unmute("microphone")
            await asyncio.sleep(2)
            alice.mute("microphone")
            await asyncio.sleep(1)
            lasted_s = time.monotonic() - begun_s
        finally:
            await source.stop()
            await source.close()
        sink.close()
        sid = alice.sid("microphone")

    assert names == {
        "track_id": sid,
        "track_type": "audio",
        "track_source": "microphone",
        "publisher_identity": "alice",
    }
    facts = probe.probe(path)
    assert facts.audio is not None and facts.audio.contiguous and facts.audio.codec == "opus"
    assert facts.audio.duration_s == pytest.approx(lasted_s, abs=0.5)
    assert [probe.rms(path, at, at + 1) > 0.05 for at in (2, 4.8, 6.7, 8.3)] == [True, False, True, False]


async def test_ends_with_its_track(tmp_path: Path) -> None:
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec("vp8", encoded=True), AudioSpec()) as alice,
    ):
        source = await open_packets(plan_for(server, single_track_id=alice.sid("camera")))
        try:
            await source.prepare()
            sink = FileSink(tmp_path / "out.webm", Container.WEBM, list(source.formats()))
            await source.start(sink)
            await asyncio.sleep(1)
            dropped = await alice.dropped()
            await alice.unpublish("camera")
            assert await next_end(source) == Closed()
        finally:
            await source.stop()
            await source.close()
        sink.close()
        published = [picture.data for picture in alice.sent["camera"]]
    payloads = [packet.data for packet in sink.packets]
    # What was held for a sender report is not lost.
    assert len(published) - 1 - places(payloads, published, dropped)[-1] <= 3


class Switchable(Transport):
    """A path that can be cut: nothing gets in while `cut`."""

    cut = False

    def received(self, data: bytes, arrival_ns: int) -> None:
        if not self.cut:
            super().received(data, arrival_ns)


@dataclass(frozen=True)
class Joined:
    server: LivekitServer
    client: RoomClient
    paths: list[Switchable]


async def kill_the_server(joined: Joined) -> None:
    await joined.server.kill()
    await joined.server.restart()


async def cut_the_path_for_five_seconds(joined: Joined) -> None:
    joined.paths[-1].cut = True
    await asyncio.sleep(5)  # the length of the outage is the point
    joined.paths[-1].cut = False


async def cut_the_websocket(joined: Joined) -> None:
    assert joined.client._membership.connection is not None
    socket = joined.client._membership.connection._signalling._socket
    assert socket is not None
    socket.transport.abort()


@pytest.mark.parametrize("break_it", [kill_the_server, cut_the_path_for_five_seconds, cut_the_websocket])
async def test_what_breaks_the_connection_makes_no_second_file(
    break_it: Callable[[Joined], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Switchable] = []
    clients: list[RoomClient] = []

    def make_transport(**arguments: Any) -> Switchable:
        paths.append(Switchable(**arguments))
        return paths[-1]

    def make_client(*arguments: Any, **named: Any) -> RoomClient:
        clients.append(RoomClient(*arguments, make_transport=make_transport, **named))
        return clients[-1]

    monkeypatch.setattr("openegress.source.room.open.RoomClient", make_client)
    path = tmp_path / "out.webm"
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec("vp8", encoded=True), AudioSpec()) as alice,
    ):
        plan = plan_for(
            server,
            video=TrackVideo(alice.sid("camera")),
            audio=(AudioRoute("track", alice.sid("microphone")),),
        )
        source = await open_packets(plan)
        try:
            await source.prepare()
            sink = FileSink(path, Container.WEBM, list(source.formats()))
            zero_ns = await source.start(sink)
            await asyncio.sleep(4)
            await break_it(Joined(server, clients[0], paths))
            mended_s = (time.time_ns() - zero_ns) / S
            async with asyncio.timeout(60):
                while sink.count_after(mended_s, MediaKind.VIDEO) < 150:
                    await sink.written()
        finally:
            await source.stop()
            await source.close()
        sink.close()
        sent = alice.sent_ns()
        # A server that is killed takes WebRTC's account with it.
        dropped = await alice.dropped() if break_it is cut_the_path_for_five_seconds else 0
    facts = probe.probe(path)
    assert facts.video is not None and facts.video.rising
    assert facts.audio is not None and facts.audio.contiguous
    read = probe.counters(path)
    assert read.in_order and read.unreadable == 0
    if break_it is cut_the_path_for_five_seconds:
        missing = read.missing_of(sent)
        assert len(missing) <= dropped, f"{missing}: the server keeps that much, and all of it is asked for"
    for at_s, counter in read.read[::15]:
        assert counter is not None
        assert abs(zero_ns + at_s * S - sent[counter]) < 80_000_000
    # Not the first: sound may come back in the middle of a beep, which then seems to begin late.
    after = probe.av_offset(path).samples[-3:]
    assert all(at_s > mended_s for at_s, _ in after)
    assert abs(median(offset for _, offset in after)) < 40


async def next_end(source: RoomPacketSource) -> SourceEvent:
    async with asyncio.timeout(10):
        async for event in source.events():
            if isinstance(event, Closed):
                return event
    raise AssertionError("no event said that the source ended")
