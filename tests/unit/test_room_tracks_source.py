"""A whole room as tracks: which packets come of the frames of people who come, go and change."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import TracksSource
from openegress.core.units import MS, S
from openegress.media import Packet
from openegress.media.file_track import FileTrack
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.room.budget import Reason
from openegress.source.memory import Shedding
from openegress.source.room import tracks_source
from openegress.source.room.every_track import EveryTrack
from openegress.source.room.file_tracks import MAX_PER_PARTICIPANT, FileTracks, title_of
from openegress.source.room.recorded_track import MAX_FORMATS
from openegress.source.room.selection import NOTHING, Missing, Selection, Verdict
from openegress.source.room.track_policy import LastRejoin, RoomState
from openegress.source.room.tracks_source import RoomTracksSource
from openegress.source.room.whole_room import MAX_TRACKS
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

BEGAN_NS = 1_700_000_000 * S
OPUS = b"\x78" + b"x" * 40
"""20 ms of one voice."""
PUBLISHED = TracksSource("room", "ws://livekit", "token")


def person(name: str) -> Participant:
    return Participant(f"PA_{name}", name, name.title(), "standard")


def microphone(name: str, sid: str = "", source: TrackSource = TrackSource.MICROPHONE) -> Track:
    sid = sid or f"TR_{name}_mic"
    return Track(sid, "mic", MediaKind.AUDIO, source, "audio/opus", person(name), False)


def camera(name: str, sid: str = "", source: TrackSource = TrackSource.CAMERA) -> Track:
    return Track(
        sid or f"TR_{name}_cam", "cam", MediaKind.VIDEO, source, "video/vp8", person(name), False, 640, 360
    )


def selected(*tracks: Track) -> Selection:
    return EveryTrack(PUBLISHED).select(RoomState(tracks, ()), NOTHING)


@dataclass
class FakeFollower:
    """The part of a TrackFollower that the source asks."""

    selection: Selection
    arrived: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    left_out: list[tuple[str, Reason]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if name in ("subscribe", "wait_for_media", "release", "close", "pause", "resume"):
            return self._nothing
        raise AttributeError(name)

    async def _nothing(self, *_: object) -> None:
        pass

    now_ms: int = 0

    def now_ns(self) -> int:
        return BEGAN_NS + self.now_ms * MS

    def batch_reads(self) -> None:
        pass

    def request_key_frame(self, sid: str) -> None:
        self.asked.append(sid)

    def losses(self) -> tuple[()]:
        return ()

    def leave_out(self, sid: str, reason: Reason) -> None:
        self.left_out.append((sid, reason))


class Taken:
    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.came = asyncio.Event()

    def write(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.came.set()

    @property
    def tracks(self) -> list[FileTrack]:
        """In order of appearance."""
        found = {packet.track.number: packet.track for packet in self.packets if packet.track is not None}
        return list(found.values())

    def of(self, number: int) -> list[tuple[bytes, int]]:
        """(payload, ms) of a file's track."""
        return [
            (p.data, p.pts_ns // MS) for p in self.packets if p.track is not None and p.track.number == number
        ]


def sound(track: Track, at_ms: int, data: bytes = OPUS, rtp_ms: int | None = None) -> EncodedFrame:
    rtp = (at_ms if rtp_ms is None else rtp_ms) * 48
    return EncodedFrame(track.sid, AudioCodec.OPUS, data, BEGAN_NS + at_ms * MS, rtp, 48_000, True)


def picture(
    track: Track, data: bytes, at_ms: int, *, key: bool = False, codec: VideoCodec = VideoCodec.VP8
) -> EncodedFrame:
    size = (640, 360) if key else (0, 0)
    at_ns = BEGAN_NS + at_ms * MS
    return EncodedFrame(track.sid, codec, data, at_ns, at_ms * 90, 90_000, key, False, *size)


async def started(*tracks: Track) -> tuple[RoomTracksSource, FakeFollower, Taken]:
    follower = FakeFollower(selected(*tracks), {track.sid: BEGAN_NS for track in tracks[:1]})
    source = RoomTracksSource(cast("Any", follower))
    taken = Taken()
    assert await source.start(taken) == BEGAN_NS
    return source, follower, taken


@pytest.fixture(scope="module")
def h264() -> Iterator[list[bytes]]:
    """Key frames of pictures of two sizes: other parameters beside the media."""
    keys = []
    for width in (160, 320):
        drawn = Picture(PictureSpec(width, 96, 30, COLOURS[0])).draw(0)
        keys.append(LiveEncoder("h264", width, 96, 30, 100).encode(drawn, 0, force_key=True).data)
    yield keys


async def test_people_who_come_and_go_have_tracks_of_their_own() -> None:
    ada, eve, bob = microphone("ada"), camera("eve"), microphone("bob")
    source, _, taken = await started(ada)
    source.on_frame(ada, sound(ada, 0))
    source.on_selection(selected(ada, eve))
    source.on_frame(eve, picture(eve, b"key", 500, key=True))
    source.on_frame(ada, sound(ada, 520))
    source.on_selection(selected(eve, bob))
    source.on_frame(bob, sound(bob, 900))
    source.on_frame(eve, picture(eve, b"delta", 533))
    await source.stop()
    assert [(each.name, each.form.codec) for each in taken.tracks] == [
        ("Ada (microphone)", AudioCodec.OPUS),
        ("Eve (camera)", VideoCodec.VP8),
        ("Bob (microphone)", AudioCodec.OPUS),
    ]
    assert taken.of(1) == [(OPUS, 0), (OPUS, 520)], "nothing fills what lies between"
    assert taken.of(2) == [(b"key", 500), (b"delta", 533)]
    assert taken.of(3) == [(OPUS, 900)]
    assert dict(taken.tracks[1].tags) == {
        "PARTICIPANT_IDENTITY": "eve",
        "PARTICIPANT_NAME": "Eve",
        "TRACK_ID": "TR_eve_cam",
        "TRACK_NAME": "cam",
        "TRACK_SOURCE": "camera",
    }


async def test_whoever_publishes_the_same_again_goes_on_in_the_same_track() -> None:
    first, again = camera("ada", "TR_1"), camera("ada", "TR_2")
    source, follower, taken = await started(first)
    source.on_frame(first, picture(first, b"key", 0, key=True))
    source.on_selection(selected())
    source.on_selection(selected(again))
    source.on_frame(again, picture(again, b"delta", 4_000))
    assert follower.asked == ["TR_2"], "it begins with a key frame"
    source.on_frame(again, picture(again, b"key", 5_000, key=True))
    await source.stop()
    assert taken.of(1) == [(b"key", 0), (b"key", 5_000)]
    assert source.stats().dropped_frames == 1


async def test_two_that_are_alike_are_two_tracks() -> None:
    first, second = microphone("ada", "TR_1"), microphone("ada", "TR_2")
    source, _, taken = await started(first, second)
    for track in (first, second):
        source.on_frame(track, sound(track, 0))
    await source.stop()
    assert [each.number for each in taken.tracks] == [1, 2]


async def test_another_codec_is_another_track() -> None:
    ada = camera("ada")
    source, follower, taken = await started(ada)
    source.on_frame(ada, picture(ada, b"vp8 key", 0, key=True))
    source.on_frame(ada, picture(ada, b"vp9 delta", 30, codec=VideoCodec.VP9))
    source.on_frame(ada, picture(ada, b"vp9 key", 60, key=True, codec=VideoCodec.VP9))
    source.on_frame(ada, picture(ada, b"vp8 key", 90, key=True))
    await source.stop()
    assert follower.asked == [ada.sid]
    assert [each.form.codec for each in taken.tracks] == [VideoCodec.VP8, VideoCodec.VP9]
    assert [at for _, at in taken.of(1)] == [0, 90]
    assert [at for _, at in taken.of(2)] == [60]


async def test_other_parameters_are_another_track_and_the_first_go_on_in_theirs(h264: list[bytes]) -> None:
    """A telephone that is turned, and turned back."""
    ada = camera("ada")
    source, _, taken = await started(ada)
    for number, data in enumerate((h264[0], h264[1], h264[0])):
        source.on_frame(ada, picture(ada, data, 700 * number, key=True, codec=VideoCodec.H264))
    await source.stop()
    assert [(each.form.width, each.form.height) for each in taken.tracks] == [(160, 96), (320, 96)]
    assert [at for _, at in taken.of(1)] == [0, 1400]
    assert [at for _, at in taken.of(2)] == [700]
    assert all(each.codec_private[:1] == b"\x01" for each in taken.tracks), "avcC, version 1"


async def test_a_sender_that_never_stops_changing_has_so_many_tracks(h264: list[bytes]) -> None:
    """Its picture parameter set differs each time, as no encoder's does."""
    ada = camera("ada")
    source, _, taken = await started(ada)
    extra = b"\0\0\0\1\x68\xce"
    for number in range(MAX_FORMATS + 5):
        data = h264[0] + extra + bytes([number + 1, 0x80])
        source.on_frame(ada, picture(ada, data, 700 * number, key=True, codec=VideoCodec.H264))
    await source.stop()
    assert len(taken.packets) == MAX_FORMATS + 5, "nothing is left out"
    assert len(taken.tracks) == MAX_FORMATS


async def test_key_frames_that_say_nothing_are_left_out_and_others_go_on() -> None:
    ada, bob = camera("ada"), microphone("bob")
    source, _, taken = await started(ada, bob)
    source.on_frame(ada, picture(ada, b"\0\0\0\1\x65broken", 0, key=True, codec=VideoCodec.H264))
    source.on_frame(bob, sound(bob, 0))
    await source.stop()
    assert [each.name for each in taken.tracks] == ["Bob (microphone)"]


async def test_the_first_picture_waits_for_the_layer_that_was_announced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracks_source, "WAIT_NS", 10 * MS)
    ada = camera("ada")
    source, _, taken = await started(ada)
    small = picture(ada, b"small", 0, key=True)._replace(width=320, height=180)
    source.on_frame(ada, small)
    assert taken.packets == []
    await asyncio.wait_for(taken.came.wait(), 5)
    assert taken.of(1) == [(b"small", 0)]
    await source.stop()


async def test_a_stop_keeps_what_waits_for_a_layer() -> None:
    ada = camera("ada")
    source, _, taken = await started(ada)
    source.on_frame(ada, picture(ada, b"small", 0, key=True)._replace(width=320, height=180))
    await source.stop()
    assert taken.of(1) == [(b"small", 0)]


async def test_frames_from_before_the_start_are_on_the_timeline_from_zero() -> None:
    ada, bob = microphone("ada"), microphone("bob")
    follower = FakeFollower(selected(ada, bob), {ada.sid: BEGAN_NS, bob.sid: BEGAN_NS + 5 * MS})
    source = RoomTracksSource(cast("Any", follower))
    preparing = asyncio.create_task(source.prepare())
    await asyncio.sleep(0)
    source.on_frame(bob, sound(bob, 5))
    source.on_frame(ada, sound(ada, -10))
    await asyncio.wait_for(preparing, 5)
    taken = Taken()
    assert await source.start(taken) == BEGAN_NS - 10 * MS
    await source.stop()
    assert {each.name: taken.of(each.number)[0][1] for each in taken.tracks} == {
        "Bob (microphone)": 15,
        "Ada (microphone)": 0,
    }


@pytest.mark.parametrize(
    ("voice", "source_of", "held_ms"),
    [
        (TrackSource.MICROPHONE, TrackSource.CAMERA, 480),
        (TrackSource.SCREEN_SHARE_AUDIO, TrackSource.SCREEN_SHARE, 480),
        (TrackSource.MICROPHONE, TrackSource.SCREEN_SHARE, 0),
    ],
)
async def test_pictures_keep_to_sound_that_is_written_late(
    voice: TrackSource, source_of: TrackSource, held_ms: int
) -> None:
    """Half a second of sound that came in one burst, spoken without a pause."""
    spoken, shown = microphone("ada", source=voice), camera("ada", source=source_of)
    source, _, taken = await started(spoken, shown)
    for number in range(25):
        frame = sound(spoken, 0, rtp_ms=20 * number)
        source.on_frame(spoken, frame)
    source.on_frame(shown, picture(shown, b"key", 100, key=True))
    await source.stop()
    (_, at_ms) = taken.of(2)[0]
    assert at_ms == pytest.approx(100 + held_ms, abs=10)


async def test_short_of_memory_the_largest_picture_is_left_out() -> None:
    ada, bob = camera("ada"), camera("bob")
    source, follower, _ = await started(ada, bob)
    source.on_frame(ada, picture(ada, b"x" * 10, 0, key=True))
    source.on_frame(bob, picture(bob, b"x" * 1000, 0, key=True))
    source.shed(Shedding.QUEUES)
    assert follower.left_out == []
    source.shed(Shedding.TRACK)
    assert follower.left_out == [(bob.sid, Reason.MEMORY)]
    source.on_selection(selected(ada))
    source.shed(Shedding.TRACK)
    assert follower.left_out[1:] == [(ada.sid, Reason.MEMORY)]
    await source.stop()


async def test_nobody_takes_the_room_of_others(caplog: pytest.LogCaptureFixture) -> None:
    tracks = FileTracks()
    opus = await _opus_form()
    made = [tracks.make(microphone("ada", f"TR_{n}"), opus) for n in range(MAX_PER_PARTICIPANT + 3)]
    assert sum(each is not None for each in made) == MAX_PER_PARTICIPANT
    assert [each.message for each in caplog.records] == [
        f"ada has {MAX_PER_PARTICIPANT} tracks in the file: no more"
    ]
    other = tracks.make(microphone("bob"), opus)
    assert other is not None and other.number == MAX_PER_PARTICIPANT + 1


async def _opus_form() -> Any:
    ada = microphone("ada")
    source, _, taken = await started(ada)
    source.on_frame(ada, sound(ada, 0))
    await source.stop()
    return taken.tracks[0].form


@pytest.mark.parametrize(
    ("track", "title"),
    [
        (microphone("ada"), "Ada (microphone)"),
        (camera("ada", source=TrackSource.SCREEN_SHARE), "Ada (screen share)"),
        (camera("ada", source=TrackSource.UNKNOWN), "Ada (cam)"),
        (replace(camera("ada", source=TrackSource.UNKNOWN), name=""), "Ada (picture)"),
        (replace(camera("ada"), participant=replace(person("ada"), name="")), "ada (camera)"),
    ],
)
def test_a_track_is_named_after_who_published_it(track: Track, title: str) -> None:
    assert title_of(track) == title


# --- which tracks


def test_everything_is_taken_and_pictures_only_where_they_are_wanted() -> None:
    room = RoomState([microphone("ada"), camera("ada"), camera("bob")], [person("ada"), person("bob")])
    every = EveryTrack(PUBLISHED)
    assert [track.sid for track in every.select(room, NOTHING).tracks] == [
        "TR_ada_cam",
        "TR_bob_cam",
        "TR_ada_mic",
    ]
    for source, sids in (
        (TracksSource("r", "w", "t", video=False), ["TR_ada_mic"]),
        (TracksSource("r", "w", "t", audio=False), ["TR_ada_cam", "TR_bob_cam"]),
    ):
        assert [track.sid for track in EveryTrack(source).select(room, NOTHING).tracks] == sids


def test_it_waits_for_nobody_and_ends_with_the_last() -> None:
    every = EveryTrack(PUBLISHED)
    empty, full = RoomState([], []), RoomState([], [person("ada")])
    assert every.missing(empty, NOTHING) == (Missing.NOTHING, "")
    assert every.verdict(empty, NOTHING) is Verdict.GO_ON
    assert every.verdict(full, NOTHING) is Verdict.GO_ON
    assert every.verdict(empty, NOTHING) is Verdict.END
    assert every.verdict(replace(empty, last_rejoin=LastRejoin.RECENT), NOTHING) is Verdict.END_UNLESS_BACK


def test_one_who_publishes_hundreds_is_bounded() -> None:
    many = [microphone("ada", f"TR_{n}") for n in range(MAX_TRACKS + 10)]
    taken = EveryTrack(PUBLISHED).select(RoomState([*many, microphone("bob")], []), NOTHING).tracks
    assert len(taken) == MAX_TRACKS + 1


# --- paused


async def paused(mode: PauseMode, *tracks: Track) -> tuple[RoomTracksSource, FakeFollower, Taken]:
    """Recorded for a second, sound each 20 ms and pictures each 40, and then paused."""
    source, follower, taken = await started(*tracks)
    send(source, tracks, 0, 1000)
    follower.now_ms = 1000
    assert await source.pause(mode) == BEGAN_NS + 1000 * MS
    follower.now_ms = 4000
    return source, follower, taken


def send(source: RoomTracksSource, tracks: Sequence[Track], from_ms: int, to_ms: int) -> None:
    """Pictures from a key frame on."""
    for at_ms in range(from_ms, to_ms, 20):
        for track in tracks:
            if track.kind is MediaKind.AUDIO:
                source.on_frame(track, sound(track, at_ms))
            elif (at_ms - from_ms) % 40 == 0:
                source.on_frame(track, picture(track, str(at_ms).encode(), at_ms, key=at_ms == from_ms))


async def resumed(source: RoomTracksSource, tracks: Sequence[Track], from_ms: int, to_ms: int) -> int:
    """In ms since the beginning."""
    resuming = asyncio.create_task(source.resume())
    await asyncio.sleep(0)
    send(source, tracks, from_ms, to_ms)
    at_ms = (await resuming - BEGAN_NS) // MS
    await source.stop()
    return at_ms


async def test_a_pause_is_left_out_of_every_track() -> None:
    """Bob comes while it is paused; Ada's sound goes on where it stopped."""
    hers, his = (microphone("ada"), camera("ada")), (microphone("bob"), camera("bob"))
    source, follower, taken = await paused(PauseMode.CUT, *hers)
    source.on_frame(hers[0], sound(hers[0], 1020))  # it was on its way
    follower.selection = selected(*hers, *his)
    source.on_selection(follower.selection)
    assert await resumed(source, (*hers, *his), 4000, 5000) == 4000
    titles = {track.name: track.number for track in taken.tracks}
    assert len(titles) == 4
    for name, number in titles.items():
        begun_ms, step_ms = 1000 * name.startswith("Bob"), 40 if "camera" in name else 20
        due = list(range(begun_ms, 2000, step_ms))
        assert [at_ms for _, at_ms in taken.of(number)] == [pytest.approx(at_ms, abs=1) for at_ms in due]
    names = [data for data, _ in taken.of(titles["Ada (camera)"])]
    assert names == [str(at).encode() for at in (*range(0, 1000, 40), *range(4000, 5000, 40))]


async def test_a_pause_that_is_held_is_a_hole_in_every_track() -> None:
    hers = (microphone("ada"), camera("ada"))
    source, _, taken = await paused(PauseMode.HOLD, *hers)
    source.on_frame(hers[0], sound(hers[0], 1500))
    assert await resumed(source, hers, 4000, 5000) == 4000
    for track in taken.tracks:
        times = [at_ms for _, at_ms in taken.of(track.number)]
        assert not [at_ms for at_ms in times if 1000 <= at_ms < 3999]
        assert times[-1] == pytest.approx(4960 if len(times) < 80 else 4980, abs=1)


async def test_the_first_key_frame_of_anybody_says_where_all_go_on() -> None:
    tracks = (microphone("ada"), camera("ada"), camera("bob"))
    source, _, taken = await paused(PauseMode.CUT, *tracks)
    resuming = asyncio.create_task(source.resume())
    await asyncio.sleep(0)
    for at_ms in range(4000, 4400, 20):
        source.on_frame(tracks[0], sound(tracks[0], at_ms))
    source.on_frame(tracks[1], picture(tracks[1], b"delta", 4020))
    source.on_frame(tracks[2], picture(tracks[2], b"bob", 4240, key=True))
    source.on_frame(tracks[1], picture(tracks[1], b"ada", 4200, key=True))
    assert (await resuming - BEGAN_NS) // MS == 4200
    await source.stop()
    numbers = {track.name: track.number for track in taken.tracks}
    assert taken.of(numbers["Ada (camera)"])[-1] == (b"ada", pytest.approx(1000, abs=1))
    assert taken.of(numbers["Bob (camera)"])[-1] == (b"bob", pytest.approx(1040, abs=1))
    assert taken.of(numbers["Ada (microphone)"])[50][1] == pytest.approx(1000, abs=11)


async def test_nobody_there_is_waited_for_when_an_empty_room_goes_on() -> None:
    source, follower, _ = await paused(PauseMode.CUT, microphone("ada"))
    follower.selection = selected()
    source.on_selection(follower.selection)
    async with asyncio.timeout(1):
        assert await source.resume() == BEGAN_NS + 4000 * MS


async def test_a_pause_that_fails_leaves_nothing_out() -> None:
    voice = microphone("ada")
    source, follower, taken = await started(voice)

    async def broken() -> None:
        raise EgressError(Code.UNAVAILABLE, "the room is gone")

    follower.pause = broken  # type: ignore[attr-defined]
    with pytest.raises(EgressError, match="gone"):
        await source.pause(PauseMode.CUT)
    send(source, (voice,), 0, 60)
    await source.stop()
    assert [at_ms for _, at_ms in taken.of(1)] == [0, 20, 40]


@pytest.mark.parametrize("mode", PauseMode)
@given(
    st.lists(st.tuples(st.integers(3, 60), st.integers(1, 90)), min_size=1, max_size=12),
    st.integers(0, 300),
)
def test_a_hundred_pauses(mode: PauseMode, spans: list[tuple[int, int]], late_ms: int) -> None:
    """Whatever is recorded and left out, in steps of 20 ms: times rise, and only what is cut is missing."""

    async def call() -> None:
        tracks = (microphone("ada"), camera("ada"))
        source, follower, taken = await started(*tracks)
        at_ms, sent, cut_ms = 0, [], 0
        for number, (kept, left_out) in enumerate(spans):
            end_ms = at_ms + 20 * kept
            if number:
                follower.now_ms = at_ms
                resuming = asyncio.create_task(source.resume())
                await asyncio.sleep(0)
                send(source, tracks, at_ms, end_ms)
                assert (await resuming - BEGAN_NS) // MS == at_ms
            else:
                send(source, tracks, at_ms, end_ms)
            sent += [(str(each).encode(), each - cut_ms) for each in range(at_ms, end_ms, 40)]
            follower.now_ms = end_ms
            await source.pause(mode)
            source.on_frame(tracks[0], sound(tracks[0], end_ms + late_ms))
            at_ms = end_ms + 20 * left_out
            cut_ms += 20 * left_out if mode is PauseMode.CUT else 0
        await source.stop()
        numbers = {track.name: track.number for track in taken.tracks}
        pictures, voice = (taken.of(numbers[f"Ada ({what})"]) for what in ("camera", "microphone"))
        assert [data for data, _ in pictures] == [data for data, _ in sent]
        for (_, found_ms), (_, due_ms) in zip(pictures, sent, strict=True):
            assert found_ms == pytest.approx(due_ms, abs=1)
        assert len(voice) == sum(kept for kept, _ in spans)
        times = [each for _, each in voice]
        assert times == sorted(times)
        assert times[-1] == pytest.approx(
            at_ms - cut_ms - 20 * spans[-1][1] * (mode is PauseMode.HOLD) - 20, abs=21
        )

    asyncio.run(call())
