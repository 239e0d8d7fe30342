"""What happens to rooms while they are recorded: lost connections, servers, tracks and people."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from livekit.api import DeleteRoomRequest, ListParticipantsRequest, RoomParticipantIdentity

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.errors import Code, EgressError, Phase
from openegress.core.tokens import recorder_token
from openegress.core.units import MS, S
from openegress.room import Track, TrackSource, VideoQuality
from openegress.room.client import RoomClient
from openegress.room.connection import SessionOptions
from openegress.room.events import (
    ConnectionLost,
    EndKind,
    ParticipantJoined,
    ParticipantLeft,
    Reconnected,
    RoomClosed,
    TrackMuted,
    TrackPublished,
    TrackUnpublished,
)
from openegress.room.transport.media import Transport
from testkit.livekit_server import LivekitServer, free_port
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.room_listener import RoomListener
from testkit.udp_relay import RELAY_ADDRESS, Leg, UdpRelay


@pytest.fixture
async def server() -> AsyncIterator[LivekitServer]:
    async with LivekitServer() as running:
        yield running


async def media(listener: RoomListener) -> tuple[Track, Track]:
    camera = await listener.track(TrackSource.CAMERA)
    microphone = await listener.track(TrackSource.MICROPHONE)
    await listener.subscribe(camera, microphone)
    await listener.until(lambda: len(listener.of(camera)) > 60 and len(listener.of(microphone)) > 60)
    return camera, microphone


def offset_ms(listener: RoomListener, alice: Publisher, since_ns: int, until_ns: int) -> float:
    """The mean difference of capture time and due time of the pictures in between."""
    due = {each.data: each.at_ns for each in alice.sent["camera"]}
    offsets = [
        (frame.at_ns - due[frame.data]) / MS
        for frame in listener.every(VideoCodec.VP8)
        if since_ns <= frame.at_ns < until_ns and frame.data in due
    ]
    assert len(offsets) > 20
    return sum(offsets) / len(offsets)


@pytest.mark.quiet
async def test_who_publishes_while_the_media_path_comes_up_is_kept(server: LivekitServer) -> None:
    arrived = asyncio.Event()

    class Waits(Transport):
        """Its path comes up when somebody else has published."""

        async def connect(self, *arguments: Any, **options: Any) -> None:
            await arrived.wait()
            await super().connect(*arguments, **options)

    client = RoomClient(
        server.ws_url,
        recorder_token(server.api_key, server.api_secret, "r", "EG_late"),
        "EG_late",
        make_transport=Waits,
    )
    async with Publisher(server, "r", "zoe", None, AudioSpec()) as zoe:
        await client.join()
        await in_the_room(server, "EG_late")
        async with Publisher(server, "r", "ann", None, AudioSpec()) as ann:
            arrived.set()
            await client.connected()
            assert [track.sid for track in client.tracks()] == [zoe.sid("microphone"), ann.sid("microphone")]
            assert not client._roster.waiting, "somebody who is there would count as gone after a while"
            await client.close()


async def in_the_room(server: LivekitServer, identity: str) -> None:
    """Returns when the server has taken somebody in."""
    async with asyncio.timeout(10):
        while True:
            listed = await server.room_service().list_participants(ListParticipantsRequest(room="r"))
            if any(each.identity == identity for each in listed.participants):
                return
            await asyncio.sleep(0.05)


@pytest.mark.quiet
async def test_a_nat_that_forgot_the_recorder_costs_seconds() -> None:
    """The server sees it at another address from then on, and has to be told to send there."""
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as server,
        UdpRelay(server.udp_port) as relay,
        Publisher(server, "r", "alice", None, AudioSpec()),
    ):
        relay.joining = Leg.RECORDER
        async with RoomListener(server, "r") as listener:
            microphone = await listener.track(TrackSource.MICROPHONE)
            await listener.subscribe(microphone)
            await listener.until(lambda: len(listener.of(microphone)) > 60)
            await relay.change_address(Leg.RECORDER)
            # Sound of two seconds that comes by then has come at the new address.
            known = len(listener.of(microphone))
            await listener.until(lambda: len(listener.of(microphone)) > known + 100, timeout_s=6)
            assert not listener.told(ConnectionLost)


@pytest.mark.quiet
async def test_a_cut_websocket_costs_little(server: LivekitServer) -> None:
    async with (
        Publisher(server, "r", "alice", VideoSpec(encoded=True), AudioSpec()) as alice,
        RoomListener(server, "r") as listener,
    ):
        camera, _ = await media(listener)
        cut_at_ns = listener.of(camera)[-1].at_ns
        assert listener.client._membership.connection is not None
        socket = listener.client._membership.connection._signalling._socket
        assert socket is not None
        socket.transport.abort()
        await listener.until(lambda: listener.told(Reconnected))
        known = len(listener.of(camera))
        await listener.until(lambda: len(listener.of(camera)) > known + 90)
        await listener.close()
        (lost,) = listener.told(ConnectionLost)
        assert "signalling" in lost.reason
        assert listener.told(Reconnected)[0].after_s < 3
        frames = listener.of(camera)
        first = next(each for each in frames if each.after_gap)
        assert first.is_key
        assert first.at_ns - cut_at_ns < 4 * S
        assert all(b.at_ns > a.at_ns for a, b in pairwise(frames))
        before = offset_ms(listener, alice, 0, cut_at_ns)
        after = offset_ms(listener, alice, first.at_ns, 1 << 62)
        assert abs(before - after) < 40, (before, after)
        assert listener.told(TrackUnpublished) == []
        assert listener.told(ParticipantLeft) == []


@pytest.mark.quiet
async def test_a_killed_server_comes_back(server: LivekitServer) -> None:
    async with (
        Publisher(server, "r", "alice", VideoSpec(encoded=True), AudioSpec()) as alice,
        RoomListener(server, "r") as listener,
    ):
        camera, _ = await media(listener)
        killed_at_ns = listener.of(camera)[-1].at_ns
        await server.kill()
        await listener.until(lambda: listener.told(ConnectionLost))
        # The publisher's SDK hangs when its second try meets a server that is just starting.
        await asyncio.sleep(0.5)
        await server.restart()
        await listener.until(lambda: listener.told(Reconnected), 30)

        def returned() -> list[Track]:
            published = [each.track for each in listener.told(TrackPublished)]
            return [each for each in published if each.key == camera.key and each.sid != camera.sid]

        # A publisher may need more than one try itself; nothing is subscribed to here.
        await listener.until(lambda: any(len(listener.of(each)) > 60 for each in returned()), 50)
        await listener.close()
        frames = next(listener.of(each) for each in returned() if len(listener.of(each)) > 60)
        assert frames[0].is_key
        assert frames[0].at_ns > killed_at_ns
        before = offset_ms(listener, alice, 0, killed_at_ns)
        after = offset_ms(listener, alice, frames[0].at_ns, 1 << 62)
        assert abs(before - after) < 40, (before, after)
        assert listener.told(RoomClosed) == []


class Switchable(Transport):
    cut = False

    def received(self, data: bytes, arrival_ns: int) -> None:
        if not self.cut:
            super().received(data, arrival_ns)

    @property
    def datagrams(self) -> int:
        return 0 if self.cut else super().datagrams


async def test_a_media_path_that_stays_away_is_replaced(server: LivekitServer) -> None:
    made: list[Switchable] = []

    def make(**arguments: Any) -> Switchable:
        made.append(Switchable(**arguments))
        return made[-1]

    async with (
        Publisher(server, "r", "alice", VideoSpec(), AudioSpec()),
        RoomListener(server, "r", transport=make) as listener,
    ):
        camera, _ = await media(listener)
        made[0].cut = True
        await listener.until(lambda: listener.told(Reconnected), 20)
        known = len(listener.of(camera))
        await listener.until(lambda: len(listener.of(camera)) > known + 30)
        assert "no packet" in listener.told(ConnectionLost)[0].reason
        assert len(made) == 2


@pytest.mark.quiet
async def test_a_track_is_muted_unpublished_and_published_anew(server: LivekitServer) -> None:
    async with (
        Publisher(server, "r", "alice", VideoSpec(), AudioSpec()) as alice,
        RoomListener(server, "r") as listener,
    ):
        camera, microphone = await media(listener)
        alice.mute("camera")
        await listener.until(lambda: listener.told(TrackMuted))
        assert listener.told(TrackMuted)[0].track.muted
        muted_at = len(listener.of(camera))
        alice.unmute("camera")
        await listener.until(lambda: len(listener.told(TrackMuted)) == 2)
        await listener.until(lambda: len(listener.of(camera)) > muted_at + 30)
        await alice.republish("camera", VideoSpec(codec="h264"))
        await listener.until(lambda: listener.told(TrackUnpublished))
        again = await listener.track(TrackSource.CAMERA)
        assert again.sid != camera.sid
        assert again.key == camera.key
        await listener.subscribe(again)
        await listener.until(lambda: len(listener.of(again)) > 30)
        assert {each.codec for each in listener.of(again)} == {VideoCodec.H264}
        assert listener.of(again)[0].at_ns > listener.of(camera)[-1].at_ns
        assert not any(0 < each.width <= 16 for each in listener.of(camera))
        # No packet of the other track is missing. WebRTC may make its encoder anew when it negotiates,
        # and what half filled a packet of the old one is not sent: 10 ms at most.
        sounds = listener.of(microphone)
        assert not any(each.after_gap for each in sounds)
        steps = [b.rtp_timestamp - a.rtp_timestamp for a, b in pairwise(sounds)]
        assert set(steps) <= {960, 960 + 480}
        assert steps.count(960 + 480) <= 2, "one to unpublish, one to publish"


async def test_a_participant_leaves_and_comes_back(server: LivekitServer) -> None:
    async with (
        Publisher(server, "r", "alice", audio=AudioSpec()) as alice,
        RoomListener(server, "r") as listener,
    ):
        microphone = await listener.track(TrackSource.MICROPHONE)
        await listener.subscribe(microphone)
        await listener.until(lambda: len(listener.of(microphone)) > 10)
        await alice.leave()
        await listener.until(lambda: listener.told(ParticipantLeft))
        assert listener.client.tracks() == []
        await alice.join()
        await listener.until(lambda: len(listener.told(ParticipantJoined)) == 2)
        again = await listener.track(TrackSource.MICROPHONE)
        await listener.subscribe(again)
        await listener.until(lambda: len(listener.of(again)) > 10)
        assert again.key == microphone.key
        assert {each.codec for each in listener.of(again)} == {AudioCodec.OPUS}


async def test_the_size_of_the_picture_is_told_on_key_frames(server: LivekitServer) -> None:
    async with (
        Publisher(server, "r", "alice", VideoSpec(), AudioSpec()) as alice,
        RoomListener(server, "r") as listener,
    ):
        camera, _ = await media(listener)
        alice.set_size(360, 640)
        await listener.until(lambda: any(each.width == 360 for each in listener.of(camera)))
        turned = next(each for each in listener.of(camera) if each.width == 360)
        assert (turned.is_key, turned.width, turned.height) == (True, 360, 640)


async def test_a_smaller_layer_is_had_for_the_asking(server: LivekitServer) -> None:
    spec = VideoSpec(width=1280, height=720, simulcast=True, kbps=2000)
    async with (
        Publisher(server, "r", "alice", spec, AudioSpec()),
        RoomListener(server, "r") as listener,
    ):
        camera, _ = await media(listener)
        # From here on: a track may begin with a small layer, and only key frames tell a size.
        known = len(listener.of(camera))
        await listener.client.set_quality(camera.sid, VideoQuality(320, 180))
        await listener.until(lambda: any(0 < each.width <= 320 for each in listener.of(camera)[known:]))
        known = len(listener.of(camera))
        await listener.client.set_quality(camera.sid, VideoQuality(1280, 720))
        # The publisher's own encoder decides whether it can afford the top layer.
        await listener.until(lambda: any(each.width >= 640 for each in listener.of(camera)[known:]), 30)


async def test_the_room_is_deleted(server: LivekitServer) -> None:
    async with Publisher(server, "r", "alice", audio=AudioSpec()), RoomListener(server, "r") as listener:
        await server.room_service().delete_room(DeleteRoomRequest(room="r"))
        await listener.until(lambda: listener.told(RoomClosed))
        (closed,) = listener.told(RoomClosed)
        assert closed.kind is EndKind.OVER
        assert listener.told(ConnectionLost) == []


async def test_the_recorder_is_removed(server: LivekitServer) -> None:
    async with Publisher(server, "r", "alice", audio=AudioSpec()), RoomListener(server, "r") as listener:
        await server.room_service().remove_participant(
            RoomParticipantIdentity(room="r", identity="EG_listener")
        )
        await listener.until(lambda: listener.told(RoomClosed))
        assert listener.told(RoomClosed)[0].kind is EndKind.OVER


async def test_somebody_joins_under_the_recorders_identity(server: LivekitServer) -> None:
    """It does not come back, as the two would throw each other out for ever."""
    async with Publisher(server, "r", "alice", audio=AudioSpec()), RoomListener(server, "r") as listener:
        token = recorder_token(server.api_key, server.api_secret, "r", "EG_listener")
        other = RoomClient(server.ws_url, token, "EG_listener")
        await other.join()
        await listener.until(lambda: listener.told(RoomClosed))
        assert listener.told(RoomClosed)[0].kind is EndKind.REPLACED
        assert listener.told(ConnectionLost) == []
        await other.connected()
        await other.close()


async def test_a_server_that_does_not_come_back_ends_the_room(server: LivekitServer) -> None:
    token = recorder_token(server.api_key, server.api_secret, "r", "EG_1")
    client = RoomClient(server.ws_url, token, "EG_1", rejoin_for_s=1)
    await client.join()
    await client.connected()
    await server.kill()
    events = [each async for each in client.events()]
    await client.close()
    assert isinstance(events[-1], RoomClosed)
    assert events[-1].kind is EndKind.LOST
    assert server.ws_url in events[-1].reason


async def test_a_wrong_secret_is_told(server: LivekitServer) -> None:
    client = RoomClient(server.ws_url, recorder_token(server.api_key, "x" * 32, "r", "EG_1"), "EG_1")
    with pytest.raises(EgressError) as caught:
        await client.join()
    await client.close()
    assert (caught.value.code, caught.value.phase) == (Code.UNAUTHENTICATED, Phase.SIGNALLING)
    assert server.ws_url in caught.value.message
    assert "api_secret" in caught.value.message


async def test_a_server_that_is_not_there_is_told_by_its_address() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    client = RoomClient(url, "token", "EG_1")
    with pytest.raises(EgressError) as caught:
        await client.join()
    await client.close()
    assert (caught.value.code, caught.value.phase) == (Code.UNAVAILABLE, Phase.SIGNALLING)
    assert url in caught.value.message


class Deaf(Transport):
    """Neither side's candidates get through: a firewall between."""

    async def gather(self) -> list[str]:
        await super().gather()
        return []

    async def add_candidate(self, line: str) -> None:
        await super().add_candidate(line.replace("127.0.0.1", "127.0.0.99"))


@pytest.mark.quiet
async def test_a_closed_media_path_is_told_with_what_was_tried(server: LivekitServer) -> None:
    token = recorder_token(server.api_key, server.api_secret, "r", "EG_1")
    options = SessionOptions(connect_timeout_s=3)
    client = RoomClient(server.ws_url, token, "EG_1", options=options, make_transport=Deaf)
    started = asyncio.get_running_loop().time()
    await client.join()
    with pytest.raises(EgressError) as caught:
        await client.connected()
    await client.close()
    assert asyncio.get_running_loop().time() - started < 9
    assert (caught.value.code, caught.value.phase) == (Code.UNAVAILABLE, Phase.ICE)
    assert "127.0.0.99" in caught.value.message
