"""Where frames lie, against the truth of simulated calls: what a listener in the room had, and when.

Each frame that arrived is in the recording, whole, within 100 ms of the time at which a listener had it.
Whatever scenario ever failed stays here as an example. SCENARIOS in the environment says how many are drawn.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import MS, S
from openegress.media import Packet, PacketSink
from openegress.media.mixer import Channel
from openegress.media.passthrough import audio_format, video_format
from openegress.media.samples import SAMPLE_RATE, Samples
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.source.room import track_decoder
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.passthrough_source import RoomPacketSource
from openegress.source.room.pts import AudioPts
from openegress.source.room.scene import NO_PICTURE, whole
from openegress.source.room.selection import Routed, Selection
from openegress.source.room.tile_view import Picture, TileView
from openegress.source.room.track_follower import TrackFollower
from testkit.simulated_call import (
    WALL_NS,
    Clock,
    Network,
    Publication,
    Received,
    Reports,
    SimulatedCall,
    SimulatedTrack,
    no_reports,
    sane,
)
from testkit.simulated_socket import Reading, Span

AUDIO, VIDEO = MediaKind.AUDIO, MediaKind.VIDEO
WRONG_NS = 100 * MS
APART_NS = 40 * MS
BEFORE_REPORTS_NS = 120 * MS
HANDED_OUT_NS = 1 * S
CATCH_UP_NS = 3 * S
"""A listener whose network has become quicker is still late for a while; so may a recording be."""
SCENARIOS = int(os.environ.get("SCENARIOS", "40"))

OPUS_20_MS = 960


def every(period_s: float, long_s: float, count: int = 30) -> tuple[Span, ...]:
    return tuple(Span(int((1 + index) * period_s * S), int(long_s * S)) for index in range(count))


def speech(*spans: tuple[float, float]) -> tuple[Span, ...]:
    return tuple(Span(int(at_s * S), int(long_s * S)) for at_s, long_s in spans)


def call(*publications: Publication, seconds: float, reading: Reading | None = None) -> list[SimulatedTrack]:
    simulated = SimulatedCall(reading)
    tracks = [simulated.publish(each) for each in publications]
    simulated.run(int(seconds * S))
    simulated.finish()
    return tracks


def worst_ns(track: SimulatedTrack, since_ns: int = 0) -> tuple[int, int]:
    """How much too early and too late frames lie, at the worst."""
    early, late = 0, 0
    recent: list[tuple[int, int]] = []
    for each in track.received:
        truth = each.truth
        recent.append((truth.captured_ns, truth.arrived_ns - truth.captured_ns))
        recent = [(at, slow) for at, slow in recent if truth.captured_ns - at <= CATCH_UP_NS]
        if truth.captured_ns < since_ns:
            continue
        latest_ns = truth.captured_ns + max(slow for _, slow in recent)
        early = max(early, truth.earliest_ns - each.placed_ns)
        late = max(late, each.placed_ns - latest_ns)
    return early, late


def assert_in_time(tracks: Sequence[SimulatedTrack]) -> None:
    for track in tracks:
        early_ns, late_ns = worst_ns(track)
        assert early_ns <= WRONG_NS
        assert late_ns <= WRONG_NS
        if track.publication.kind is AUDIO:
            # What arrived behind the first packet comes out; the last ones are still waited for at the end.
            captured = [each.truth.captured_ns for each in track.received]
            until_ns = captured[-1] - S
            sent = [at_ns for at_ns in track.in_time() if captured[0] <= at_ns <= until_ns]
            assert set(sent) <= set(captured)
            assert captured == sorted(captured)


def apart_ns(audio: SimulatedTrack, video: SimulatedTrack, since_ns: int = 0, until_ns: int = 1 << 62) -> int:
    """By how much pictures lie beside the sound that was captured with them, at the worst."""
    sound = {each.truth.captured_ns // (20 * MS): each for each in audio.received}
    worst = 0
    for each in video.received:
        if not since_ns <= each.truth.captured_ns < until_ns:
            continue
        near = sound.get(each.truth.captured_ns // (20 * MS))
        if near is not None:
            apart = (each.placed_ns - each.truth.captured_ns) - (near.placed_ns - near.truth.captured_ns)
            worst = max(worst, abs(apart))
    return worst


READING = {
    "read at once": Reading(),
    "relaxed from the beginning": Reading(relaxed_ns=0),
    "relaxed later": Reading(relaxed_ns=130 * MS),
    "a busy beginning": Reading(relaxed_ns=300 * MS, busy=(Span(0, 220 * MS),)),
    "busy again and again": Reading(relaxed_ns=400 * MS, busy=every(1, 0.15, 20)),
}


# --- each thing that went wrong somewhere


CAMERA = Publication(VIDEO, source=TrackSource.CAMERA, encoding_ns=45 * MS)
MICROPHONE = Publication(AUDIO, source=TrackSource.MICROPHONE)
JITTER = Network(jitter_ns=100 * MS)


@pytest.mark.parametrize(
    "microphone",
    [
        pytest.param(MICROPHONE, id="nothing wrong"),
        pytest.param(replace(MICROPHONE, stalls=speech((4, 0.5), (8, 6), (18, 1), (23, 20))), id="turns"),
        pytest.param(replace(MICROPHONE, stalls=every(5, 0.3)), id="0.3 s every 5 s"),
        pytest.param(replace(MICROPHONE, stalls=speech((10, 0.8))), id="0.8 s once"),
        pytest.param(replace(MICROPHONE, stalls=every(7, 5)), id="5 s again and again"),
        pytest.param(replace(MICROPHONE, stalls=every(1, 0.1)), id="0.1 s every second"),
        pytest.param(replace(MICROPHONE, stalls=every(1, 0.04)), id="0.04 s every second"),
        pytest.param(replace(MICROPHONE, stalls=every(5, 0.2), network=JITTER), id="0.2 s, and jitter"),
        pytest.param(
            replace(
                MICROPHONE,
                stalls=speech((4, 1 / 3)),
                network=Network(146 * MS, jitter_ns=30 * MS, loss=0.01, held=speech((4, 1 / 3))),
            ),
            id="a stall behind a network that stops",
        ),
        pytest.param(replace(MICROPHONE, dtx=every(4, 3), network=JITTER), id="DTX, and jitter"),
        pytest.param(replace(MICROPHONE, jumps=((10 * S, 1 << 31), (20 * S, -960_000))), id="restarted"),
        pytest.param(replace(MICROPHONE, mutes=speech((5, 40))), id="muted"),
        pytest.param(replace(MICROPHONE, red=True, network=Network(loss=0.1)), id="RED, and loss"),
        pytest.param(replace(MICROPHONE, network=Network(held=every(10, 2))), id="a network that stops"),
        pytest.param(
            replace(MICROPHONE, network=Network(slower=((Span(10 * S, 9 * S), 300 * MS),))), id="a detour"
        ),
        pytest.param(replace(MICROPHONE, clock=Clock(off_ns=-3600 * S, ppm=200)), id="a clock an hour off"),
    ],
)
def test_sound_lies_where_a_listener_heard_it(microphone: Publication) -> None:
    camera = replace(CAMERA, network=microphone.network, clock=microphone.clock)
    tracks = call(microphone, camera, seconds=60)
    assert_in_time(tracks)


def bad_once(number: int, ntp_ns: int, rtp: int) -> tuple[int, int]:
    return (ntp_ns, 0xFFFFFFFF) if number == 0 else (ntp_ns, rtp)


def off(by_s: float) -> Reports:
    return lambda number, ntp_ns, rtp: (ntp_ns + int(by_s * S), rtp)


def nothing_known(number: int, ntp_ns: int, rtp: int) -> tuple[int, int]:
    return 0, rtp


@pytest.mark.parametrize(
    "reports",
    [bad_once, no_reports, nothing_known, *(off(by_s) for by_s in (-7200, -30, -1, 1, 30))],
)
@pytest.mark.parametrize("wrong", [AUDIO, VIDEO])
def test_a_report_that_no_path_explains_is_not_believed(wrong: MediaKind, reports: Reports) -> None:
    audio, video = (
        replace(each, reports=reports if each.kind is wrong else sane) for each in (MICROPHONE, CAMERA)
    )
    tracks = call(audio, video, seconds=40)
    assert_in_time(tracks)
    sound, pictures = tracks
    assert apart_ns(sound, pictures) <= BEFORE_REPORTS_NS


@pytest.mark.parametrize("encoding_ms", [0, 40, 100, 300, 500])
@pytest.mark.parametrize("network", [Network(), JITTER], ids=["calm", "jitter"])
def test_pictures_are_in_step_with_their_sound(encoding_ms: int, network: Network) -> None:
    camera = replace(CAMERA, encoding_ns=encoding_ms * MS, network=network)
    tracks = call(replace(MICROPHONE, network=network), camera, seconds=60)
    settled_ns = (
        12 * S if encoding_ms > 120 else 8 * S
    )  # more than a report or two are needed to believe much
    sound, pictures = tracks
    assert apart_ns(sound, pictures, since_ns=settled_ns) <= APART_NS
    assert apart_ns(sound, pictures, until_ns=3 * S) <= max(BEFORE_REPORTS_NS, encoding_ms * MS)


@pytest.mark.parametrize("slower_ms", [90, 150, 230, 400])
def test_an_encoder_that_gets_quicker_takes_its_pictures_along(slower_ms: int) -> None:
    """A busy sender is no longer busy: its pictures lie where they did, beside their sound."""
    busy = Network(slower=((Span(0, 20 * S), slower_ms * MS), (Span(40 * S, 10 * S), slower_ms * MS)))
    sound, pictures = call(MICROPHONE, replace(CAMERA, network=busy), seconds=60)
    assert apart_ns(sound, pictures, since_ns=12 * S, until_ns=39 * S) <= APART_NS
    assert apart_ns(sound, pictures, since_ns=51 * S) <= APART_NS


@pytest.mark.parametrize("long_ms", [300, 500, 700])
@pytest.mark.parametrize("queue_ms", [150, 200, 300])
def test_what_waits_behind_a_large_picture_stays_where_it_was(queue_ms: int, long_ms: int) -> None:
    """A narrow path. Its sound is late, and ever less: no pause is made of that."""
    queues = tuple((Span(at_s * S, long_ms * MS), queue_ms * MS) for at_s in range(8, 36, 2))
    network = Network(queues=queues, keeps_order=True, jitter_ns=5 * MS)
    tracks = call(replace(MICROPHONE, network=network), replace(CAMERA, network=network), seconds=40)
    assert_in_time(tracks)
    sound, pictures = tracks
    assert apart_ns(sound, pictures, since_ns=8 * S) <= APART_NS
    offsets = [each.placed_ns - each.truth.captured_ns for each in sound.received]
    assert max(offsets) - min(offsets) <= APART_NS


def test_pictures_and_sound_of_a_way_that_gets_slower_move_together() -> None:
    slower = tuple((Span(at_s * S, 2 * S), 100 * MS) for at_s in range(8, 36, 4))
    network = Network(slower=slower, keeps_order=True, jitter_ns=10 * MS)
    tracks = call(replace(MICROPHONE, network=network), replace(CAMERA, network=network), seconds=40)
    assert_in_time(tracks)
    sound, pictures = tracks
    for at_s in range(8, 36, 4):
        # Pictures are led there within a second, and the way is quick again soon after.
        since_ns, until_ns = at_s * S + 1300 * MS, at_s * S + 1900 * MS
        assert apart_ns(sound, pictures, since_ns=since_ns, until_ns=until_ns) <= APART_NS


def test_a_day_of_a_call_with_clocks_that_part() -> None:
    """RTP time wraps at 13.25 h (90 kHz) and 24.8 h (48 kHz)."""
    hours = 26 * 3600 * S
    sparse: dict[str, Any] = {"every_ns": 5 * S, "ends_ns": hours}
    tracks = call(
        replace(MICROPHONE, clock=Clock(ppm=200), first_rtp=0xFFFFFF00, **sparse),
        replace(CAMERA, clock=Clock(ppm=200), **sparse),
        seconds=hours / S,
    )
    assert_in_time(tracks)
    sound, pictures = tracks
    assert apart_ns(sound, pictures, since_ns=60 * S) <= APART_NS


def test_a_track_unmuted_after_an_hour() -> None:
    muted = speech((5, 3600))
    tracks = call(
        replace(MICROPHONE, mutes=muted, clock=Clock(ppm=-200)),
        replace(CAMERA, every_ns=S, clock=Clock(ppm=-200)),
        seconds=3620,
    )
    assert_in_time(tracks)


@pytest.mark.parametrize("publication", [MICROPHONE, CAMERA, replace(CAMERA, every_ns=2 * S)])
def test_frames_are_handed_out_soon(publication: Publication) -> None:
    (track,) = call(publication, seconds=20)
    waits = [each.given_ns - each.truth.arrived_ns for each in track.received]
    assert max(waits) <= 120 * MS
    assert max(waits[7:]) == 0


# --- whatever happens together


def spans(most_s: float) -> st.SearchStrategy[tuple[Span, ...]]:
    span = st.tuples(st.integers(1, 29), st.floats(0.02, most_s)).map(
        lambda each: Span(each[0] * S, int(each[1] * S))
    )
    return st.lists(span, max_size=6).map(_apart)


def _apart(found: list[Span]) -> tuple[Span, ...]:
    kept: list[Span] = []
    for span in sorted(found, key=lambda each: each.at_ns):
        if not kept or span.at_ns > kept[-1].at_ns + kept[-1].long_ns + S:
            kept.append(span)
    return tuple(kept)


NETWORKS = st.builds(
    Network,
    delay_ns=st.integers(1, 200).map(lambda ms: ms * MS),
    jitter_ns=st.sampled_from([0, 5, 30, 100]).map(lambda ms: ms * MS),
    keeps_order=st.booleans(),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.2]),
    resends=st.booleans(),
    held=spans(2.0),
)
REPORTS = st.sampled_from(
    [sane, sane, sane, no_reports, bad_once, off(-30), off(1.5), off(3600), nothing_known]
)
CLOCKS = st.builds(
    Clock, off_ns=st.sampled_from([0, -3 * S, 7200 * S]), ppm=st.sampled_from([0.0, 200.0, -200.0])
)
MICROPHONES = st.builds(
    Publication,
    st.just(AUDIO),
    source=st.just(TrackSource.MICROPHONE),
    network=NETWORKS,
    clock=CLOCKS,
    stalls=spans(5.0),
    dtx=spans(3.0),
    mutes=spans(2.0),
    reports=REPORTS,
    red=st.booleans(),
    first_rtp=st.integers(0, 0xFFFFFFFF),
    first_report_ns=st.integers(100, 6000).map(lambda ms: ms * MS),
)

ONE_RIVAL = replace(
    MICROPHONE,
    network=Network(
        52 * MS,
        jitter_ns=5 * MS,
        resends=True,
        held=speech((8, 1.627), (14, 0.519), (23, 1.878), (26, 0.25)),
    ),
    clock=Clock(ppm=-200.0),
    stalls=speech((12, 1.447729618), (22, 1.612293664)),
    mutes=speech((4, 1.218), (14, 0.785), (27, 1.865)),
    red=True,
    first_rtp=3319651637,
    first_report_ns=3676 * MS,
)
"""The camera's reports are off by 1.5 s, and one of the sound by as much: together they seem to agree."""
RIVALS_BY_CHANCE = replace(
    MICROPHONE,
    network=Network(193 * MS, jitter_ns=5 * MS, loss=0.01, resends=True),
    clock=Clock(7200 * S),
    stalls=speech((10, 1.602594653), (13, 1.393573433), (16, 1.357256242), (25, 1.533662935)),
    mutes=speech((5, 1.064), (8, 1.89), (28, 0.157)),
    reports=off(1.5),
    first_rtp=1242062667,
    first_report_ns=1790 * MS,
)
"""After pauses of nearly the same length three reports are off by the same, against ones that are off too."""

HELD_AND_LOST = replace(
    MICROPHONE,
    network=Network(
        3 * MS,
        jitter_ns=5 * MS,
        loss=0.01,
        held=speech((1, 0.02), (18, 0.5), (20, 1.845901217), (29, 1.393303535)),
    ),
    dtx=speech((26, 0.02), (29, 1.393303535)),
    mutes=speech((5, 1.086475353)),
    first_rtp=0,
    first_report_ns=100 * MS,
)
"""Pictures that waited behind a network's pause follow ten seconds of pictures that cannot be decoded."""


@settings(
    max_examples=SCENARIOS,
    derandomize="SCENARIOS" not in os.environ,  # `make simulate` draws others
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(
    microphone=MICROPHONES,
    reports=REPORTS,
    encoding_ms=st.integers(5, 120),
    reading=st.sampled_from(list(READING.values())),
)
@example(ONE_RIVAL, off(1.5), 118, READING["relaxed later"])
@example(RIVALS_BY_CHANCE, sane, 106, READING["read at once"])
@example(HELD_AND_LOST, sane, 5, READING["read at once"])
def test_whatever_happens_frames_lie_where_a_listener_had_them(
    microphone: Publication, reports: Reports, encoding_ms: int, reading: Reading
) -> None:
    camera = replace(
        CAMERA,
        encoding_ns=encoding_ms * MS,
        # Nobody answers requests for key frames.
        network=replace(microphone.network, loss=min(microphone.network.loss, 0.01)),
        clock=microphone.clock,
        reports=reports,
    )
    assert_in_time(call(microphone, camera, seconds=32, reading=reading))


# --- what is heard of it in a recording


class Levels:
    """Decodes a packet of the simulation to 20 ms at a level that is its own."""

    def __init__(self, codec: AudioCodec) -> None:
        self.codec = codec

    def decode(self, data: bytes) -> Samples:
        return np.full((OPUS_20_MS, 2), level_of(int.from_bytes(data[-8:])), np.int16)


def level_of(captured_ns: int) -> int:
    return 2_000 + captured_ns // (20 * MS) % 24_000


TRACK = Track(
    "TR_0",
    "m",
    AUDIO,
    TrackSource.MICROPHONE,
    "audio/opus",
    Participant("P", "ada", "", "standard"),
    muted=False,
)


CAMERA_TRACK = replace(
    TRACK, sid="TR_1", name="c", kind=VIDEO, source=TrackSource.CAMERA, mime_type="video/VP8"
)


@dataclass
class Heard:
    at_ns: int
    samples: int


def mixed(
    microphone: Publication,
    seconds: float,
    camera: Publication | None = None,
    reading: Reading | None = None,
) -> tuple[SimulatedTrack, dict[int, Heard]]:
    """The track, and by level where and for how long it is heard in a composite."""
    simulated = SimulatedCall(reading)
    track = simulated.publish(microphone)
    session = SimpleNamespace(
        now_ns=lambda: WALL_NS + simulated.now_ns,
        request_key_frame=lambda sid: None,
        drain=lambda: simulated.socket.drain(simulated.now_ns),
    )
    video = VideoEncoding(16, 16, 30, 100, 2.0) if camera is not None else None
    source = RoomFrameSource(cast(TrackFollower, session), video, with_audio=True)
    source._timeline.zero_ns = WALL_NS
    blocks: list[bytes] = []
    sink = SimpleNamespace(audio=lambda data, *_: blocks.append(data), video=lambda *_: None)
    source._sink = cast("object", sink)  # type: ignore[assignment]
    scene = whole(CAMERA_TRACK) if camera is not None else NO_PICTURE
    source.on_selection(Selection(scene, (Routed(TRACK, Channel.BOTH),)))
    track.listeners.append(lambda frame: source.on_frame(TRACK, frame))
    if camera is not None:
        simulated.publish(camera).listeners.append(lambda frame: source.on_frame(CAMERA_TRACK, frame))
    while simulated.now_ns < int((seconds + 2) * S):
        simulated.run(simulated.now_ns + 40 * MS)
        if simulated.reading.free_ns(simulated.now_ns) == simulated.now_ns:
            source._drain.look()
        source._take(simulated.now_ns)
        source._give(WALL_NS + simulated.now_ns)
    samples = np.frombuffer(b"".join(blocks), np.int16).reshape(-1, 2)[:, 0]
    heard: dict[int, Heard] = {}
    changes = np.flatnonzero(np.diff(samples)) + 1
    for part, at in zip(np.split(samples, changes), [0, *changes], strict=True):
        if part[0]:
            known = heard.setdefault(int(part[0]), Heard(int(at) * S // SAMPLE_RATE, 0))
            known.samples += len(part)
    return track, heard


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(track_decoder, "AudioDecoder", Levels)
    yield


HEARD = [
    pytest.param(MICROPHONE, id="nothing wrong"),
    pytest.param(replace(MICROPHONE, stalls=speech((4, 0.5), (8, 6), (18, 1), (23, 5))), id="turns"),
    pytest.param(replace(MICROPHONE, stalls=every(5, 0.3)), id="0.3 s every 5 s"),
    pytest.param(replace(MICROPHONE, stalls=every(1, 0.05)), id="0.05 s every second"),
    pytest.param(replace(MICROPHONE, network=JITTER), id="jitter"),
    pytest.param(replace(MICROPHONE, network=Network(held=every(10, 3))), id="a network that stops"),
    pytest.param(replace(MICROPHONE, jumps=((10 * S, 1 << 31), (20 * S, -960_000))), id="restarted"),
    pytest.param(replace(MICROPHONE, clock=Clock(ppm=200)), id="a clock that runs away"),
]


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize("microphone", HEARD)
async def test_every_packet_is_heard_whole_and_in_time_in_a_mix(microphone: Publication) -> None:
    seconds = 35.0
    track, heard = mixed(replace(microphone, ends_ns=int(seconds * S)), seconds)
    is_bursty = bool(microphone.network.held)
    # Of the first two a part lies before the beginning, and of what is late at the end a part behind it.
    for each in [each for each in track.received[2:] if each.truth.arrived_ns < 30 * S]:
        found = heard[level_of(each.truth.captured_ns)]
        assert found.samples >= OPUS_20_MS * 0.85
        assert found.at_ns >= each.truth.earliest_ns - WRONG_NS
        late_ns = found.at_ns - max(each.placed_ns, each.truth.earliest_ns)
        assert late_ns <= (3 * S if is_bursty else WRONG_NS)


async def test_sound_that_a_network_held_up_is_made_up_for(levels: None) -> None:
    """Three seconds of speech come at once; half a minute later the recording is in time again."""
    publication = replace(MICROPHONE, network=Network(held=speech((10, 3))), ends_ns=50 * S)
    track, heard = mixed(publication, 50)
    late = {
        each.truth.captured_ns: heard[level_of(each.truth.captured_ns)].at_ns for each in track.received[2:]
    }
    assert max(at_ns - captured_ns for captured_ns, at_ns in late.items() if captured_ns > 45 * S) <= WRONG_NS


async def test_sound_that_came_while_the_event_loop_was_held_up_is_not_late(levels: None) -> None:
    """The thread that mixes runs on meanwhile: it waits for what nobody has looked at."""
    reading = Reading(busy=speech((5, 0.5), (10, 3), (20, 1.5)))
    track, heard = mixed(replace(MICROPHONE, ends_ns=30 * S), 30, reading=reading)
    late = [heard[level_of(each.truth.captured_ns)].at_ns - each.placed_ns for each in track.received[2:]]
    assert len(late) > 1450
    assert max(late) <= 20 * MS


@dataclass(frozen=True, slots=True)
class Captured:
    """A picture of the simulation: all it shows is when it was captured."""

    captured_ns: int
    pts: int
    width: int = 320
    height: int = 180


class CaptureTimes:
    """Decodes pictures of the simulation."""

    awaits_key = False
    depth = 0

    def __init__(self, codec: VideoCodec, most_pixels: int) -> None:
        self.codec = codec

    def decode(self, data: bytes, pts_ns: int, **_: bool) -> list[Captured]:
        return [Captured(int.from_bytes(data[-8:]), pts_ns)]


@pytest.mark.parametrize("held", [(), speech((10, 3)), speech((6, 0.4), (12, 1), (15, 2))], ids=len)
async def test_pictures_of_a_composite_keep_to_sound_that_is_heard_late(
    held: tuple[Span, ...], levels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a network held up comes at once, sound is made up for later, and pictures with it."""
    shown: list[tuple[int, int]] = []

    def draw(view: TileView, canvas: object, slot_ns: int, newest: Picture | None) -> bool:
        if newest is not None:
            shown.append((slot_ns, cast("Captured", newest.frame).captured_ns))
        return True

    monkeypatch.setattr(track_decoder, "VideoDecoder", CaptureTimes)
    monkeypatch.setattr(TileView, "draw", draw)
    network = Network(held=held)
    microphone = replace(MICROPHONE, network=network, ends_ns=30 * S)
    track, heard = mixed(microphone, 30, replace(CAMERA, network=network, ends_ns=30 * S))
    spoken = sorted(
        (heard[level_of(captured_ns)].at_ns, captured_ns)
        for captured_ns in (each.truth.captured_ns for each in track.received[2:])
    )
    apart = []
    for slot_ns, captured_ns in shown:
        index = bisect_right(spoken, (slot_ns, 1 << 62)) - 1
        if slot_ns > 9 * S and slot_ns - spoken[index][0] < 40 * MS:  # somebody is heard
            apart.append(spoken[index][1] + slot_ns - spoken[index][0] - captured_ns)
    assert len(apart) > 400
    # A picture is shown for a slot, and up to one after its time.
    assert min(apart) >= -APART_NS and max(apart) <= APART_NS + 2 * S // 30


@pytest.mark.parametrize("microphone", HEARD)
def test_every_packet_is_written_whole_and_in_time_as_it_is(microphone: Publication) -> None:
    """Recorded as it is: nobody is quiet in this call, so nothing is left out."""
    pts = AudioPts(AudioCodec.OPUS, lambda data: False)
    written: dict[bytes, int] = {}
    ends: list[tuple[int, int]] = []

    def write(frame: EncodedFrame) -> None:
        for each in pts.place(frame.at_ns - WALL_NS, frame.rtp_timestamp, frame.data):
            ends.append((each.pts, each.pts + each.duration))
            if each.data == frame.data:
                written[frame.data] = each.pts * S // 48_000

    simulated = SimulatedCall()
    track = simulated.publish(microphone)
    track.listeners.append(write)
    simulated.run(35 * S)
    simulated.finish()
    assert len(written) == len(track.received)
    for one, another in pairwise(ends):
        assert abs(another[0] - one[1]) <= OPUS_20_MS // 200
    for each in track.received:
        _assert_written(each, written[each.frame.data])


# --- what is written of sound and picture as they are sent, over a poor network


LOSSY = Network(loss=0.01, resends=True)
POOR = {
    "nothing wrong": Network(),
    "loss of 1 %": LOSSY,
    "loss of 1 %, far away": replace(LOSSY, delay_ns=150 * MS),
    "loss of 5 %": replace(LOSSY, loss=0.05),
    "loss of 20 %": replace(LOSSY, loss=0.2),
    "jitter": JITTER,
    "jitter of a queue": replace(JITTER, keeps_order=True),
    "jitter, and loss": replace(JITTER, loss=0.01, resends=True),
}


@dataclass
class Written:
    """Of one packet: when it was captured, and where it lies in the file."""

    captured_ns: int
    at_ns: int


async def passed_through(
    microphone: Publication, camera: Publication, reading: Reading, seconds: float, seed: int = 0
) -> tuple[list[Written], list[Written]]:
    """Sound and pictures of a track composite. Nobody is quiet in this call."""
    simulated = SimulatedCall(reading, seed)
    sound, pictures = simulated.publish(microphone), simulated.publish(camera)
    session = SimpleNamespace(
        now_ns=lambda: WALL_NS + simulated.now_ns,
        request_key_frame=lambda sid: None,
        batch_reads=lambda: None,
        arrived={},
    )
    source = RoomPacketSource(cast(TrackFollower, session))
    source._tracks = {AUDIO: TRACK, VIDEO: CAMERA_TRACK}
    source._formats = {
        AUDIO: audio_format(AudioCodec.OPUS),
        VIDEO: video_format(VideoCodec.VP8, b"", 640, 360),
    }
    source._make_parts()
    audio = source._audio
    assert audio is not None
    audio._pts = AudioPts(AudioCodec.OPUS, lambda data: False)
    written: dict[MediaKind, list[Written]] = {AUDIO: [], VIDEO: []}
    ends: list[tuple[int, int]] = []

    def write(packet: Packet) -> None:
        if packet.kind is AUDIO:
            ends.append((packet.pts, packet.pts + packet.duration))
        if len(packet.data) > 8:
            at_ns = packet.pts * S * packet.time_base.numerator // packet.time_base.denominator
            at_ns += audio._zero_ns - WALL_NS
            written[packet.kind].append(Written(int.from_bytes(packet.data[-8:]), at_ns))

    sound.listeners.append(lambda frame: source.on_frame(TRACK, frame))
    pictures.listeners.append(lambda frame: source.on_frame(CAMERA_TRACK, frame))
    while not session.arrived or source._awaits_sound():
        simulated.run(simulated.now_ns + 10 * MS)
        if sound.receiver.codec is not None:
            session.arrived.setdefault(TRACK.sid, session.now_ns())
    await source.start(cast(PacketSink, SimpleNamespace(write=write)))
    simulated.run(int(seconds * S))
    simulated.finish()
    assert len(written[AUDIO]) == len(sound.received)
    assert all(abs(begin - end) <= OPUS_20_MS // 200 for (_, end), (begin, _) in pairwise(ends))
    return written[AUDIO], written[VIDEO]


def written_apart_ns(sound: list[Written], pictures: list[Written]) -> list[tuple[int, int]]:
    """(when it was captured, by how much sound lies behind it) of each picture."""
    heard = {each.captured_ns // (20 * MS): each.at_ns - each.captured_ns for each in sound}
    return [
        (each.captured_ns, heard[slot] - (each.at_ns - each.captured_ns))
        for each in pictures
        if (slot := each.captured_ns // (20 * MS)) in heard
    ]


@pytest.mark.parametrize("reading", READING.values(), ids=READING)
@pytest.mark.parametrize("network", POOR.values(), ids=POOR)
async def test_what_is_written_as_it_is_sent_is_in_step(network: Network, reading: Reading) -> None:
    for begins_ms in (0, 31, 77):
        microphone = replace(MICROPHONE, network=network, begins_ns=begins_ms * MS)
        camera = replace(CAMERA, network=replace(network, loss=min(network.loss, 0.05)))
        sound, pictures = await passed_through(microphone, camera, reading, 12)
        travelled_ns = network.delay_ns + microphone.encoding_ns
        late = [each.at_ns - each.captured_ns - travelled_ns for each in sound]
        assert min(late) >= -APART_NS and max(late) <= WRONG_NS
        apart = written_apart_ns(sound, pictures)
        assert max(abs(by_ns) for _, by_ns in apart) <= BEFORE_REPORTS_NS
        assert max(abs(by_ns) for at_ns, by_ns in apart if at_ns > 8 * S) <= APART_NS


def _assert_written(each: Received, at_ns: int) -> None:
    assert each.truth.earliest_ns - WRONG_NS <= at_ns <= each.truth.arrived_ns + WRONG_NS
