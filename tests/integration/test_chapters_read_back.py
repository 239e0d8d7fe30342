"""Chapters of MP4, WebM and Matroska, as FFmpeg, GPAC's reader and MKVToolNix find them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest

from openegress.core.codecs import AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.marker import Marker
from openegress.core.units import MS, S
from openegress.media.clusters import ClusterWriter
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.matroska import MatroskaWriter
from openegress.media.plain_mp4 import make_plain
from openegress.output.file.finalise import finalise
from testkit import mp4_reader, probe
from testkit.encoded import Encoded, Spec
from testkit.tracks_maker import STARTED_NS, Disk, by_time, pictures, sounds

MARKERS = (
    Marker("Fragen & Antworten: 質問", 2_500 * MS, STARTED_NS),
    Marker("Hello", 500 * MS, STARTED_NS),
    Marker("Hello again", 500 * MS, STARTED_NS),
)
TITLES = ["Hello", "Hello again", "Fragen & Antworten: 質問"]
STARTS_S = [0.5, 0.5, 2.5]


def shown(path: Path) -> list[tuple[float, str]]:
    """(s, title), as ffprobe has them."""
    command = ["ffprobe", "-v", "error", "-show_chapters", "-of", "json", str(path)]
    made = subprocess.run(command, capture_output=True, check=True)
    assert made.stderr == b""
    found: list[dict[str, Any]] = json.loads(made.stdout)["chapters"]
    return [(float(each["start_time"]), each["tags"]["title"]) for each in found]


def check_shown(path: Path) -> None:
    found = shown(path)
    assert [title for _, title in found] == TITLES
    assert [at_s for at_s, _ in found] == pytest.approx(STARTS_S, abs=0.0011)


def fragments(path: Path) -> Encoded:
    encoded = Encoded(Spec(seconds=4.0))
    with path.open("wb", buffering=0) as file:
        writer = FragmentWriter(file.write, encoded.formats, header=file_header(encoded.formats))
        writer.open()
        for packet in encoded.packets():
            writer.write(packet)
        writer.close()
    return encoded


@pytest.mark.parametrize("is_in_place", [False, True])
def test_an_mp4_has_a_track_of_them(tmp_path: Path, is_in_place: bool) -> None:
    """Which players of Apple's go by; its media is what it was."""
    path, plain = tmp_path / "a.mp4", tmp_path / "plain.mp4"
    fragments(path)
    shutil.copy(path, plain)
    assert finalise(plain, Container.MP4) == ""
    if is_in_place:
        make_plain(path, MARKERS)
    else:
        assert finalise(path, Container.MP4, MARKERS) == ""
    check_shown(path)
    found, before = mp4_reader.read(path), mp4_reader.read(plain)
    assert found.top == (
        ["ftyp", "mdat", "moov", "mdat"] if is_in_place else ["ftyp", "moov", "mdat", "mdat"]
    )
    unknown = ("gmhd", "text", "chpl")  # to GPAC's reader: QuickTime's and Nero's
    assert not [box for box in found.boxes if box.unread and not box.path.endswith(unknown)]
    paths = [box.path for box in found.boxes]
    assert paths.count("moov/trak/tref") == 2 and "moov/udta/chpl" in paths
    *media, chapters = found.tracks
    assert [len(track.samples) for track in media] == [len(track.samples) for track in before.tracks]
    content = path.read_bytes()
    starts_s = chapters.presented_s(found.timescale)
    assert starts_s == pytest.approx(STARTS_S, abs=0.0011)
    for sample, title in zip(chapters.samples, TITLES, strict=True):
        text = title.encode()
        held = content[sample.offset : sample.offset + sample.size]
        assert held[2 : 2 + int.from_bytes(held[:2], "big")] == text
    assert starts_s[-1] + chapters.samples[-1].duration / chapters.timescale == pytest.approx(4.0, abs=0.05)
    facts, plain_facts = probe.probe(path), probe.probe(plain)
    assert (facts.video, facts.audio) == (plain_facts.video, plain_facts.audio)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(4_000_000, abs=50_000)


def test_markers_without_end_or_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    fragments(path)
    many = [Marker(f"{n:03d}", n * MS, STARTED_NS) for n in range(0, 4000, 4)]
    assert finalise(path, Container.MP4, [*many, Marker("late", 40 * S, STARTED_NS)]) == ""
    found = shown(path)
    assert len(found) == 1001 and found[-1] == (40.0, "late")
    assert [at_s for at_s, _ in found] == sorted(at_s for at_s, _ in found)


def identified(path: Path) -> str:
    """Its elements in MKVToolNix's words, which has nothing to say against it."""
    made = subprocess.run(["mkvmerge", "-J", str(path)], capture_output=True, check=True)
    told = json.loads(made.stdout)
    assert told["errors"] == told["warnings"] == []
    assert told["chapters"] == [{"num_entries": len(TITLES)}]
    listed = subprocess.run(["mkvinfo", "--all", str(path)], capture_output=True, check=True, text=True)
    return listed.stdout


def test_a_matroska_file(tmp_path: Path) -> None:
    path, disk = tmp_path / "a.mkv", Disk()
    writer = MatroskaWriter(disk.put, disk.rewrite, STARTED_NS)
    writer.open()
    for packet in by_time(sounds(1, AudioCodec.OPUS, seconds=4), pictures(2, VideoCodec.H264)):
        writer.write(packet)
    writer.close()
    path.write_bytes(disk.content)
    for _ in range(2):
        assert finalise(path, Container.MKV, MARKERS) == ""
        check_shown(path)
    listed = identified(path)
    assert all(f"Chapter string: {title}" in listed for title in TITLES)
    assert "Chapter time start: 00:00:00.501000000" in listed


def test_a_webm(tmp_path: Path) -> None:
    path, disk = tmp_path / "a.webm", Disk()
    encoded = Encoded(Spec(seconds=4.0, video=False, audio=AudioCodec.OPUS))
    writer = ClusterWriter(disk.put, encoded.formats, disk.rewrite)
    writer.open()
    for packet in encoded.packets():
        assert packet.kind is MediaKind.AUDIO
        writer.write(packet)
    writer.close()
    path.write_bytes(disk.content)
    assert finalise(path, Container.WEBM, MARKERS) == ""
    check_shown(path)
    assert "Chapter string: Hello again" in identified(path)
