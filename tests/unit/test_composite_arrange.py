"""Where the tiles of a room lie: the table that the page is checked against too, and rules for any room."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.media.geometry import Fit, Rect
from openegress.request.layouts import Arrangement
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.composite.arrange import EMPTY, arrange, choose, keep_places
from openegress.source.room.composite.rectangles import (
    GRID_CAPACITY,
    Size,
    focus_rects,
    gap_of,
    grid_rects,
    side_capacity,
)
from openegress.source.room.composite.tiles import Seat, seats_of

SCENES = json.loads((Path(__file__).parent / "data" / "scenes.json").read_text())
HD = Size(1280, 720)
SOURCES = {
    "camera": (MediaKind.VIDEO, TrackSource.CAMERA),
    "screen": (MediaKind.VIDEO, TrackSource.SCREEN_SHARE),
    "microphone": (MediaKind.AUDIO, TrackSource.MICROPHONE),
}


def tracks_of(person: Participant, published: list[str]) -> list[Track]:
    """`published`: "camera", "screen", "microphone", with "-muted" behind it where it is."""
    tracks = []
    for index, each in enumerate(published):
        name = each.removesuffix("-muted")
        kind, source = SOURCES[name]
        sid = f"TR_{person.identity}_{index}"
        muted = each != name
        tracks.append(Track(sid, name, kind, source, "", person, muted, 1280, 720))
    return tracks


def room(people: list[dict[str, Any]]) -> list[Seat]:
    participants, tracks = [], []
    for index, each in enumerate(people):
        person = Participant(f"PA_{index}", each["identity"], "", each.get("kind", "standard"), 1000 + index)
        participants.append(person)
        tracks += tracks_of(person, each["publishes"])
    return seats_of(participants, tracks)


@pytest.mark.parametrize("scene", SCENES, ids=[scene["name"] for scene in SCENES])
def test_scenes(scene: dict[str, Any]) -> None:
    staging = EMPTY
    for shown in scene["steps"]:
        seats = room(shown["people"])
        staging = arrange(
            Arrangement(shown["arrangement"]),
            seats,
            speaker=shown["speaker"],
            recent=shown["recent"],
            canvas=Size(*scene["canvas"]),
            before=staging,
        )
        placed = {
            (seat.participant.identity, "screen" if seat.screen else "camera"): staging.rects[seat.key]
            for seat in seats
            if seat.key in staging.rects
        }
        assert placed == {(identity, slot): Rect(*numbers) for identity, slot, numbers in shown["tiles"]}


@given(
    st.integers(1, GRID_CAPACITY),
    st.integers(8, 2000).map(lambda n: 2 * n),
    st.integers(8, 2000).map(lambda n: 2 * n),
)
def test_even_inside_and_apart(count: int, width: int, height: int) -> None:
    canvas = Size(max(320, width), max(240, height))
    focus = focus_rects(min(count, side_capacity(canvas)), canvas)
    for rects in (grid_rects(count, canvas), (focus.focus, *focus.others)):
        check_apart(list(rects), canvas)


def check_apart(rects: list[Rect], canvas: Size) -> None:
    gap = gap_of(canvas)
    for index, one in enumerate(rects):
        assert (one.x % 2, one.y % 2, one.width % 2, one.height % 2) == (0, 0, 0, 0)
        assert one.x >= 0 and one.y >= 0
        assert one.x + one.width <= canvas.width and one.y + one.height <= canvas.height
        for other in rects[index + 1 :]:
            assert (
                one.x + one.width + gap <= other.x
                or other.x + other.width + gap <= one.x
                or one.y + one.height + gap <= other.y
                or other.y + other.height + gap <= one.y
            )


def people(*identities: str) -> list[Seat]:
    return room([{"identity": identity, "publishes": ["camera"]} for identity in identities])


@pytest.mark.parametrize(
    ("capacity", "recent", "shown"),
    [(5, ["e"], "abcde"), (3, [], "abc"), (3, ["e"], "abe"), (3, ["e", "d"], "ade")],
)
def test_chosen_when_there_is_no_room_for_all(capacity: int, recent: list[str], shown: str) -> None:
    chosen = choose(people(*"abcde"), capacity, recent)
    assert "".join(seat.participant.identity for seat in chosen) == shown


@pytest.mark.parametrize(
    ("before", "order"),
    [("", "abc"), ("ca", "cab"), ("cxa", "cba"), ("xycba", "cba")],
)
def test_places_are_kept(before: str, order: str) -> None:
    placed = keep_places(people(*"abc"), [f"{identity}/camera/0" for identity in before])
    assert "".join(seat.participant.identity for seat in placed) == order


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ([("ann", "standard", ["microphone"])], ["ann"]),
        ([("ann", "standard", [])], []),
        ([("ann", "standard", ["screen", "microphone"])], ["ann", "ann*"]),
        ([("ann", "standard", ["screen"])], ["ann*"]),
        ([("bot", "agent", ["microphone"]), ("ann", "standard", ["camera"])], ["ann"]),
        ([("bot", "agent", ["microphone"])], ["bot"]),
        ([("bot", "agent", ["camera"]), ("ann", "standard", ["camera"])], ["bot", "ann"]),
        ([("rec", "egress", ["camera"])], []),
    ],
)
def test_who_has_a_tile(who: list[tuple[str, str, list[str]]], expected: list[str]) -> None:
    seats = room([{"identity": name, "kind": kind, "publishes": what} for name, kind, what in who])
    assert [seat.participant.identity + "*" * seat.screen for seat in seats] == expected


@pytest.mark.parametrize(
    ("published", "size", "fit"),
    [
        ("camera", (1280, 720), Fit.COVER),
        ("camera", (720, 1280), Fit.CONTAIN),
        ("screen", (1920, 1080), Fit.CONTAIN),
    ],
)
def test_upright_cameras_and_screens_are_shown_whole(published: str, size: tuple[int, int], fit: Fit) -> None:
    person = Participant("PA", "ann", "Ann", "standard")
    kind, source = SOURCES[published]
    track = Track("TR", "", kind, source, "", person, False, *size)
    assert Seat("ann", person, track).fit is fit
