"""Clips of recordings of all tracks, whole and growing: their tracks, packets, and first pictures."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from openegress.core.clip_plan import ClipMade, ClipPlan, StoredPart
from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import Code, EgressError
from openegress.core.plan import FileOutput
from openegress.core.span import Span
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clip.cut import CutPictures
from openegress.media.clip.matroska_source import MatroskaTracks
from openegress.media.clip.stitched import LocalBytes
from openegress.media.clip.tracks import cut_tracks
from openegress.media.duration import duration_ns
from openegress.media.fragments import sample
from openegress.media.matroska import MatroskaWriter
from openegress.media.mcap import McapWriter
from openegress.media.mp4_tracks import Mp4TracksWriter
from openegress.output.clip.files import GrowingFile
from openegress.output.clip.maker import ClipMaker
from openegress.output.file.finalise import finalise
from openegress.output.spool_file import SpoolFile
from openegress.storage.uploader import Uploader
from testkit import mcap_reader
from testkit.matroska_reader import ReadTrack, extract, read
from testkit.meeting_maker import Attendance, meeting_packets
from testkit.probe import counters

BEGIN_S, END_S = 2.5, 5.5
STARTED_NS = 1_800_000_000 * S
PEOPLE = (
    Attendance("ada", 0.0, 6.5, key_every_s=2.0),
    Attendance("bob", 1.0, 4.0, "h264"),
    Attendance("eve", 3.0, 6.5, "h264", key_every_s=1.0),
    Attendance("gone", 0.0, 0.4),
)
CONTAINERS = [Container.MKV, Container.MP4, Container.MCAP]


@cache
def packets() -> list[Packet]:
    return meeting_packets(PEOPLE)


def write(path: Path, container: Container, *, ends: bool, of: Sequence[Packet] = ()) -> Path:
    file = SpoolFile(path)
    writer: MatroskaWriter | Mp4TracksWriter | McapWriter
    match container:
        case Container.MKV:
            writer = MatroskaWriter(file.write, file.rewrite, STARTED_NS)
        case Container.MP4:
            writer = Mp4TracksWriter(file.write, file.rewrite)
        case _:
            writer = McapWriter(file.write, STARTED_NS)
    writer.open()
    for packet in of or packets():
        writer.write(packet)
    writer.close()
    file.release()
    if ends:
        assert finalise(path, container) == ""
    return path


def cut(recording: Path, container: Container, span: Span) -> tuple[Path, CutPictures]:
    to = recording.with_name(f"clip.{container.value}")
    files: list[int] = []
    sink = SpoolFile(to)
    try:
        part, _ = GrowingFile(recording, files).open(span.begin_ns, span.end_ns)
        assert part.tracks is not None
        made = cut_tracks(part.tracks, container, span, sink, lambda: False)
        part.tracks.close()
    finally:
        sink.release()
        for fd in files:
            os.close(fd)
    assert finalise(to, container) == ""
    return to, made


def expected(form: Callable[[Packet], bytes]) -> dict[str, list[tuple[float, bytes, bool]]]:
    """What of each track lies in the span, at its time in the clip."""
    found: dict[str, list[tuple[float, bytes, bool]]] = {}
    for packet in packets():
        at_s = packet.pts_ns / S
        if packet.track is not None and BEGIN_S <= at_s < END_S:
            told = (at_s - BEGIN_S, form(packet), packet.is_key)
            found.setdefault(packet.track.name, []).append(told)
    return found


def as_stored(packet: Packet) -> bytes:
    assert packet.track is not None
    return sample(packet.track.form, packet.data)


def read_back(path: Path, *, ends: bool = True) -> list[ReadTrack]:
    if path.suffix == ".mcap":
        return mcap_reader.read_by_summary(path) if ends else mcap_reader.read(path)
    return read(path)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_clip_has_all_that_is_in_its_span(tmp_path: Path, container: Container, ends: bool) -> None:
    recording = write(tmp_path / f"recording.{container.value}", container, ends=ends)
    clip, made = cut(recording, container, Span(round(BEGIN_S * S), round(END_S * S)))
    found = {each.title: each for each in read_back(clip)}
    before = {each.title: each for each in read_back(recording, ends=ends)}
    wanted = expected((lambda each: each.data) if container is Container.MCAP else as_stored)
    assert set(found) == set(wanted)
    for title, track in found.items():
        assert {name: track.tags[name] for name in before[title].tags if name.isupper()} == {
            name: value for name, value in before[title].tags.items() if name.isupper()
        }
        check(track, wanted[title])
    # Of ada from 2.5 s to her key frame at 4 s; bob sent one alone; eve came with one.
    assert made == CutPictures(copied=45 + 75, encoded=45 + 45)


def check(track: ReadTrack, wanted: Sequence[tuple[float, bytes, bool]]) -> None:
    """Each at its time; the same bits but for pictures before the first key frame."""
    assert [each.at_s for each in track.packets] == pytest.approx([at_s for at_s, _, _ in wanted], abs=0.002)
    keys = [n for n, (_, _, is_key) in enumerate(wanted) if is_key]
    first = 0 if track.kind is MediaKind.AUDIO else keys[0] if keys else len(wanted)
    assert [each.data for each in track.packets[first:]] == [data for _, data, _ in wanted[first:]]
    assert track.packets[0].is_key


@pytest.mark.parametrize("container", [Container.MKV, Container.MP4])
def test_pictures_show_from_the_first_moment_on(tmp_path: Path, container: Container) -> None:
    recording = write(tmp_path / f"recording.{container.value}", container, ends=True)
    clip, _ = cut(recording, container, Span(round(BEGIN_S * S), round(END_S * S)))
    for name, first, last in (("Ada", 75, 165), ("Bob", 75, 120), ("Eve", 90, 165)):
        shown = counters(extract(clip, f"{name} (camera)", tmp_path / f"{name}.mkv"))
        assert shown.unreadable == 0
        assert shown.values == list(range(first, last))


PART_S = 3.2
"""When its process dies."""


@dataclass
class Parts:
    """A recording that went on in another file."""

    rig: Path

    def write(self, container: Container, *, grows: bool) -> tuple[StoredPart, ...]:
        """The first is stored, the second grows, or both are stored."""
        made = []
        for number, (name, since_s, until_s) in enumerate(
            (("a", 0.0, PART_S), ("a-00002", PART_S, 99.0)), start=1
        ):
            kept = [each for each in packets() if since_s <= each.pts_ns / S < until_s]
            # A handler numbers its tracks anew, and those begin with a key frame.
            numbers: dict[str, int] = {}
            begun: set[str] = set()
            of: list[Packet] = []
            for each in kept:
                assert each.track is not None
                name_of = each.track.name
                if name_of not in begun and not each.is_key:
                    continue
                begun.add(name_of)
                track = replace(each.track, number=numbers.setdefault(name_of, len(numbers) + 1))
                at = round(Fraction(since_s) / each.time_base)
                of.append(replace(each, pts=each.pts - at, dts=each.dts - at, track=track))
            is_grown = grows and number == 2
            folder = self.rig / ("spool" if is_grown else "out")
            folder.mkdir(exist_ok=True)
            file = f"recording-0000{number}" if is_grown else name
            path = write(folder / f"{file}.{container.value}", container, ends=not is_grown, of=of)
            size_bytes = 0 if is_grown else path.stat().st_size
            made.append(StoredPart(f"{name}.{container.value}", duration_ns(path), size_bytes))
        return tuple(made)

    async def clip(self, container: Container, begin_s: float, end_s: float, *, grows: bool) -> ClipMade:
        stored = self.write(container, grows=grows)
        storage = StoragePlan(LocalStorage(str(self.rig / "out")), retry_for_s=0)
        clip_plan = ClipPlan(
            clip_id="CL_1",
            recorded=FileOutput(stored[0].path, container, storage),
            target=FileOutput("clip", None, storage),
            begin_ns=round(begin_s * S),
            end_ns=round(end_s * S),
            left_in=str(self.rig / "spool") if grows else "",
            stored=stored,
        )
        (self.rig / "CL_1").mkdir()
        return await ClipMaker(clip_plan, self.rig, Uploader(storage), _claim).make()


async def _claim(path: str) -> None:
    """Nobody else writes there."""


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("container", CONTAINERS)
async def test_a_clip_lies_in_two_files(tmp_path: Path, container: Container, grows: bool) -> None:
    """Of those who are in both it has one track, with all that either file has in the span."""
    rig = Parts(tmp_path)
    await rig.clip(container, BEGIN_S, END_S, grows=grows)
    found = {each.title: each for each in read_back(tmp_path / "out" / f"clip.{container.value}")}
    titles = [f"{who} ({what})" for who in ("Ada", "Bob", "Eve") for what in ("camera", "microphone")]
    # Bob has no key frame after the gap.
    assert sorted(found) == titles
    for who in ("Ada", "Eve"):
        voice = found[f"{who} (microphone)"].packets
        first_s = max(BEGIN_S, 3.0 if who == "Eve" else 0.0)
        assert len(voice) == pytest.approx((END_S - first_s) * 50, abs=2)
        assert all(0.01 < later.at_s - each.at_s < 0.04 for each, later in pairwise(voice))
    pictures = found["Ada (camera)"].packets
    # From 2.5 s to 3.2 s, and from her next key frame at 4 s on.
    keys_s = [each.at_s for each in pictures if each.is_key]
    assert (keys_s[0], keys_s[-1]) == pytest.approx((0, 1.5), abs=0.03)
    assert not [each.at_s for each in pictures if 0.75 < each.at_s < 1.45]
    assert len(pictures) == pytest.approx((0.7 + 1.5) * 30, abs=2)


@pytest.mark.parametrize("container", CONTAINERS)
async def test_a_clip_begins_in_the_second_file(tmp_path: Path, container: Container) -> None:
    """So soon that a decoder of sound would want some of the first one."""
    await Parts(tmp_path).clip(container, PART_S + 0.1, END_S, grows=True)
    clip = tmp_path / "out" / f"clip.{container.value}"
    found = {each.title: each for each in read_back(clip)}
    assert found["Ada (camera)"].packets[0].at_s == pytest.approx(0.7, abs=0.03)
    assert found["Ada (microphone)"].packets[0].at_s < 0.03
    if container is Container.MKV:
        with clip.open("rb") as file:
            began = MatroskaTracks(LocalBytes(file.fileno())).started_at_ns
        assert (began - STARTED_NS) / S == pytest.approx(0.1, abs=0.002)  # by the clock of its own file


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("container", CONTAINERS)
def test_voices_before_any_picture_are_in_it(tmp_path: Path, container: Container, ends: bool) -> None:
    """A meeting begins with voices, and the first camera comes later."""
    late = [
        each
        for each in packets()
        if each.track is not None and ("microphone" in each.track.name or each.track.name.startswith("Eve"))
    ]
    recording = write(tmp_path / f"recording.{container.value}", container, ends=ends, of=late)
    clip, _ = cut(recording, container, Span(S, 5 * S))
    found = {each.title: each.packets for each in read_back(clip)}
    assert found["Ada (microphone)"][0].at_s < 0.03
    assert len(found["Ada (microphone)"]) == pytest.approx(4 * 50, abs=2)
    assert found["Eve (camera)"][0].at_s == pytest.approx(2.0, abs=0.02)


def test_mkvtoolnix_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    recording = write(tmp_path / "recording.mkv", Container.MKV, ends=False)
    clip, _ = cut(recording, Container.MKV, Span(round(BEGIN_S * S), round(END_S * S)))
    told = subprocess.run(["mkvmerge", "-J", str(clip)], capture_output=True, check=True, text=True)
    assert '"errors": []' in told.stdout and '"warnings": []' in told.stdout
    assert "2027-01-15T08:00:02" in told.stdout  # when it began, and not the recording


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_span_in_which_nobody_sent_anything(tmp_path: Path, container: Container) -> None:
    recording = write(tmp_path / f"recording.{container.value}", container, ends=True)
    with pytest.raises(EgressError) as refused:
        cut(recording, container, Span(20 * S, 30 * S))
    assert refused.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_track_that_is_late_keeps_its_order(tmp_path: Path, container: Container) -> None:
    """Its packets lie behind those of others, so that pieces of the file begin before earlier ones."""

    def written_ns(packet: Packet) -> int:
        return packet.pts_ns + (1_200_000_000 if packet.track and packet.track.name.startswith("Ada") else 0)

    late = sorted(packets(), key=written_ns)
    recording = write(tmp_path / f"recording.{container.value}", container, ends=True, of=late)
    clip, _ = cut(recording, container, Span(round(BEGIN_S * S), round(END_S * S)))
    wanted = expected((lambda each: each.data) if container is Container.MCAP else as_stored)
    for track in read_back(clip):
        check(track, wanted[track.title])
