"""Who and what of a room is recorded: what a layout and a request for tracks see of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.core.plan import AudioRoute, MediaSource, ParticipantVideo, Recorded, TrackVideo
from openegress.core.selectors import Selectors
from openegress.request import layouts
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.composite.layout_policy import LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.recorded_people import RecordedPeople
from openegress.source.room.selection import NOTHING, Missing, Verdict
from openegress.source.room.track_policy import RequestedTracks, RoomState, TrackPolicy

KIND_OF = {
    TrackSource.CAMERA: MediaKind.VIDEO,
    TrackSource.SCREEN_SHARE: MediaKind.VIDEO,
    TrackSource.MICROPHONE: MediaKind.AUDIO,
}


def person(identity: str, kind: str = "standard", *, opts_out: bool = False) -> Participant:
    return Participant(f"PA_{identity}", identity, identity.title(), kind, opts_out=opts_out)


def track(of: Participant, source: TrackSource, name: str = "") -> Track:
    return Track(f"{of.identity}-{source.value}", name, KIND_OF[source], source, "", of, False, 640, 360)


def published(*people: Participant) -> list[Track]:
    return [track(each, source) for each in people for source in (TrackSource.CAMERA, TrackSource.MICROPHONE)]


def recorded(only: str = "", left_out: str = "", **more: bool) -> Recorded:
    return Recorded(Selectors.parse(only).each, Selectors.parse(left_out).each, **more)


def of_layout(rules: Recorded) -> RecordedPeople:
    layout = LayoutPolicy(layouts.parse("grid"), Size(1280, 720), 30, (AudioRoute("all"),))
    return RecordedPeople(layout, rules)


def media(**fields: object) -> MediaSource:
    return MediaSource("room", "ws://x", "token", **fields)  # type: ignore[arg-type]


ANN, BOB = person("ann"), person("bob")
BOT = person("bot-1", "agent")
SHARED = track(ANN, TrackSource.SCREEN_SHARE, "slides")
ROOM = RoomState([*published(ANN, BOB, BOT), SHARED], [ANN, BOB, BOT], speakers=("bob", "ann"))


def sids(policy: TrackPolicy, room: RoomState = ROOM) -> set[str]:
    return {each.sid for each in policy.select(room, NOTHING).tracks}


EVERYBODY = ("ann", "bob", "bot-1")
EVERYTHING = {each.sid for each in ROOM.tracks}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (recorded(), EVERYTHING),
        (recorded(left_out="kind:agent"), EVERYTHING - {"bot-1-camera", "bot-1-microphone"}),
        (recorded(left_out="bo?"), EVERYTHING - {"bob-camera", "bob-microphone"}),
        (recorded(left_out="name:B*"), {"ann-camera", "ann-microphone", "ann-screen_share"}),
        (
            recorded(left_out="track:slides,source:camera"),
            {f"{n}-microphone" for n in ("ann", "bob", "bot-1")},
        ),
        (recorded("ann"), {"ann-camera", "ann-microphone", "ann-screen_share"}),
        (recorded("ann", "source:microphone"), {"ann-camera", "ann-screen_share"}),
        (recorded("bob,source:screen_share"), {"bob-camera", "bob-microphone", "ann-screen_share"}),
        (recorded("nobody"), set()),
    ],
)
def test_what_a_layout_records(rules: Recorded, expected: set[str]) -> None:
    assert sids(of_layout(rules)) == expected


def tiles(rules: Recorded, room: RoomState = ROOM) -> list[tuple[str, bool]]:
    """(name, has a picture) of each."""
    scene = of_layout(rules).select(room, NOTHING).scene
    return [(tile.name, tile.track is not None) for tile in scene.tiles]


def test_the_tiles_of_those_who_are_left_out() -> None:
    assert tiles(recorded(left_out="bob,kind:agent")) == [("Ann", True), ("Ann", True)]
    shown = recorded(left_out="bob", shows_left_out=True)
    assert ("Bob", False) in tiles(shown)
    muted = RoomState([], [ANN, BOB])
    assert tiles(shown, muted) == []


def test_who_is_left_out_has_never_the_floor() -> None:
    layout = LayoutPolicy(layouts.parse("speaker"), Size(1280, 720), 30)
    policy = RecordedPeople(layout, recorded(left_out="bob", shows_left_out=True))
    room = RoomState(published(ANN, BOB), [ANN, BOB], speakers=("bob",))
    scene = policy.select(room, NOTHING).scene
    largest = max(scene.tiles, key=lambda tile: tile.rect.width if tile.rect else 0)
    assert largest.name == "Ann"


def test_who_opts_out_is_left_out_until_they_opt_in() -> None:
    policy = of_layout(recorded())
    assert "bob-camera" in sids(policy)
    out = person("bob", opts_out=True)
    without = RoomState(published(ANN, out), [ANN, out])
    assert sids(policy, without) == {"ann-camera", "ann-microphone"}
    assert sids(policy) == EVERYTHING
    assert "bob-camera" in sids(of_layout(recorded(may_opt_out=False)), without)


def test_the_room_decides_the_end_with_those_who_are_left_out() -> None:
    policy = of_layout(recorded(left_out="ann"))
    room = RoomState(published(ANN), [ANN])
    assert policy.verdict(room, policy.select(room, NOTHING)) is Verdict.GO_ON
    empty = RoomState([], [])
    assert policy.verdict(empty, policy.select(empty, NOTHING)) is Verdict.END


def test_a_track_that_is_named_and_left_out_is_refused() -> None:
    source = media(video=TrackVideo("bob-camera"))
    policy = RecordedPeople(RequestedTracks(source, None), recorded(left_out="bob"))
    selection = policy.select(ROOM, NOTHING)
    assert not selection.tracks
    assert policy.missing(ROOM, selection) == (Missing.TRACK, "bob-camera")
    camera = next(each for each in ROOM.tracks if each.sid == "bob-camera")
    assert policy.refusal(camera, Missing.TRACK) == "is left out with its participant (leave_out)"


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (recorded(left_out="bob"), True),
        (recorded("ann"), True),
        (recorded(left_out="source:camera"), False),
        (recorded("source:screen_share"), False),
    ],
)
def test_a_participant_who_is_named_and_left_out_is_refused(rules: Recorded, refused: bool) -> None:
    """Of whom something may still come is waited for."""
    source = media(video=ParticipantVideo("bob"), participant_identity="bob")
    policy = RecordedPeople(RequestedTracks(source, None), rules)
    selection = policy.select(ROOM, NOTHING)
    assert policy.missing(ROOM, selection) == (Missing.PUBLICATION, "bob")
    camera = next(each for each in ROOM.tracks if each.sid == "bob-camera")
    assert bool(policy.refusal(camera, Missing.PUBLICATION)) is refused


SELECTOR = st.sampled_from(["ann", "b*", "kind:agent", "name:Ann", "track:slides", "source:camera", "x"])
RULES = st.builds(
    recorded,
    st.lists(SELECTOR, max_size=3).map(",".join),
    st.lists(SELECTOR, max_size=3).map(",".join),
    shows_left_out=st.booleans(),
    may_opt_out=st.booleans(),
)


@given(rules=RULES, out=st.sets(st.sampled_from(["ann", "bob", "bot-1"])))
def test_nothing_is_recorded_that_is_left_out_and_all_else_is(rules: Recorded, out: set[str]) -> None:
    people = [replace(each, opts_out=each.identity in out) for each in ROOM.participants]
    by_identity = {each.identity: each for each in people}
    tracks = [replace(each, participant=by_identity[each.participant.identity]) for each in ROOM.tracks]
    policy = of_layout(rules)
    selection = policy.select(RoomState(tracks, people), NOTHING)
    taken = {each.sid for each in selection.tracks}
    for each in tracks:
        refused = policy.refusal(each, Missing.TRACK)
        assert (each.sid in taken) is not bool(refused)
        if rules.may_opt_out and each.participant.identity in out:
            assert refused
    named = {tile.name for tile in selection.scene.tiles}
    if not rules.shows_left_out:
        assert named <= {each.participant.name for each in tracks if each.sid in taken}


@pytest.mark.parametrize("bob", [person("bob", opts_out=True), person("bob")], ids=["opted out", "left out"])
def test_who_is_not_recorded_takes_no_side_of_two(bob: Participant) -> None:
    """In a layout and beside a page, with a channel for every other voice."""
    routes = (AudioRoute("alternate"),)
    rules = recorded(may_opt_out=True) if bob.opts_out else recorded(left_out="bob")
    room = RoomState(published(bob, ANN, BOT), [bob, ANN, BOT])
    layout = LayoutPolicy(layouts.parse("grid"), Size(1280, 720), 30, routes)
    for policy in (layout, RequestedTracks(media(audio=routes), None)):
        chosen = RecordedPeople(policy, rules).select(room, NOTHING)
        sides = {each.track.participant.identity: each.channel.value for each in chosen.audio}
        assert sides == {"ann": "left", "bot-1": "right"}
