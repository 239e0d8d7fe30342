"""Names: cleaning, templates, default names, extensions, and that nothing ever leaves its root."""

import posixpath
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.errors import Code, EgressError
from openegress.core.storages import LocalStorage
from openegress.request import naming

NOW_NS = 1_739_527_024_816_835_412
VALUES = {"time": "2025-02-14T095704", "utc": "20250214095704816", "room_name": "demo", "room_id": "RM_1"}

paths = st.text(st.sampled_from("ab./\\{}_-é ~"), max_size=24)
told = st.text(st.sampled_from("ab./\\{}_-é\0\n ~"), max_size=24)
"""What a room is named: anything."""
values = st.dictionaries(st.sampled_from(["a", "b", "a_b"]), told, max_size=3)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", ""),
        (".", ""),
        ("..", ""),
        ("./", ""),
        ("a/../b", "b"),
        ("../../etc/passwd", "etc/passwd"),
        ("a//b///c.mp4", "a/b/c.mp4"),
        ("dir/", "dir/"),
        ("dir/.", "dir"),
        ("/abs/x", "/abs/x"),
        ("//abs//x/", "/abs/x/"),
        ("/../x", "/x"),
        ("a/../../..", ""),
    ],
)
def test_clean(path: str, cleaned: str) -> None:
    assert naming.clean(path) == cleaned


@given(paths)
def test_clean_is_idempotent_and_never_climbs(path: str) -> None:
    cleaned = naming.clean(path)
    assert naming.clean(cleaned) == cleaned
    assert ".." not in cleaned.split("/")
    assert "\0" not in cleaned


@given(paths, values)
def test_filled_names_stay_below_the_root(template: str, filled: dict[str, str]) -> None:
    name = naming.name(template, filled)
    full = posixpath.normpath(posixpath.join("/root", name.lstrip("/")))
    assert full == "/root" or full.startswith("/root/")
    assert not {".", ".."} & set(name.split("/"))


@given(paths, values)
def test_filling_late_stays_below_the_root(template: str, filled: dict[str, str]) -> None:
    """An absolute local path accepted early cannot be led out by a track's name later."""
    try:
        early = naming.local_path("/root/" + naming.clean(template).lstrip("/"), LocalStorage("/root"))
    except EgressError:
        return
    late = posixpath.normpath(naming.fill(early, filled))
    assert late == "/root" or late.startswith("/root/")


@given(paths)
def test_unknown_placeholders_stay(template: str) -> None:
    assert naming.fill(naming.clean(template), {}) == naming.clean(template)


def test_values_fill_in_two_steps() -> None:
    early = naming.name("{room_name}/{track_id}-{time}", VALUES)
    assert early == "demo/{track_id}-2025-02-14T095704"
    assert naming.fill(early, {"track_id": "TR_1"}) == "demo/TR_1-2025-02-14T095704"


def test_values_are_not_templates() -> None:
    filled = {"room_name": "{time}", "time": "late"}
    early = naming.fill("{room_name}/{track_id}", filled)
    assert early == "(time)~d5a73bc9/{track_id}"
    assert naming.fill(early, {**filled, "track_id": "{room_name}"}) == "(time)~d5a73bc9/(room_name)~abbe1ef1"
    assert naming.default_name("{time}", filled).startswith("(time)~")


templates = st.dictionaries(
    st.sampled_from(["a", "b", "a_b"]), st.sampled_from(["{a}", "{b}", "{a_b}/x", "..", "", "y"])
)


@given(st.lists(st.sampled_from(["{a}", "{b}", "{a_b}", "/", ".", "x"])), templates, templates)
def test_no_value_is_filled_in_the_second_step(
    template: list[str], early: dict[str, str], late: dict[str, str]
) -> None:
    known = {**late, **early}
    path = "".join(template)
    assert naming.fill(naming.fill(path, early), known) == naming.fill(path, known)


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("a/b", "x/a/b.mp4"),
        ("../../etc", "x/etc~74ccf3c5.mp4"),
        ("..", "x/~5ec1f7e7.mp4"),
        ("/", "x/~8a5edab2.mp4"),
        ("a\nb", "x/ab~7e18f737.mp4"),
    ],
)
def test_values_cannot_climb(value: str, filled: str) -> None:
    assert naming.fill("x/{room_name}.mp4", {"room_name": value}) == filled


@given(told, told)
def test_two_rooms_are_two_files(one: str, other: str) -> None:
    """Whatever of their names a path cannot have."""
    first, second = (naming.fill("x/{room_name}.mp4", {"room_name": name}) for name in (one, other))
    assert (first == second) == (one == other)


@pytest.mark.parametrize("control", ["\0", "\n", "\x1b", "\x7f"])
def test_what_a_request_names_has_no_control_characters(control: str) -> None:
    """To leave them out would store it under another name than was asked for."""
    with pytest.raises(EgressError, match=rf"control character U\+00{ord(control):02X}") as raised:
        naming.file_path(f"a{control}b.mp4", "r", VALUES, ".mp4")
    assert raised.value.code is Code.INVALID_ARGUMENT


def test_time_is_local_and_utc_is_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert naming.time_values(NOW_NS, east) == {"time": "2025-02-14T115704", "utc": "20250214095704816"}
    assert naming.time_values(NOW_NS, UTC)["time"] == "2025-02-14T095704"


@pytest.mark.parametrize(
    ("path", "extension", "named"),
    [
        ("my.mp4", ".mp4", "my.mp4"),
        ("my", ".mp4", "my.mp4"),
        ("my.video", ".mp4", "my.video.mp4"),
        ("my.ogg", ".mp4", "my.mp4"),
        ("my.webm", ".mp4", "my.mp4"),
        ("v1.2", ".mp4", "v1.2.mp4"),
        ("dir.ogg/my", ".mp4", "dir.ogg/my.mp4"),
        ("dir/.ogg", ".mp4", "dir/.ogg.mp4"),
        ("a.mp4", ".ogg", "a.ogg"),
    ],
)
def test_extension(path: str, extension: str, named: str) -> None:
    assert naming.with_extension(path, extension) == named


@given(paths, st.sampled_from(naming.KNOWN_EXTENSIONS))
def test_extension_is_idempotent(path: str, extension: str) -> None:
    once = naming.with_extension(path, extension)
    assert once.endswith(extension)
    assert naming.with_extension(once, extension) == once


@pytest.mark.parametrize(
    ("template", "identifier", "path"),
    [
        ("", "demo", "demo-2025-02-14T095704.mp4"),
        ("dir/", "demo", "dir/demo-2025-02-14T095704.mp4"),
        ("/abs/", "web", "/abs/web-2025-02-14T095704.mp4"),
        ("{room_name}/{utc}", "demo", "demo/20250214095704816.mp4"),
        ("..", "a/b", "a_b-2025-02-14T095704.mp4"),
    ],
)
def test_file_path(template: str, identifier: str, path: str) -> None:
    assert naming.file_path(template, identifier, VALUES, ".mp4") == path


def test_a_room_whose_name_loses_something_keeps_a_default_name_of_its_own() -> None:
    values = {"time": "T"}
    names = [naming.default_name(room, values) for room in ("ab", "a\nb", "a\x7fb")]
    assert names[0] == "ab-T"
    assert all(name.startswith("ab~") and name.endswith("-T") for name in names[1:])
    assert len(set(names)) == 3


def test_second_attempt_has_another_default_name() -> None:
    assert naming.file_path("", "demo", VALUES | {"retry": "2"}, ".mp4") == "demo-2025-02-14T095704-2.mp4"


def test_track_paths_get_their_extension_later() -> None:
    assert naming.file_path("{track_id}.x", "TR", VALUES, "") == "{track_id}.x"


@pytest.mark.parametrize(
    ("prefix", "playlist", "live", "names"),
    [
        ("", "", "", ("", "demo-2025-02-14T095704", "demo-2025-02-14T095704.m3u8", "")),
        ("seg", "", "", ("", "seg", "seg.m3u8", "")),
        ("", "list.m3u8", "", ("", "list", "list.m3u8", "")),
        ("dir/seg", "", "", ("dir/", "seg", "seg.m3u8", "")),
        ("dir/seg", "list", "live", ("dir/", "seg", "list.m3u8", "live.m3u8")),
        ("dir/seg", "dir/list", "dir/live.m3u8", ("dir/", "seg", "list.m3u8", "live.m3u8")),
        ("seg", "dir/list", "", ("dir/", "seg", "list.m3u8", "")),
        ("dir/sub/seg", "dir/list", "", ("dir/", "sub/seg", "list.m3u8", "")),
        ("sub/seg", "dir/list", "", ("dir/", "sub/seg", "list.m3u8", "")),
        ("v1.2", "", "", ("", "v1.2", "v1.2.m3u8", "")),
        ("dir/", "", "", ("dir/", "demo-2025-02-14T095704", "demo-2025-02-14T095704.m3u8", "")),
        ("my.m3u8", "", "", ("", "my.m3u8", "my.m3u8", "")),
        ("/o/seg", "/o/list", "", ("/o/", "seg", "list.m3u8", "")),
    ],
)
def test_segment_names(prefix: str, playlist: str, live: str, names: tuple[str, ...]) -> None:
    found = naming.segment_names(prefix, playlist, live, "demo", VALUES)
    assert (found.directory, found.prefix, found.playlist, found.live_playlist) == names


@pytest.mark.parametrize(
    ("prefix", "playlist", "live", "field"),
    [
        ("seg", "list", "list.m3u8", "live_playlist_name cannot be identical to playlist_name"),
        ("seg", "a/list", "b/live", "live_playlist_name must be in same directory as playlist_name"),
        ("/a/seg", "/b/list", "", "filename_prefix must be in same directory as playlist_name"),
    ],
)
def test_segment_names_refused(prefix: str, playlist: str, live: str, field: str) -> None:
    with pytest.raises(EgressError) as refused:
        naming.segment_names(prefix, playlist, live, "demo", VALUES)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.message == f"request has missing or invalid field: {field}"


def test_segment_and_image_files() -> None:
    assert naming.segment_file("seg", 7, NOW_NS, False, ".ts") == "seg_00007.ts"
    assert naming.segment_file("seg", 7, NOW_NS, True, ".m4s") == "seg_20250214095704816.m4s"
    assert naming.image_file("img", 12, NOW_NS, "index") == "img_00012.jpeg"
    assert naming.image_file("img", 12, NOW_NS, "timestamp") == "img_20250214095704816.jpeg"
    assert naming.image_file("img", 12, NOW_NS, "none") == "img.jpeg"
    assert naming.manifest_path("dir/", "EG_1") == "dir/EG_1.json"


@pytest.mark.parametrize("path", ["a.mp4", "dir/a.mp4", "/out/a.mp4", "/out/x/", ""])
def test_local_paths_below_the_root_stay_as_they_are(path: str) -> None:
    assert naming.local_path(path, LocalStorage("/out")) == path


@pytest.mark.parametrize("path", ["/etc/passwd", "/out2/a.mp4", "/out/../etc/x", "../x", "/"])
def test_local_paths_outside_the_root_are_refused(path: str) -> None:
    with pytest.raises(EgressError) as refused:
        naming.local_path(path, LocalStorage("/out"))
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert "lies outside the server's output_root, /out: " in refused.value.message
    assert path in refused.value.message


def test_the_refusal_names_the_setting_that_decides() -> None:
    storage = LocalStorage("/srv", setting="storage.local.storage_dir")
    with pytest.raises(EgressError, match=r"outside the server's storage\.local\.storage_dir, /srv: "):
        naming.local_path("/out/x.mp4", storage)
