"""Placeholders that nobody fills: they stay in the name, and the caller is told."""

from typing import Any

import pytest

from openegress.request.output_names import file_name
from tests.unit.test_request_validate import file_of, plan


def told(*names: str) -> tuple[str, ...]:
    return tuple(f"{each} is not known for this request and stays in the file's name" for each in names)


ROOM = {"room_name": "demo"}
OF_TRACK = "{publisher_identity}-{track_id}-{track_type}-{track_source}"


def files(path: str) -> dict[str, Any]:
    return {"file_outputs": [{"filepath": path}]}


@pytest.mark.parametrize(
    ("kind", "body", "names"),
    [
        ("room_composite", ROOM | files("{room_nmae}-{time}"), ["{room_nmae}"]),
        ("room_composite", ROOM | files("{roomName}/{x}-{x}"), ["{roomName}", "{x}"]),
        ("room_composite", ROOM | files(OF_TRACK), OF_TRACK.split("-")),
        ("room_composite", ROOM | files("{part}"), ["{part}"]),
        ("web", {"url": "http://e.com"} | files("{room_name}-{utc}"), ["{room_name}"]),
        ("room_composite", ROOM | {"segment_outputs": [{"filename_prefix": "{a}/{b}"}]}, ["{a}", "{b}"]),
        (
            "room_composite",
            ROOM | {"segment_outputs": [{"playlist_name": "{a}", "live_playlist_name": "{b}"}]},
            ["{a}", "{b}"],
        ),
        ("room_composite", ROOM | {"image_outputs": [{"filename_prefix": "{a}/{b}"}]}, ["{a}", "{b}"]),
        ("track", ROOM | {"track_id": "T", "file": {"filepath": "{tracks}"}}, ["{tracks}"]),
    ],
)
def test_what_is_unknown_is_told_once(kind: str, body: dict[str, Any], names: list[str]) -> None:
    assert sorted(plan(kind, body).notices) == sorted(told(*names))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("room_composite", ROOM | files("{room_name}-{room_id}-{time}-{utc}-{retry}")),
        ("room_composite", ROOM | {"layout": "grid?split_every=1h"} | files("{part}-{time}")),
        ("web", {"url": "http://e.com"} | files("{time}-{utc}-{retry}")),
        ("participant", ROOM | {"identity": "ann"} | files("{room_name}-{publisher_identity}")),
        ("track_composite", ROOM | {"audio_track_id": "A"} | files("{publisher_identity}-{room_id}")),
        ("track", ROOM | {"track_id": "T", "file": {"filepath": OF_TRACK}}),
        ("room_composite", {"room_name": "{x}"} | files("{room_name}")),
        ("room_composite", ROOM | files("")),
    ],
)
def test_what_is_known_or_will_be_is_not(kind: str, body: dict[str, Any]) -> None:
    assert plan(kind, body).notices == ()


@pytest.mark.parametrize("path", ['{"a": {"b": 1}}', "{}", "{{", "a}b{c", "{1}", "{a-b}", '{"x":"{time}"}'])
def test_other_braces_are_part_of_the_name(path: str) -> None:
    found = plan("room_composite", ROOM | files(path))
    assert found.notices == ()
    expected = path.replace("{time}", "2025-02-14T095704")
    assert file_name(file_of(found), {}) == f"{expected}.mp4"


def test_few_of_many_are_told() -> None:
    path = "-".join(f"{{a{number}}}" for number in range(40))
    assert plan("room_composite", ROOM | files(path)).notices == told(*path.split("-")[:8])


def test_a_first_notice_stays_first() -> None:
    body = ROOM | {"audio_only": True, "layout": "grid"} | files("{x}.ogg")
    assert plan("room_composite", body).notices == (
        "layout has no effect: no picture is recorded",
        *told("{x}"),
    )
