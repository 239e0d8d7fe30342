"""Which tracks an egress takes: tables of rooms and requests."""

from typing import Literal

import pytest

from openegress.core.codecs import MediaKind
from openegress.core.plan import AudioRoute, MediaSource, ParticipantVideo, TrackVideo
from openegress.media.mixer import Channel
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.selection import (
    NOTHING,
    Missing,
    Rule,
    Verdict,
    missing,
    rule_of,
    select,
    verdict,
    wrong_kind,
)

ALICE = Participant("PA_1", "alice", "Alice", "standard")
BOB = Participant("PA_2", "bob", "Bob", "standard")
AGENT = Participant("PA_3", "helper", "Helper", "agent")

KINDS = {
    TrackSource.CAMERA: MediaKind.VIDEO,
    TrackSource.SCREEN_SHARE: MediaKind.VIDEO,
    TrackSource.MICROPHONE: MediaKind.AUDIO,
    TrackSource.SCREEN_SHARE_AUDIO: MediaKind.AUDIO,
}


def track(sid: str, who: Participant, source: TrackSource, *, muted: bool = False) -> Track:
    mime = "video/vp8" if KINDS[source] is MediaKind.VIDEO else "audio/opus"
    return Track(sid, source.value, KINDS[source], source, mime, who, muted)


CAMERA = track("TR_cam", ALICE, TrackSource.CAMERA)
MUTED_CAMERA = track("TR_cam", ALICE, TrackSource.CAMERA, muted=True)
SCREEN = track("TR_screen", ALICE, TrackSource.SCREEN_SHARE)
NEW_CAMERA = track("TR_cam2", ALICE, TrackSource.CAMERA)
MIC = track("TR_mic", ALICE, TrackSource.MICROPHONE)
SCREEN_SOUND = track("TR_sound", ALICE, TrackSource.SCREEN_SHARE_AUDIO)
BOBS_CAMERA = track("TR_bobcam", BOB, TrackSource.CAMERA)
BOBS_MIC = track("TR_bobmic", BOB, TrackSource.MICROPHONE)
AGENTS_VOICE = track("TR_agent", AGENT, TrackSource.MICROPHONE)

ALL = (AudioRoute("all"),)
OF_ALICE = (AudioRoute("participant", "alice"),)
WITHOUT_BOB = (AudioRoute("participant", "bob", exclude=True),)


def named(
    name: str, channel: Literal["both", "left", "right"] = "both", *, exclude: bool = False
) -> AudioRoute:
    return AudioRoute("any", "", channel, name, exclude)


def request(
    video: TrackVideo | ParticipantVideo | None = None,
    audio: tuple[AudioRoute, ...] = (),
    single: str = "",
    participant: str = "",
) -> MediaSource:
    return MediaSource("room", "ws://host", "token", video, audio, single, participant)


@pytest.mark.parametrize(
    ("video", "tracks", "expected"),
    [
        (TrackVideo("TR_cam"), [BOBS_CAMERA, CAMERA], "TR_cam"),
        (TrackVideo("TR_gone"), [CAMERA], ""),
        (TrackVideo("TR_mic"), [MIC], ""),
        (ParticipantVideo("alice"), [BOBS_CAMERA, SCREEN, CAMERA], "TR_cam"),
        (ParticipantVideo("alice"), [SCREEN, MIC], "TR_screen"),
        (ParticipantVideo("alice", prefer_screen_share=True), [CAMERA, SCREEN], "TR_screen"),
        (ParticipantVideo("alice", prefer_screen_share=True), [CAMERA], "TR_cam"),
        (ParticipantVideo("alice"), [MUTED_CAMERA, SCREEN], "TR_screen"),
        (ParticipantVideo("alice"), [MUTED_CAMERA], "TR_cam"),
        (ParticipantVideo("alice"), [CAMERA, NEW_CAMERA], "TR_cam2"),
        (ParticipantVideo("carol"), [CAMERA, SCREEN], ""),
        (None, [CAMERA], ""),
    ],
)
def test_video(video: TrackVideo | ParticipantVideo | None, tracks: list[Track], expected: str) -> None:
    chosen = list(select(request(video, ALL), tracks).scene.tracks)
    assert [each.sid for each in chosen] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("routes", "tracks", "expected"),
    [
        (ALL, [MIC, CAMERA, BOBS_MIC], {"TR_mic": "both", "TR_bobmic": "both"}),
        (OF_ALICE, [MIC, SCREEN_SOUND, BOBS_MIC], {"TR_mic": "both", "TR_sound": "both"}),
        ((AudioRoute("track", "TR_mic", "left"),), [MIC, BOBS_MIC], {"TR_mic": "left"}),
        (
            (AudioRoute("participant", "alice", "left"), AudioRoute("all", channel="right")),
            [MIC, BOBS_MIC, AGENTS_VOICE],
            {"TR_mic": "left", "TR_bobmic": "right", "TR_agent": "right"},
        ),
        (
            (AudioRoute("kind", "agent", "left"), AudioRoute("not_kind", "agent", "right")),
            [MIC, AGENTS_VOICE, BOBS_MIC],
            {"TR_mic": "right", "TR_agent": "left", "TR_bobmic": "right"},
        ),
        (
            (AudioRoute("participant", "alice", "left"), AudioRoute("track", "TR_mic", "right")),
            [MIC],
            {"TR_mic": "both"},
        ),
        (
            (AudioRoute("alternate"),),
            [MIC, BOBS_MIC, AGENTS_VOICE],
            {"TR_mic": "left", "TR_bobmic": "right", "TR_agent": "left"},
        ),
        ((), [MIC], {}),
        ((*WITHOUT_BOB, *ALL), [MIC, BOBS_MIC, AGENTS_VOICE], {"TR_mic": "both", "TR_agent": "both"}),
        ((*ALL, *WITHOUT_BOB), [MIC, BOBS_MIC], {"TR_mic": "both"}),
        ((AudioRoute("track", "TR_bobmic", "left"), *WITHOUT_BOB), [MIC, BOBS_MIC], {}),
        ((AudioRoute("kind", "agent", exclude=True), *ALL), [MIC, AGENTS_VOICE], {"TR_mic": "both"}),
        ((AudioRoute("track", "TR_mic", exclude=True), *ALL), [MIC, SCREEN_SOUND], {"TR_sound": "both"}),
        ((named("microphone", exclude=True), *ALL), [MIC, BOBS_MIC, SCREEN_SOUND], {"TR_sound": "both"}),
        (
            (named("microphone", "left"),),
            [MIC, BOBS_MIC, SCREEN_SOUND],
            {"TR_mic": "left", "TR_bobmic": "left"},
        ),
        (
            (AudioRoute("participant", "alice", track_name="microphone"),),
            [MIC, BOBS_MIC, SCREEN_SOUND],
            {"TR_mic": "both"},
        ),
        (
            (AudioRoute("participant", "alice", "left"), AudioRoute("all")),
            [MIC, BOBS_MIC],
            {"TR_mic": "left", "TR_bobmic": "both"},
        ),
    ],
)
def test_audio(routes: tuple[AudioRoute, ...], tracks: list[Track], expected: dict[str, str]) -> None:
    routed = select(request(audio=routes), tracks).audio
    assert {each.track.sid: each.channel.value for each in routed} == expected


@pytest.mark.parametrize(
    ("single", "expected"), [("TR_cam", ["TR_cam"]), ("TR_mic", ["TR_mic"]), ("TR_gone", [])]
)
def test_single_track_of_either_kind(single: str, expected: list[str]) -> None:
    chosen = select(request(single=single), [CAMERA, MIC, BOBS_MIC])
    assert [each.sid for each in chosen.tracks] == expected


def test_what_is_excluded_by_its_id_stays_so_under_another_one() -> None:
    """After the connection was lost a track may be published anew."""
    source = request(audio=(AudioRoute("track", "TR_mic", exclude=True), *ALL))
    first = select(source, [MIC, BOBS_MIC])
    again = [track("TR_new", ALICE, TrackSource.MICROPHONE), BOBS_MIC]
    assert [each.track.sid for each in select(source, again, first, rejoined=True).audio] == ["TR_bobmic"]


def test_nobody_waits_for_what_is_excluded() -> None:
    source = request(audio=(AudioRoute("track", "TR_gone", exclude=True), *ALL))
    assert missing(source, select(source, [MIC]), [MIC], [ALICE]) == (Missing.NOTHING, "")
    assert rule_of(source) is Rule.ROOM
    assert wrong_kind(source, [CAMERA]) == ""
    assert rule_of(request(audio=(AudioRoute("track", "TR_mic"), *WITHOUT_BOB))) is Rule.TRACKS


@pytest.mark.parametrize(
    "excluded",
    [
        AudioRoute("track", "TR_bobmic", exclude=True),
        AudioRoute("participant", "bob", "left", exclude=True),
        AudioRoute("participant", "bob", "right", "microphone", exclude=True),
    ],
    ids=["track", "participant", "name"],
)
@pytest.mark.parametrize(
    "others",
    [
        (AudioRoute("alternate"),),
        (AudioRoute("participant", "alice", "left"), AudioRoute("kind", "agent", "right")),
        (AudioRoute("kind", "agent", "right"), AudioRoute("all", channel="left")),
    ],
    ids=["alternate", "routes", "rest"],
)
def test_what_is_excluded_takes_no_side(others: tuple[AudioRoute, ...], excluded: AudioRoute) -> None:
    """Wherever its route stands, and wherever among the tracks it was published."""
    for tracks in ([BOBS_MIC, MIC, AGENTS_VOICE], [MIC, BOBS_MIC, AGENTS_VOICE]):
        for routes in ((excluded, *others), (*others, excluded)):
            chosen = select(request(audio=routes), tracks)
            assert {each.track.sid: each.channel for each in chosen.audio} == {
                "TR_mic": Channel.LEFT,
                "TR_agent": Channel.RIGHT,
            }
            assert BOBS_MIC.key not in chosen.sides


def test_alternating_tracks_keep_their_side() -> None:
    source = request(audio=(AudioRoute("alternate"),))
    first = select(source, [MIC, BOBS_MIC])
    without_alice = select(source, [BOBS_MIC], first)
    back = select(
        source, [BOBS_MIC, AGENTS_VOICE, track("TR_new", ALICE, TrackSource.MICROPHONE)], without_alice
    )
    assert {each.track.sid: each.channel for each in back.audio} == {
        "TR_bobmic": Channel.RIGHT,
        "TR_agent": Channel.LEFT,
        "TR_new": Channel.LEFT,
    }


@pytest.mark.parametrize(("rejoined", "expected"), [(True, "TR_cam2"), (False, "")])
def test_named_track_is_known_by_another_id_only_after_joining_anew(rejoined: bool, expected: str) -> None:
    source = request(TrackVideo("TR_cam"))
    before = select(source, [CAMERA])
    chosen = select(source, [NEW_CAMERA], before, rejoined=rejoined)
    assert [each.sid for each in chosen.tracks] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (request(single="TR_cam"), Rule.TRACKS),
        (request(TrackVideo("TR_cam"), (AudioRoute("track", "TR_mic"),)), Rule.TRACKS),
        (request(ParticipantVideo("alice"), OF_ALICE, participant="alice"), Rule.PARTICIPANT),
        (request(audio=ALL), Rule.ROOM),
        (request(TrackVideo("TR_cam"), ALL), Rule.ROOM),
        (request(ParticipantVideo("alice")), Rule.ROOM),
    ],
)
def test_rule(source: MediaSource, rule: Rule) -> None:
    assert rule_of(source) is rule


@pytest.mark.parametrize(
    ("source", "tracks", "participants", "expected"),
    [
        (request(single="TR_cam"), [], [], (Missing.TRACK, "TR_cam")),
        (request(single="TR_cam"), [CAMERA], [ALICE], (Missing.NOTHING, "")),
        (
            request(TrackVideo("TR_cam"), (AudioRoute("track", "TR_mic"),)),
            [CAMERA],
            [ALICE],
            (Missing.TRACK, "TR_mic"),
        ),
        (
            request(ParticipantVideo("alice"), OF_ALICE, participant="alice"),
            [BOBS_MIC],
            [BOB],
            (Missing.PARTICIPANT, "alice"),
        ),
        (
            request(ParticipantVideo("alice"), OF_ALICE, participant="alice"),
            [],
            [ALICE],
            (Missing.PUBLICATION, "alice"),
        ),
        (
            request(ParticipantVideo("alice"), OF_ALICE, participant="alice"),
            [MIC],
            [ALICE],
            (Missing.NOTHING, ""),
        ),
        (request(audio=ALL), [], [], (Missing.NOTHING, "")),
    ],
)
def test_what_a_start_waits_for(
    source: MediaSource, tracks: list[Track], participants: list[Participant], expected: tuple[Missing, str]
) -> None:
    assert missing(source, select(source, tracks), tracks, participants) == expected


@pytest.mark.parametrize(
    ("source", "tracks", "participants", "rejoined", "expected"),
    [
        (request(single="TR_cam"), [], [ALICE], False, Verdict.END),
        (request(single="TR_cam"), [], [ALICE], True, Verdict.END_UNLESS_BACK),
        (
            request(TrackVideo("TR_cam"), (AudioRoute("track", "TR_mic"),)),
            [MIC],
            [ALICE],
            False,
            Verdict.GO_ON,
        ),
        (request(audio=OF_ALICE, participant="alice"), [], [ALICE], False, Verdict.GO_ON),
        (request(audio=OF_ALICE, participant="alice"), [BOBS_MIC], [BOB], False, Verdict.END_UNLESS_BACK),
        (request(audio=ALL), [], [], False, Verdict.GO_ON),
    ],
)
def test_what_ends_a_recording(
    source: MediaSource,
    tracks: list[Track],
    participants: list[Participant],
    rejoined: bool,
    expected: Verdict,
) -> None:
    assert verdict(source, select(source, tracks), participants, rejoined=rejoined) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (request(TrackVideo("TR_mic")), "TR_mic"),
        (request(audio=(AudioRoute("track", "TR_cam"),)), "TR_cam"),
        (request(TrackVideo("TR_cam"), (AudioRoute("track", "TR_mic"),)), ""),
    ],
)
def test_tracks_of_the_wrong_kind(source: MediaSource, expected: str) -> None:
    assert wrong_kind(source, [CAMERA, MIC]) == expected


def test_nothing_has_no_tracks() -> None:
    assert NOTHING.tracks == ()
