"""How a room was at each moment of a recording of its tracks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from openegress.cli.compose import position_s
from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import EgressError
from openegress.core.units import S
from openegress.media.meeting_track import MeetingTrack, identity_as_stored
from openegress.source.room.meeting_history import (
    LINGER_NS,
    MeetingHistory,
    RoomChange,
    of_events,
    of_packets,
)
from openegress.source.room.meeting_lines import lines_of


def camera(
    identity: str, *spans: tuple[float, float], index: int = 0, source: str = "camera"
) -> MeetingTrack:
    spans_ns = tuple((round(since * S), round(until * S)) for since, until in spans)
    return MeetingTrack(
        index, MediaKind.VIDEO, VideoCodec.VP8, identity, identity.title(), source, "", 640, 360, spans_ns
    )


def microphone(identity: str, since: float, until: float, index: int) -> MeetingTrack:
    spans_ns = ((round(since * S), round(until * S)),)
    return MeetingTrack(
        index, MediaKind.AUDIO, AudioCodec.OPUS, identity, identity.title(), "microphone", "", 0, 0, spans_ns
    )


Seen = tuple[float, list[str], list[tuple[str, bool]], tuple[str, ...]]


def history(tracks: Sequence[MeetingTrack], lines: Sequence[dict[str, Any]] | None = None) -> list[Seen]:
    """(when, who is there, the SIDs of tracks and whether they are muted, who speaks)."""
    of_file = lines_of(tracks)
    changes = of_packets(of_file) if lines is None else of_events(lines)
    return [
        (
            moment.at_ns / S,
            [each.identity for each in moment.state.participants],
            [(each.sid, each.muted) for each in moment.state.tracks],
            tuple(moment.state.speakers),
        )
        for moment in MeetingHistory(of_file).moments(changes)
    ]


LINGER_S = LINGER_NS / S


def test_somebody_is_there_from_the_first_packet_to_the_last() -> None:
    tracks = [camera("ada", (0, 9)), microphone("ada", 1, 9.5, 1), camera("bob", (2, 4), index=2)]
    assert history(tracks) == [
        (0, ["ada"], [("0", False)], ()),
        (1, ["ada"], [("0", False), ("1", False)], ()),
        (2, ["ada", "bob"], [("0", False), ("1", False), ("2", False)], ()),
        (4 + LINGER_S, ["ada"], [("0", False), ("1", False)], ()),
        (9 + LINGER_S, ["ada"], [("1", False)], ()),
        (9.5 + LINGER_S, [], [], ()),
    ]


def test_a_camera_that_sends_nothing_is_muted_and_a_screen_is_not() -> None:
    assert history([camera("ada", (0, 1), (5, 6))]) == [
        (0, ["ada"], [("0", False)], ()),
        (1 + LINGER_S, ["ada"], [("0", True)], ()),
        (5, ["ada"], [("0", False)], ()),
        (6 + LINGER_S, [], [], ()),
    ]
    screen = camera("ada", (0, 1), (5, 6), source="screen_share")
    assert [seen[2] for seen in history([screen])] == [[("0", False)], []]


@pytest.mark.parametrize("media_s", [float("nan"), float("inf"), -float("inf"), 1e300, 10**400])
def test_a_time_that_is_none_is_told(media_s: float) -> None:
    with pytest.raises(EgressError, match=r'media_s of "track_published" is .*, which is not a time'):
        of_events([line(1.0, "participant_joined"), line(media_s, "track_published")])


def test_speakers_that_are_no_list_are_nobody() -> None:
    lines = [line(0, "participant_joined"), {"media_s": 1, "event": "active_speakers", "identities": 5}]
    assert history([camera("ada", (0, 1))], lines)[-1][3] == ()


def line(media_s: float, event: str, identity: str = "ada", **more: Any) -> dict[str, Any]:
    return {"media_s": media_s, "event": event, "identity": identity, **more}


CAMERA = {"kind": "video", "source": "camera"}


def test_events_say_it_better() -> None:
    lines = [
        line(0, "participant_joined", name="Ada"),
        line(0, "track_published", **CAMERA, muted=False),
        line(2, "track_muted", **CAMERA),
        line(3, "active_speakers", "", identities=["ada", "nobody"]),
        line(4, "track_unmuted", **CAMERA),
        line(8, "participant_left"),
        {"event": "no time"},
        {"media_s": "x", "event": "neither"},
    ]
    assert history([camera("ada", (1, 7))], lines) == [
        (0, ["ada"], [("0", False)], ()),
        (1, ["ada"], [("0", False)], ()),
        (2, ["ada"], [("0", True)], ()),
        (3, ["ada"], [("0", True)], ("ada",)),
        (4, ["ada"], [("0", False)], ("ada",)),
        (8, [], [], ()),
    ]


def test_a_long_identity_is_found_by_what_the_file_has_of_it() -> None:
    whole = "x" * 100
    lines = [line(0, "participant_joined", whole, name=""), line(0, "track_published", whole, **CAMERA)]
    lines.append(line(1, "active_speakers", "", identities=[whole]))
    assert history([camera(identity_as_stored(whole), (0, 3))], lines)[-1][2:] == (
        [("0", False)],
        (identity_as_stored(whole),),
    )


def test_long_identities_that_begin_alike_stay_apart() -> None:
    """Also those of which events tell the beginning alone."""
    first, second = identity_as_stored("x" * 100 + "1"), identity_as_stored("x" * 100 + "2")
    assert first != second and len(first.encode()) == len(second.encode()) == 64
    assert identity_as_stored(first) == first, "a clip has it as it was"
    assert identity_as_stored("é" * 300) == identity_as_stored("é" * 256)
    assert len(identity_as_stored("é" * 40).encode()) <= 64
    assert identity_as_stored("x" * 64) == "x" * 64


def formats(*formats_at_s: tuple[str, float, float]) -> list[MeetingTrack]:
    """One camera: (name of the format, from when, until when), each a file track with a size of its own."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, since, until in formats_at_s:
        found.setdefault(name, []).append((since, until))
    return [
        replace(
            camera("ada", *spans, index=index),
            width=100 + index,
            keys_ns=tuple(round(since * S) for since, _ in spans),
            track_id="TR_a",
        )
        for index, (name, spans) in enumerate(found.items())
    ]


TURNED = formats(("portrait", 0, 3), ("landscape", 3, 6), ("portrait", 6, 9))


@pytest.mark.parametrize("are_told", [False, True])
def test_a_phone_that_is_turned_and_turned_back_is_one_track(are_told: bool) -> None:
    """Its file has a track for each format."""
    told = [line(0, "participant_joined", name="Ada"), line(0, "track_published", **CAMERA, track_id="TR_a")]
    of_file = lines_of(TURNED)
    changes = of_events(told) if are_told else of_packets(of_file)
    moments = [each for each in MeetingHistory(of_file).moments(changes) if each.state.tracks]
    assert [
        (each.at_ns / S, *((t.sid, t.width, t.muted) for t in each.state.tracks)) for each in moments
    ] == [
        (0, ("0", 100, False)),
        (3, ("0", 101, False)),
        (6, ("0", 100, False)),
    ]


def camera_of(identity: str, sid: str, name: str, index: int, *spans: tuple[float, float]) -> MeetingTrack:
    return replace(camera(identity, *spans, index=index), track_id=sid, track_name=name)


@pytest.mark.parametrize("names", [("front", "back"), ("", "")])
def test_two_cameras_of_one_robot_are_two_tracks(names: tuple[str, str]) -> None:
    front, back = names
    tracks = [camera_of("ada", "TR_f", front, 0, (0, 9)), camera_of("ada", "TR_b", back, 1, (1, 9))]
    told = [
        line(0, "participant_joined", name=""),
        line(0, "track_published", **CAMERA, track_id="TR_f", name=front),
        line(0.5, "track_published", **CAMERA, track_id="TR_b", name=back),
        line(4, "track_muted", **CAMERA, track_id="TR_f"),
        line(5, "track_unpublished", **CAMERA, track_id="TR_b"),
        # It goes on in the same file track.
        line(6, "track_published", **CAMERA, track_id="TR_b2", name=back),
    ]
    assert [(at_s, tracks) for at_s, _, tracks, _ in history(tracks, told)] == [
        (0, [("0", False)]),
        (0.5, [("0", False), ("1", False)]),
        (1, [("0", False), ("1", False)]),
        (4, [("0", True), ("1", False)]),
        (5, [("0", True)]),
        (6, [("0", True), ("1", False)]),
    ]
    assert [seen[2] for seen in history(tracks)][:2] == [[("0", False)], [("0", False), ("1", False)]]


def test_a_new_publication_that_comes_before_the_end_of_the_former_one() -> None:
    """As servers report it; both were of one line."""
    tracks = [camera_of("ada", "TR_1", "", 0, (0, 3)), camera_of("ada", "TR_2", "", 1, (4, 6))]
    told = [
        line(0, "participant_joined", name=""),
        line(0, "track_published", **CAMERA, track_id="TR_1"),
        line(3, "track_published", **CAMERA, track_id="TR_2"),
        line(3.1, "track_unpublished", **CAMERA, track_id="TR_1"),
    ]
    assert [(at_s, [sid for sid, _ in tracks]) for at_s, _, tracks, _ in history(tracks, told)] == [
        (0, ["0"]),
        (3, ["silent TR_1", "0"]),
        (3.1, ["0"]),
        (4, ["0"]),
    ]


def test_what_is_published_again_goes_on_where_it_was() -> None:
    """A file track has the SID of its first publication; another one may begin later."""
    tracks = [
        camera_of("ada", "TR_1", "", 0, (0, 2), (4, 6)),
        camera_of("ada", "TR_3", "", 1, (8, 9)),
        camera_of("ada", "TR_4", "", 2, (8.5, 9)),
    ]
    told = [
        line(at_s, event, **CAMERA, track_id=sid)
        for sid, since, until in (("TR_1", 0, 2), ("TR_2", 3, 7), ("TR_3", 8, 9), ("TR_4", 8.2, 9))
        for at_s, event in ((since, "track_published"), (until, "track_unpublished"))
    ]
    seen = history(tracks, [line(0, "participant_joined", name=""), *told])
    assert [(at_s, [sid for sid, _ in tracks]) for at_s, _, tracks, _ in seen if tracks] == [
        (0, ["0"]),
        (3, ["0"]),
        (8, ["0"]),
        (8.2, ["0", "2"]),
        (8.5, ["0", "2"]),
    ]


def test_who_never_sends_anything_has_a_tile_as_live() -> None:
    """Muted from the start; but of an encrypted track without a key nobody has anything."""
    told = [
        line(0, "participant_joined", "bob", name="Bob"),
        line(0, "track_published", "bob", **CAMERA, track_id="TR_b", muted=True),
        line(0, "participant_joined", "eve", name="Eve"),
        line(0, "track_published", "eve", **CAMERA, track_id="TR_e", encrypted=True),
    ]
    ((_, people, tracks, _),) = history([], told)
    assert (people, tracks) == (["bob", "eve"], [("silent TR_b", True)])


def test_another_codec_of_the_same_camera_takes_its_place() -> None:
    lines = [line(0, "participant_joined", name=""), line(0, "track_published", **CAMERA)]
    tracks = [camera("ada", (0, 3)), camera("ada", (3, 6), index=1)]
    (one,) = lines_of(tracks)
    assert [track.index for track in one.tracks] == [0, 1]
    assert [seen[2] for seen in history(tracks, lines)] == [[("0", False)], [("0", False)]]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("10:00", 600), ("1:02:03.5", 3723.5), ("0", 0), ("0:90", 90)]
)
def test_a_place_in_a_recording(text: str, seconds: float) -> None:
    assert position_s(text) == seconds


@pytest.mark.parametrize("text", ["", ":", "1:2:3:4", "-1", "nan", "inf", "1h", "1:-2"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(EgressError, match="is not a place in a recording"):
        position_s(text)


def test_a_span_is_decoded_from_the_last_key_frames_before_it() -> None:
    pictures = replace(camera("ada", (0, 100)), keys_ns=(0, 20 * S, 39 * S, 60 * S))
    (whole,), (sound,) = lines_of([pictures]), lines_of([microphone("ada", 0, 100, 1)])
    assert [whole.begin_for(at_s * S) // S for at_s in (5, 21, 39, 40, 90)] == [0, 20, 20, 39, 60]
    assert sound.begin_for(40 * S) == 39 * S
    (turned,) = lines_of(TURNED)
    assert [turned.begin_for(at_s * S) // S for at_s in (3, 4, 6, 8)] == [0, 3, 3, 6]


def test_an_asked_layout_is_the_metadata_of_the_recorder() -> None:
    tracks = [camera("ada", (0, 9))]
    changes = [RoomChange(3 * S, "layout_asked", {"layout": "speaker?names=true"})]
    moments = MeetingHistory(lines_of(tracks)).moments(changes)
    assert [each.state.metadata for each in moments] == ["", '{"layout": "speaker?names=true"}']
