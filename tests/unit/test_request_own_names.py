"""Which paths a plan's outputs write: all that they store, and nothing of another recording's."""

from collections.abc import Mapping
from typing import Literal

import pytest
from msgspec.structs import replace

from openegress.core.codecs import Container
from openegress.core.part import Part
from openegress.core.plan import FileOutput, ImageOutput, Output, Plan, SegmentOutput, Sheet, Split, WebSource
from openegress.core.sidecars import Sidecar
from openegress.core.stems import StemFormat, ending
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.request import naming, output_names
from openegress.request.output_names import chapters_name
from openegress.request.own_names import OwnNames
from openegress.request.part_names import stored_name

STORAGE = StoragePlan(LocalStorage("/out"))
LONG = "ü" * 200


def file(path: str, container: Container | None = Container.MP4, split: Split | None = None) -> FileOutput:
    return FileOutput(path, container, STORAGE, split=split)


def segments(container: Container = Container.TS, *, by_time: bool = False) -> SegmentOutput:
    return SegmentOutput("hls/", "s", "list.m3u8", "live.m3u8", 4, container, by_time, STORAGE)


def images(suffix: Literal["index", "timestamp", "none"], sheet: Sheet | None = None) -> ImageOutput:
    return ImageOutput("pictures/", "i", 5, 0, 0, suffix, STORAGE, sheet=sheet)


def names(
    *outputs: Output,
    values: Mapping[str, str] | None = None,
    sidecars: tuple[Sidecar, ...] = (),
    stems: StemFormat | None = None,
    part: Part | None = None,
) -> OwnNames:
    plan = Plan("EG_1", WebSource("http://a"), outputs, None, None, sidecars=sidecars, stems=stems, part=part)
    return OwnNames(plan, values or {})


@pytest.mark.parametrize(
    ("output", "own"),
    [
        (
            file("calls/a.mp4"),
            "calls/a.mp4 calls/a.chapters.vtt calls/a-EG_1.mp4 calls/a-EG_1.chapters.vtt calls/EG_1.json "
            # If a process died, and the file could not be continued; and if it could not be composed.
            "calls/a-00002.mp4 calls/a-00002.chapters.vtt calls/a-00002-EG_1.mp4 calls/a.mkv",
        ),
        (file("/out/calls/a.mp4"), "/out/calls/a.mp4 /out/calls/EG_1.json"),
        (file("v1.2-00003.x"), "v1.2-00003.x.mp4 v1.2-00003.x-00002.mp4"),
        (file("a", None), "a.ogg a.mp4 a.webm a.chapters.vtt a.webm.chapters.vtt EG_1.json"),
        (file("a.mp4", split=Split(every_s=60)), "a-00001.mp4 a-00001.chapters.vtt a-100000.mp4 EG_1.json"),
        (file("{part}/a.mp4", split=Split(every_s=60)), "00001/a.mp4 00012/a.chapters.vtt 00012/a-EG_1.mp4"),
        (file("a{part}7.mp4", split=Split(every_s=60)), "a000017.mp4 a1000017.mp4"),
        (
            segments(),
            "hls/list.m3u8 hls/live.m3u8 hls/s_00000.ts hls/s_123456.ts hls/EG_1.json hls/list.mkv",
        ),
        (segments(by_time=True), "hls/s_20261130123456789.ts"),
        (segments(Container.FMP4), "hls/s_00001.m4s hls/s_init.mp4 hls/s_init_2.mp4"),
        (images("index"), "pictures/i_00000.jpeg pictures/EG_1.json pictures/i.mkv"),
        (images("timestamp"), "pictures/i_20261130123456789.jpeg"),
        (images("none"), "pictures/i.jpeg"),
        (images("index", Sheet()), "pictures/i_00000.jpeg pictures/i.vtt"),
    ],
)
def test_all_that_an_output_stores_is_its_own(output: Output, own: str) -> None:
    found = names(output)
    assert [path for path in own.split() if not found.have(0, path)] == []


@pytest.mark.parametrize(
    ("output", "others"),
    [
        (
            file("calls/a.mp4"),
            "a.mp4 calls/b.mp4 calls/a.mp4.mp4 calls/a.webm calls/a1.mp4 calls/a/b.mp4 calls/ calls/a "
            "calls/../a.mp4 /calls/a.mp4 calls//a.mp4 calls/./a.mp4 calls/EG_2.json calls/a-EG_2.mp4 "
            "EG_1.json calls/a-0.mp4 calls/a-00000.mp4 calls/a.events.jsonl calls/a.ada.flac calls/a.mp4\n",
        ),
        (file("a.mp4", split=Split(every_s=60)), "a.mp4 a-1.mp4 b-00001.mp4 a-00001/b.mp4 a-00001.webm"),
        (file("{part}/a.mp4", split=Split(every_s=60)), "00001/b.mp4 x/a.mp4 00001/00001/a.mp4 a-00001.mp4"),
        (
            segments(),
            "hls/other.m3u8 hls/s_1.ts hls/s_00001.m4s hls/s_00001.ts/a hls/s_00001.ts\n hls/t_00001.ts "
            "hls/s_init.mp4/a s_00001.ts hls/s_20261130123456789.ts hls/sub/s_00001.ts hls/s.00001.ts",
        ),
        (images("index"), "pictures/i.jpeg pictures/i_1.jpeg pictures/j_00001.jpeg pictures/i_00001xjpeg"),
        (images("none"), "pictures/i_00001.jpeg pictures/ii.jpeg pictures/i.vtt"),
    ],
)
def test_nothing_else_is(output: Output, others: str) -> None:
    found = names(output)
    assert [path for path in others.split(" ") if found.have(0, path)] == []


def test_one_output_has_no_names_of_another() -> None:
    found = names(file("a.mp4"), segments())
    assert found.have(1, "hls/list.m3u8") and not found.have(0, "hls/list.m3u8")
    assert found.have(0, "a.mp4") and not found.have(1, "a.mp4")


def test_what_lies_beside_lies_beside_the_first() -> None:
    found = names(
        images("index"),
        file("a.mp4"),
        segments(),
        sidecars=(Sidecar.EVENTS, Sidecar.SPEAKERS),
        stems=StemFormat.FLAC,
    )
    stems = [f"a{ending(each, StemFormat.FLAC)}" for each in ("ada", "a.b", "../x", "ü" * 300)]
    beside = ["a.events.jsonl", "a.speakers.vtt", "a.speakers.rttm", *stems]
    assert [path for path in beside if not found.have(1, path)] == []
    assert not any(found.have(number, path) for number in (0, 2) for path in beside)
    others = [
        "a.chat.jsonl",
        "b.events.jsonl",
        "b.ada.flac",
        "a.flac",
        "aada.flac",
        "a.x/y.flac",
        "a.ada.wav",
    ]
    assert [path for path in others if found.have(1, path)] == []


def test_a_later_part_has_a_manifest_of_its_own() -> None:
    found = names(file("a-part2.mp4"), part=Part(2, 5))
    part = Part(2, 5).mark
    assert found.have(0, f"EG_1-{part}.json") and not found.have(0, "EG_1.json")


@pytest.mark.parametrize("mark", ["", "EG_1"])
@pytest.mark.parametrize("identity", ["ada", LONG, f"{LONG}/{LONG}", "..", "a/b"])
def test_names_that_only_the_room_knew_are_those_that_are_written(identity: str, mark: str) -> None:
    values = {"publisher_identity": identity, naming.MARK: mark}
    in_parts = file("{publisher_identity}-x", split=Split(every_s=60))
    outputs: list[Output] = [file("{publisher_identity}.mp4"), in_parts]
    outputs.append(replace(segments(), directory="{publisher_identity}/"))
    outputs.append(replace(images("index"), prefix="{publisher_identity}"))
    found = names(*outputs, values=values, sidecars=(Sidecar.EVENTS,), stems=StemFormat.WAV)
    one, parts, hls, pictures = outputs
    assert isinstance(one, FileOutput) and isinstance(parts, FileOutput)
    assert isinstance(hls, SegmentOutput) and isinstance(pictures, ImageOutput)
    whole = naming.with_extension(output_names.file_name(one, values), ".mp4")
    assert found.have(0, whole)
    assert found.have(0, output_names.superseded_name(whole, "EG_1", one))
    assert found.have(0, stored_name(one, 1, whole))
    assert found.have(0, output_names.sidecar_name(one, values, ".events.jsonl"))
    assert found.have(0, output_names.sidecar_name(one, values, ending("ada", StemFormat.WAV)))
    assert found.have(1, stored_name(parts, 4, f"{output_names.file_name(parts, values)}.mp4"))
    made = output_names.segment_names(hls, values)
    assert found.have(2, made.directory + naming.segment_file(made.prefix, 3, 0, False, ".ts"))
    directory, prefix = output_names.image_names(pictures, values)
    assert found.have(3, directory + naming.image_file(prefix, 3, 0, "index"))
    assert not found.have(0, "other.mp4") and not found.have(0, "{publisher_identity}.mp4")


def test_no_path_takes_long() -> None:
    """Names are looked for at each number and dot, of which a path may have many."""
    found = names(file("a.mp4", split=Split(every_s=60)), stems=StemFormat.FLAC)
    assert not found.have(0, "/".join(["." * 250 + ".flac"] * 16))
    assert not found.have(0, "-00001." * 600 + "mp4")
    assert not found.have(0, "a" * 5000)


def test_the_chapters_of_files_that_differ_in_their_extension_are_apart() -> None:
    files = [
        "x.mp4",
        "x.webm",
        "x.ogg",
        "x.mkv",
        "x.webm.mp4",
        "x.mp4.mp4",
        "x.mp4.ogg",
        "x.v1.mp4",
        "d/x.mp4",
    ]
    chapters = [chapters_name(each) for each in files]
    assert len(set(chapters)) == len(files)
    assert chapters[0] == "x.chapters.vtt" and chapters[-1] == "d/x.chapters.vtt"
