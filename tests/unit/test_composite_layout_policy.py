"""A whole room as a selection: tiles, what is asked of each track, layouts, the end."""

from dataclasses import replace

import pytest

from openegress.core.codecs import MediaKind
from openegress.core.plan import AudioRoute
from openegress.media.geometry import Rect
from openegress.media.mixer import Channel
from openegress.request import layouts, orders
from openegress.request.layouts import Arrangement, Layout
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.composite.active_speaker import TAKEOVER_S
from openegress.source.room.composite.layout_policy import DARK, LIGHT, WARM_HIDDEN, LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.selection import NOTHING, Missing, Selection, Verdict
from openegress.source.room.track_policy import LastRejoin, RoomState

HD = Size(1280, 720)
ALL = (AudioRoute("all"),)


def person(identity: str, kind: str = "standard", order: int = 0) -> Participant:
    return Participant(f"PA_{identity}", identity, identity.title(), kind, 1000 + order)


def camera(who: Participant, *, muted: bool = False) -> Track:
    sid, mime = f"TR_{who.identity}", "video/vp8"
    return Track(sid, "", MediaKind.VIDEO, TrackSource.CAMERA, mime, who, muted, 1280, 720)


def microphone(who: Participant) -> Track:
    sid = f"TR_{who.identity}_mic"
    return Track(sid, "", MediaKind.AUDIO, TrackSource.MICROPHONE, "audio/opus", who, False)


ANN, BEN, EVA = (person(name, order=index) for index, name in enumerate(("ann", "ben", "eva")))
PEOPLE = (ANN, BEN, EVA)
ROOM = RoomState([track for each in PEOPLE for track in (camera(each), microphone(each))], PEOPLE)


def whole_room(
    arrangement: Arrangement = Arrangement.GRID, routes: tuple[AudioRoute, ...] = ALL
) -> LayoutPolicy:
    return LayoutPolicy(Layout(arrangement), HD, 30, routes)


def shown(selection: Selection) -> dict[str, Rect | None]:
    return {tile.key.split("/")[0]: tile.rect for tile in selection.scene.tiles}


def test_everybody_is_seen_and_heard() -> None:
    chosen = whole_room().select(ROOM, NOTHING)
    assert list(shown(chosen)) == ["ann", "ben", "eva"]
    assert [tile.name for tile in chosen.scene.tiles] == ["Ann", "Ben", "Eva"]
    assert [routed.track.sid for routed in chosen.audio] == ["TR_ann_mic", "TR_ben_mic", "TR_eva_mic"]
    assert {track.sid for track in chosen.tracks} == {track.sid for track in ROOM.tracks}
    assert chosen.scene.look is DARK


def test_a_picture_without_sound() -> None:
    assert whole_room(routes=()).select(ROOM, NOTHING).audio == ()


def test_sound_on_two_channels() -> None:
    routes = (AudioRoute("kind", "agent", "left"), AudioRoute("not_kind", "agent", "right"))
    bot = person("bot", "agent", 9)
    room = replace(ROOM, tracks=[*ROOM.tracks, microphone(bot)], participants=(*PEOPLE, bot))
    audio = whole_room(routes=routes).select(room, NOTHING).audio
    channels = {each.track.sid: each.channel for each in audio}
    assert channels["TR_bot_mic"] is Channel.LEFT
    assert channels["TR_ann_mic"] is Channel.RIGHT


@pytest.mark.parametrize(
    ("arrangement", "sizes"),
    [
        # Cropped to 628x348, then to 208x116 beside the focus; in its smallest layer where it is hidden.
        (Arrangement.GRID, {"ann": (628, 354), "ben": (628, 354), "eva": (628, 354)}),
        (Arrangement.SPEAKER, {"ann": (1280, 720), "ben": (208, 117), "eva": (208, 117)}),
        (Arrangement.SINGLE_SPEAKER, {"ann": (1280, 720), "ben": (2, 2), "eva": (2, 2)}),
    ],
)
def test_what_is_asked_of_each_track(arrangement: Arrangement, sizes: dict[str, tuple[int, int]]) -> None:
    asked = whole_room(arrangement).select(ROOM, NOTHING).qualities
    assert {sid: (quality.width, quality.height) for sid, quality in asked.items()} == {
        f"TR_{identity}": size for identity, size in sizes.items()
    }


def test_only_some_of_the_hidden_run() -> None:
    many = [person(f"p{n:02}", order=n) for n in range(20)]
    room = RoomState([camera(each) for each in many], many)
    chosen = whole_room(Arrangement.SINGLE_SPEAKER).select(room, NOTHING)
    assert len(chosen.scene.tiles) == 1
    assert [track.sid for track in chosen.scene.hidden] == [f"TR_p{n:02}" for n in range(1, 1 + WARM_HIDDEN)]


def test_the_focus_follows_who_speaks_and_says_when_to_look_again() -> None:
    room = whole_room(Arrangement.SINGLE_SPEAKER)
    first = room.select(replace(ROOM, speakers=("ann",), now_s=100.0), NOTHING)
    assert list(shown(first)) == ["ann"]
    second = room.select(replace(ROOM, speakers=("eva",), now_s=200.0), first)
    assert list(shown(second)) == ["ann"]
    assert room.recheck_at_s == 200.0 + TAKEOVER_S
    third = room.select(replace(ROOM, speakers=("eva",), now_s=200.0 + TAKEOVER_S), second)
    assert list(shown(third)) == ["eva"]
    assert room.recheck_at_s is None


def test_metadata_changes_the_layout() -> None:
    room = whole_room()
    before = room.select(ROOM, NOTHING)
    light = room.select(replace(ROOM, metadata='{"layout": "single-speaker-light"}'), before)
    assert list(shown(light)) == ["ann"]
    assert light.scene.look is LIGHT
    nearest = room.select(replace(ROOM, metadata='{"layout": "mosaic"}'), light)
    assert nearest.scene == before.scene


@pytest.mark.parametrize(
    ("metadata", "layout"),
    [
        ("", None),
        ("free text", None),
        ("[1]", None),
        ('{"layout": 3}', None),
        ('{"other": "grid"}', None),
        ('{"layout": "speaker"}', "speaker"),
        ('{"layout": ""}', ""),
    ],
)
def test_layout_in_metadata(metadata: str, layout: str | None) -> None:
    assert orders.layout_in(metadata) == layout


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("", Layout()),
        ("grid", Layout()),
        ("grid-dark", Layout()),
        ("speaker-light", Layout(Arrangement.SPEAKER, light=True)),
        ("single-speaker", Layout(Arrangement.SINGLE_SPEAKER)),
        ("Grid", Layout()),
        ("mosaic-light", Layout(light=True)),
        ("speaker-left", Layout(Arrangement.SPEAKER)),
        ("single-speaker-x-light", Layout(Arrangement.SINGLE_SPEAKER, light=True)),
    ],
)
def test_layout_names(name: str, layout: Layout) -> None:
    assert layouts.parse(name) == layout


def test_it_waits_for_nobody_and_ends_with_the_last() -> None:
    room = whole_room()
    empty = RoomState([], [])
    nothing = room.select(empty, NOTHING)
    assert room.missing(empty, nothing) == (Missing.NOTHING, "")
    assert room.verdict(empty, nothing) is Verdict.GO_ON
    recorder = RoomState([], [person("rec", "egress")])
    assert room.verdict(recorder, nothing) is Verdict.GO_ON
    assert room.verdict(ROOM, nothing) is Verdict.GO_ON
    assert room.verdict(recorder, nothing) is Verdict.END
    assert room.verdict(replace(empty, last_rejoin=LastRejoin.RECENT), nothing) is Verdict.END_UNLESS_BACK


def test_no_track_is_vital() -> None:
    alone = RoomState([camera(ANN)], [ANN])
    room = whole_room()
    assert not room.needs("TR_ann", room.select(alone, NOTHING))


def test_who_publishes_hundreds_of_tracks_is_recorded_with_the_first() -> None:
    many = [replace(microphone(EVA), sid=f"TR_eva_{index}") for index in range(500)]
    room = replace(ROOM, tracks=[*many, *ROOM.tracks])
    audio = whole_room().select(room, NOTHING).audio
    sids = [routed.track.sid for routed in audio]
    assert sids == [*(f"TR_eva_{index}" for index in range(40)), "TR_ann_mic", "TR_ben_mic"]
