"""Tracks that a media source chooses for one file, each for itself: which, and what ends their recording."""

from dataclasses import replace

import pytest

from openegress.core.plan import AudioRoute, MediaSource, ParticipantVideo
from openegress.core.routes import VideoRoute
from openegress.room import Participant, Track
from openegress.source.room.every_track import ChosenTracks
from openegress.source.room.selection import NOTHING, Missing, Verdict
from openegress.source.room.track_policy import RoomState
from tests.unit.test_room_tracks_source import camera, microphone, person

ADA, BOB = person("ada"), person("bob")
ADA_CAM, ADA_MIC = camera("ada"), microphone("ada")
BOB_CAM, BOB_MIC = camera("bob"), microphone("bob")
SLIDES = replace(camera("bob", "TR_slides"), name="slides")
EVERYTHING = (ADA_CAM, ADA_MIC, BOB_CAM, BOB_MIC, SLIDES)
ALL = VideoRoute("all")


def chosen(
    *videos: VideoRoute, audio: tuple[AudioRoute, ...] = (), video: ParticipantVideo | None = None
) -> MediaSource:
    return MediaSource("room", "ws://h", "token", video=video, audio=audio, videos=videos)


def room(tracks: tuple[Track, ...] = EVERYTHING, people: tuple[Participant, ...] = (ADA, BOB)) -> RoomState:
    return RoomState(tracks, people)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (chosen(ALL), {ADA_CAM, BOB_CAM, SLIDES}),
        (chosen(VideoRoute("participant", "bob")), {BOB_CAM, SLIDES}),
        (chosen(VideoRoute("participant", "bob", "slides")), {SLIDES}),
        (chosen(VideoRoute("any", track_name="slides"), VideoRoute("track", ADA_CAM.sid)), {ADA_CAM, SLIDES}),
        (chosen(VideoRoute("participant", "bob", exclude=True), ALL), {ADA_CAM}),
        (chosen(ALL, VideoRoute("track", SLIDES.sid, exclude=True)), {ADA_CAM, BOB_CAM}),
        (chosen(ALL, VideoRoute("any", track_name="slides", exclude=True)), {ADA_CAM, BOB_CAM}),
        (chosen(VideoRoute("track", BOB_MIC.sid)), set()),
        (chosen(audio=(AudioRoute("participant", "ada"),)), {ADA_MIC}),
        (
            chosen(ALL, audio=(AudioRoute("participant", "ada", exclude=True), AudioRoute("all"))),
            {ADA_CAM, BOB_CAM, SLIDES, BOB_MIC},
        ),
        (chosen(video=ParticipantVideo("ada"), audio=(AudioRoute("all"),)), {ADA_CAM, ADA_MIC, BOB_MIC}),
    ],
)
def test_what_is_recorded(source: MediaSource, expected: set[Track]) -> None:
    found = ChosenTracks(source).select(room(), NOTHING)
    assert set(found.tracks) == expected
    assert not found.qualities, "the best there is"


def test_a_choice_that_others_may_be_of_ends_with_the_last_who_leaves() -> None:
    policy = ChosenTracks(chosen(VideoRoute("participant", "bob"), VideoRoute("track", ADA_CAM.sid)))
    assert policy.verdict(room((), ()), NOTHING) is Verdict.GO_ON, "nobody has come yet"
    assert policy.verdict(room((), (ADA,)), NOTHING) is Verdict.GO_ON
    assert policy.verdict(room((), ()), NOTHING) is Verdict.END


def test_tracks_by_their_ids_are_waited_for_and_end_it() -> None:
    policy = ChosenTracks(chosen(VideoRoute("track", ADA_CAM.sid), audio=(AudioRoute("track", BOB_MIC.sid),)))
    assert policy.missing(room((BOB_MIC,)), NOTHING) == (Missing.TRACK, ADA_CAM.sid)
    both = policy.select(room(), NOTHING)
    assert policy.missing(room(), both) == (Missing.NOTHING, "")
    one = policy.select(room((BOB_MIC,)), both)
    assert policy.verdict(room((BOB_MIC,)), one) is Verdict.GO_ON
    assert policy.verdict(room(()), policy.select(room(()), one)) is Verdict.END


@pytest.mark.parametrize("sid", [ADA_MIC.sid, ADA_CAM.sid])
def test_a_track_of_the_other_kind_is_told(sid: str) -> None:
    wrong = ChosenTracks(chosen(VideoRoute("track", sid), audio=(AudioRoute("track", sid),))).wrong_kind(
        room()
    )
    assert wrong == sid
    assert not ChosenTracks(chosen(VideoRoute("track", BOB_MIC.sid, exclude=True), ALL)).wrong_kind(room())
