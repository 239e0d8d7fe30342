"""Frames of a real room: complete, in order, exact and at the right time, whatever the network does."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from livekit.protocol.rtc import CandidateProtocol, SimulateScenario

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.units import MS
from openegress.room import EncodedFrame, Track, TrackSource
from openegress.room.connection import SessionOptions
from openegress.room.demux import Demux
from openegress.room.events import ConnectionLost, MediaArrived, Reconnected, TrackSubscribed
from openegress.room.rtp.packets import parse, unwrap_rtx
from openegress.room.transport.ice import TurnServer, turn_server
from openegress.room.transport.media import Transport
from testkit.certificates import make_certificate
from testkit.fault_proxy import copy
from testkit.livekit_server import TURN_DOMAIN, LivekitServer
from testkit.participants import AudioSpec, Codec, Publisher, SentPicture, VideoSpec, places
from testkit.room_listener import RoomListener

pytestmark = pytest.mark.quiet

VIDEO: list[Codec] = ["vp8", "h264", "vp9", "av1"]


@pytest.fixture
async def server() -> AsyncIterator[LivekitServer]:
    async with LivekitServer() as running:
        yield running


def units(data: bytes) -> list[bytes]:
    """NAL units, whatever start codes are between them; other codecs come back as one."""
    return [each for each in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if each]


def temporal_unit(data: bytes) -> bytes:
    return data.removeprefix(b"\x12\0")


def normal(data: bytes, codec: VideoCodec | AudioCodec) -> object:
    match codec:
        case VideoCodec.H264 | VideoCodec.H265:
            return units(data)
        case VideoCodec.AV1:
            return temporal_unit(data)
    return data


async def account(frames: Sequence[EncodedFrame], alice: Publisher) -> list[SentPicture]:
    """The picture of each frame; fails unless every one that was sent from the first to the last is there."""
    dropped, sent = await alice.dropped(), alice.sent["camera"]
    codec = frames[0].codec
    received, published = ([normal(each.data, codec) for each in some] for some in (frames, sent))
    return [sent[place] for place in places(received, published, dropped)]


def delays_ms(frames: Sequence[EncodedFrame], pictures: Sequence[SentPicture]) -> list[float]:
    """Capture time as received, less the picture's due time."""
    return [(f.at_ns - p.at_ns) / MS for f, p in zip(frames, pictures, strict=True)]


async def publish(listener: RoomListener) -> tuple[Track, Track]:
    camera = await listener.track(TrackSource.CAMERA)
    microphone = await listener.track(TrackSource.MICROPHONE)
    await listener.subscribe(camera, microphone)
    return camera, microphone


@pytest.mark.parametrize("codec", VIDEO)
async def test_every_picture_arrives_as_it_was_encoded(server: LivekitServer, codec: Codec) -> None:
    async with (
        Publisher(
            server, "r", "alice", VideoSpec(codec=codec, encoded=True), AudioSpec(red=codec == "vp8")
        ) as alice,
        RoomListener(server, "r") as listener,
    ):
        camera, microphone = await publish(listener)
        await listener.until(lambda: len(listener.of(camera)) > 120 and len(listener.of(microphone)) > 180)
        frames, sounds = list(listener.of(camera)), list(listener.of(microphone))
        pictures = await account(frames, alice)
        delays = delays_ms(frames, pictures)
        assert frames[0].is_key
        assert (frames[0].width, frames[0].height) == (640, 360)
        assert {each.codec for each in frames} == {VideoCodec(codec)}
        assert max(delays) - min(delays) < 60
        assert -50 < min(delays) < max(delays) < 150, (min(delays), max(delays))
        # Whether its packets are redundant or not, the sound is whole.
        steps = {b.rtp_timestamp - a.rtp_timestamp for a, b in pairwise(sounds)}
        assert steps == {960}
        subscribed = {each.track.sid: each.codec for each in listener.told(TrackSubscribed)}
        assert subscribed == {camera.sid: VideoCodec(codec), microphone.sid: AudioCodec.OPUS}
        assert {each.track.sid for each in listener.told(MediaArrived)} == {camera.sid, microphone.sid}


class Lossy(Transport):
    """Loses received media packets with a fixed chance, retransmissions too.

    LiveKit's server answers three times for a packet. One that is lost a fourth time is gone for good, which
    would happen in two of a hundred runs.
    """

    MAX_OFTEN = 3
    chance = 0.0

    def __init__(self, *, on_rtp: Callable[[bytes, int], None], **arguments: Any) -> None:
        super().__init__(on_rtp=self._decrypted, **arguments)
        self._deliver = on_rtp
        self._demux: Demux = on_rtp.__self__  # type: ignore[attr-defined]
        self._random = random.Random(4)
        self._losses: Counter[tuple[int, int]] = Counter()
        """By SSRC and sequence number."""

    @property
    def lost(self) -> int:
        return self._losses.total()

    def received(self, data: bytes, arrival_ns: int) -> None:
        """Before SRTP, which takes nothing twice: sound is sent again as it was."""
        is_media = 127 < data[0] < 192 and not 191 < data[1] < 224
        ssrc, sequence = int.from_bytes(data[8:12]), int.from_bytes(data[2:4])
        if not (is_media and ssrc not in self._demux._by_rtx and self._loses(ssrc, sequence)):
            super().received(data, arrival_ns)

    def _decrypted(self, data: bytes, arrival_ns: int) -> None:
        packet = parse(data)
        assert packet is not None
        receiver = self._demux._by_rtx.get(packet.ssrc)
        again = unwrap_rtx(packet) if receiver is not None else None
        if receiver is None or again is None or not self._loses(receiver.ssrc, again.sequence):
            self._deliver(data, arrival_ns)

    def _loses(self, ssrc: int, sequence: int) -> bool:
        which = (ssrc, sequence)
        is_lost = self._random.random() < self.chance and self._losses[which] < self.MAX_OFTEN
        self._losses[which] += is_lost
        return is_lost


class LossOf2(Lossy):
    chance = 0.02


class LossOf5(Lossy):
    chance = 0.05


@pytest.mark.parametrize(("codec", "transport"), [("vp8", LossOf5), ("h264", LossOf2)])
async def test_no_frame_is_lost_where_packets_are(
    server: LivekitServer, codec: Codec, transport: type[Lossy]
) -> None:
    spec = VideoSpec(codec=codec, encoded=True, busy=True, kbps=2500, width=1280, height=720)
    made: list[Lossy] = []

    def make(**arguments: Any) -> Lossy:
        made.append(transport(**arguments))
        return made[-1]

    async with (
        Publisher(server, "r", "alice", spec, AudioSpec()) as alice,
        RoomListener(server, "r", transport=make) as listener,
    ):
        camera, microphone = await publish(listener)
        await listener.until(
            lambda: len(listener.of(camera)) > 300 and len(listener.of(microphone)) > 450, 40
        )
        # Before the end, which does not wait for what is still being asked for.
        frames, sounds = list(listener.of(camera)), list(listener.of(microphone))
        assert made[0].lost > 20
        await account(frames, alice)
        assert {b.rtp_timestamp - a.rtp_timestamp for a, b in pairwise(sounds)} == {960}
        assert not any(each.after_gap for each in [*frames, *sounds])


class Switchable(Transport):
    """A path that can be cut: nothing gets in while `cut`."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cut = False

    def received(self, data: bytes, arrival_ns: int) -> None:
        if not self.cut:
            super().received(data, arrival_ns)


async def test_five_seconds_without_the_network_are_made_up_for(server: LivekitServer) -> None:
    """The server keeps more than 5 s of a track of this rate, and everything of it is asked for."""
    made: list[Switchable] = []

    def make(**arguments: Any) -> Switchable:
        made.append(Switchable(**arguments))
        return made[-1]

    async with (
        Publisher(server, "r", "alice", VideoSpec(encoded=True), AudioSpec()) as alice,
        RoomListener(server, "r", transport=make) as listener,
    ):
        camera, microphone = await publish(listener)
        await listener.until(lambda: len(listener.of(camera)) > 130)
        made[0].cut = True
        await asyncio.sleep(5)  # the length of the outage is the point
        made[0].cut = False
        known = len(listener.of(camera))
        await listener.until(lambda: len(listener.of(camera)) > known + 170)
        await listener.close()
        assert listener.told(ConnectionLost) == []
        frames = listener.of(camera)
        delays = delays_ms(frames, await account(frames, alice))
        assert max(delays) - min(delays) < 60
        sounds = listener.of(microphone)
        assert all(b.at_ns > a.at_ns for a, b in pairwise(sounds))


async def test_media_over_tcp(server: LivekitServer) -> None:
    async with (
        Publisher(server, "r", "alice", VideoSpec(encoded=True), AudioSpec()) as alice,
        RoomListener(server, "r", options=SessionOptions(udp=False)) as listener,
    ):
        assert listener.client.path.startswith("tcp host -> 127.0.0.1:")
        camera, _ = await publish(listener)
        await listener.until(lambda: len(listener.of(camera)) > 150)
        await listener.close()
        await account(listener.of(camera), alice)


async def test_media_over_a_relay_where_nothing_else_is_open() -> None:
    """The server's own TURN server, over UDP, after neither UDP nor TCP came up."""
    async with (
        LivekitServer(turn=True, tcp=False) as server,
        Publisher(server, "r", "alice", VideoSpec(encoded=True), AudioSpec()) as alice,
        RoomListener(server, "r", options=SessionOptions(udp=False)) as listener,
    ):
        assert listener.client.path.startswith("udp relay -> 127.0.0.1:")
        camera, microphone = await publish(listener)
        await listener.until(lambda: len(listener.of(camera)) > 150)
        await listener.close()
        assert not listener.told(ConnectionLost)
        await account(listener.of(camera), alice)
        # Until the first packet of a late publisher comes the server sends silence of its own.
        sounds = listener.of(microphone)[50:]
        assert {b.rtp_timestamp - a.rtp_timestamp for a, b in pairwise(sounds)} == {960}


@asynccontextmanager
async def tls_in_front_of(port: int, folder: Path) -> AsyncIterator[int]:
    """As a load balancer that ends TLS; gives its port."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(folder))
    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as front:
        yield front.sockets[0].getsockname()[1]


async def test_a_server_that_sends_the_recorder_to_its_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after UDP and TCP have failed somebody: it restarts ICE, and tells who joins again `force_relay`."""
    async with (
        LivekitServer(turn=True) as server,
        tls_in_front_of(server.turns_port, tmp_path) as front,
        Publisher(server, "r", "alice", VideoSpec(encoded=True), AudioSpec()) as alice,
        RoomListener(server, "r") as listener,
    ):
        told: list[TurnServer | None] = []

        def choose(urls: Sequence[tuple[Sequence[str], str, str]]) -> TurnServer | None:
            """The server names port 443 of its domain; here that is another address."""
            told.append(turn_server(urls))
            return replace(told[-1], host="localhost", port=front) if told[-1] else None

        monkeypatch.setattr("openegress.room.connection.turn_server", choose)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        camera, _ = await publish(listener)
        await listener.until(lambda: len(listener.of(camera)) > 100)
        assert listener.client.path.startswith("udp host ->")
        assert listener.client._membership.connection is not None
        await listener.client._membership.connection.send(
            simulate=SimulateScenario(switch_candidate_protocol=CandidateProtocol.TLS)
        )
        await listener.until(lambda: listener.told(Reconnected))
        assert listener.told(ConnectionLost) == [ConnectionLost("the server restarted ICE")]
        assert listener.client.path.startswith("udp relay -> 127.0.0.1:")
        assert told[-1] is not None
        assert (told[-1].host, told[-1].port, told[-1].tls) == (TURN_DOMAIN, 443, True)
        known = len(listener.of(camera))
        await listener.until(lambda: len(listener.of(camera)) > known + 100)
        await listener.close()
        await account(listener.of(camera)[known + 1 :], alice)
