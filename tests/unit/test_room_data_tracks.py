"""LiveKit's data tracks: packets to frames, and frames to what somebody has sent."""

import struct
from collections.abc import Sequence

import pytest
from livekit.protocol.models import DataTrackInfo, Encryption, ParticipantInfo
from livekit.protocol.rtc import DataTrackSubscriberHandles, UpdateDataSubscription

from openegress.room.data_tracks import LOCKED, MAX_PER_PARTICIPANT, DataTracks
from openegress.room.rtp.data_track import MAX_FRAME_BYTES, DataFrames, parse

START, FINAL, EXTENDED = 0x10, 0x08, 0x04


def packet(flags: int, sequence: int, payload: bytes, *, frame: int = 1, handle: int = 7) -> bytes:
    return struct.pack("!BBHHHI", flags, 0, handle, sequence, frame, 90) + payload


def frames(*packets: bytes) -> list[bytes]:
    gathered = DataFrames()
    return [
        frame
        for each in packets
        if (parsed := parse(each)) is not None and (frame := gathered.take(parsed)) is not None
    ]


@pytest.mark.parametrize(
    ("packets", "whole"),
    [
        ([packet(START | FINAL, 0, b"one")], [b"one"]),
        ([packet(START, 65535, b"a"), packet(0, 0, b"b"), packet(FINAL, 1, b"c")], [b"abc"]),
        ([packet(START, 1, b"a"), packet(FINAL, 3, b"c")], []),
        ([packet(START, 1, b"a"), packet(FINAL, 2, b"c", frame=2)], []),
        ([packet(FINAL, 2, b"c")], []),
        ([packet(START, 1, b"lost"), packet(START | FINAL, 5, b"next", frame=2)], [b"next"]),
        (
            [packet(START, 1, b"a"), packet(START | FINAL, 9, b"other", handle=8), packet(FINAL, 2, b"b")],
            [b"other", b"ab"],
        ),
        ([packet(START | FINAL | EXTENDED, 0, b"\0\1\0\2\0\0\0\0extended")], [b"extended"]),
    ],
)
def test_frames(packets: Sequence[bytes], whole: Sequence[bytes]) -> None:
    assert frames(*packets) == whole


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        packet(START, 0, b"")[:11],
        packet(START, 0, b"", handle=0),
        packet(0x20 | START, 0, b"of a version to come"),
        packet(START | EXTENDED, 0, b"\0"),
        packet(START | EXTENDED, 0, b"\0\2short"),
    ],
)
def test_what_is_no_packet(garbage: bytes) -> None:
    assert parse(garbage) is None


def test_a_frame_without_an_end_takes_no_more_memory() -> None:
    piece = bytes(60_000)
    endless = [packet(0, number, piece) for number in range(1, 10)]
    assert frames(packet(START, 0, piece), *endless, packet(FINAL, 10, b"")) == []
    assert len(piece) * 9 > MAX_FRAME_BYTES


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.locked: list[tuple[str, str]] = []

    async def send(self, *, update_data_subscription: UpdateDataSubscription) -> None:
        self.asked += [each.track_sid for each in update_data_subscription.updates if each.subscribe]

    def lock(self, identity: str, why: str) -> None:
        self.locked.append((identity, why))


def ada(*tracks: DataTrackInfo, gone: bool = False) -> ParticipantInfo:
    state = ParticipantInfo.State.DISCONNECTED if gone else ParticipantInfo.State.ACTIVE
    return ParticipantInfo(identity="ada", state=state, data_tracks=tracks)


SLIDES = DataTrackInfo(sid="DTR_1", name="slides")
HANDLES = DataTrackSubscriberHandles(
    sub_handles={
        7: DataTrackSubscriberHandles.PublishedDataTrack(publisher_identity="ada", track_sid="DTR_1")
    }
)


async def asked(tracks: DataTracks) -> None:
    """Returns once the server has been asked for what is wanted."""
    assert tracks._asking is not None
    await tracks._asking


async def test_a_track_is_asked_for_once_and_its_frames_have_its_name() -> None:
    server = Server()
    tracks = DataTracks(server.send, server.lock)
    assert tracks.take(packet(START | FINAL, 0, b"early")) is None
    for _ in range(2):
        tracks.told([ada(SLIDES)])
        await asked(tracks)
    assert server.asked == ["DTR_1"]
    tracks.handles(HANDLES)
    told = tracks.take(packet(START | FINAL, 0, b"frame"))
    assert told is not None
    assert (told.participant_identity, told.user.topic, told.user.payload) == ("ada", "slides", b"frame")
    tracks.joined()
    tracks.told([ada(SLIDES)])
    await asked(tracks)
    assert server.asked == ["DTR_1", "DTR_1"]
    await tracks.close()


@pytest.mark.parametrize("end", [ada(), ada(gone=True)], ids=["unpublished", "left"])
async def test_packets_that_the_end_of_their_track_overtakes(end: ParticipantInfo) -> None:
    """Signals come by another connection."""
    server = Server()
    tracks = DataTracks(server.send, server.lock)
    tracks.told([ada(SLIDES)])
    tracks.handles(HANDLES)
    tracks.told([end])
    tracks.handles(DataTrackSubscriberHandles())
    late = tracks.take(packet(START | FINAL, 1, b"late"))
    assert late is not None and (late.user.topic, late.user.payload) == ("slides", b"late")
    await tracks.close()


async def test_what_is_encrypted_is_told_and_not_asked_for() -> None:
    server = Server()
    tracks = DataTracks(server.send, server.lock)
    sealed = DataTrackInfo(sid="DTR_2", name="sealed", encryption=Encryption.Type.GCM)
    tracks.told([ada(sealed)])
    await tracks.close()
    assert (server.asked, server.locked) == ([], [("ada", LOCKED)])


async def test_nobody_has_more_than_so_many() -> None:
    server = Server()
    tracks = DataTracks(server.send, server.lock)
    tracks.told([ada(*(DataTrackInfo(sid=f"DTR_{n}", name=f"{n}") for n in range(MAX_PER_PARTICIPANT + 5)))])
    await asked(tracks)
    assert len(server.asked) == MAX_PER_PARTICIPANT
