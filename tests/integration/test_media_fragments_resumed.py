"""A file of fragments that one process after another has written: what each of them left is in it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec, Container, MediaKind
from openegress.core.errors import EgressError
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.fragment_end import FragmentsEnd, end_of
from openegress.media.fragment_index import read
from openegress.media.fragments import FragmentWriter, file_header, sample
from openegress.media.plain_mp4 import plain_copy
from openegress.media.timeline_shift import ShiftedPackets, TimelineShift
from openegress.output.file.finalise import finalise
from openegress.output.spool_file import SpoolFile
from testkit import mp4_reader
from testkit.encoded import Encoded, Spec

LIFE_S = 1.5


class Kept(list[Packet]):
    """As they reach a writer."""

    def write(self, packet: Packet) -> None:
        self.append(packet)


@dataclass(frozen=True, slots=True)
class Media:
    formats: Sequence[StreamFormat]
    packets: Sequence[Packet]


def media(spec: Spec) -> Media:
    encoded = Encoded(spec)
    return Media(encoded.formats, list(encoded.packets()))


@functools.cache
def usual() -> Media:
    return media(Spec(seconds=LIFE_S))


def life(path: Path, encoded: Media, behind: FragmentsEnd | None) -> list[Packet]:
    """One process: all its packets, as they lie on the timeline."""
    later = TimelineShift(behind.end_ns if behind is not None else 0, 0)
    file = SpoolFile(path, keep_bytes=behind.size_bytes if behind is not None else 0)
    kept = Kept()
    given = ShiftedPackets(kept, later)
    try:
        header = file_header(encoded.formats)
        writer = FragmentWriter(file.write, encoded.formats, header=header, behind=behind)
        writer.open()
        for packet in encoded.packets:
            given.write(packet)
            writer.write(kept[-1])
        writer.close()
    finally:
        file.release()
    return list(kept)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0.02, 1.0), min_size=1, max_size=3))
def test_all_whole_fragments_of_each_are_in_one_file(
    tmp_path_factory: pytest.TempPathFactory, torn: list[float]
) -> None:
    """Each process but the last is killed with a part of what it wrote: no sample is there twice or out of
    order, and none of a whole fragment is missing."""
    encoded, path = usual(), tmp_path_factory.mktemp("lives") / "a.mp4"
    told: dict[MediaKind, list[bytes]] = {form.kind: [] for form in encoded.formats}
    times: dict[MediaKind, list[float]] = {form.kind: [] for form in encoded.formats}
    for part in [*torn, 1.0]:
        behind = end_of(path) if path.exists() else None
        begun_bytes = behind.size_bytes if behind is not None else 0
        before = counts(path) if behind is not None else {}
        packets = life(path, encoded, behind)
        size_bytes = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(begun_bytes + round((size_bytes - begun_bytes) * part))
        if end_of(path) is None:
            continue
        after = counts(path)
        for form in encoded.formats:
            written = after.get(form.kind, 0) - before.get(form.kind, 0)
            assert written >= 0
            own = [packet for packet in packets if packet.kind is form.kind][:written]
            told[form.kind] += [sample(form, packet.data) for packet in own]
            times[form.kind] += [packet.pts_ns / S for packet in own]
    plain = path.with_suffix(".plain.mp4")
    plain_copy(path, plain)
    found, data = mp4_reader.read(plain), plain.read_bytes()
    assert finalise(path, Container.MP4) == ""
    for track, form in zip(found.tracks, encoded.formats, strict=True):
        assert [data[s.offset : s.offset + s.size] for s in track.samples] == told[form.kind]
        assert track.presented_s(found.timescale) == pytest.approx(times[form.kind], abs=1e-3)
    with av.open(str(plain)) as container:
        # The first is what the first encoder puts before its media.
        assert sum(1 for _ in container.decode(audio=0)) == len(told[MediaKind.AUDIO]) - 1


def counts(path: Path) -> dict[MediaKind, int]:
    with path.open("rb") as file:
        return {track.kind: len(track.sizes) for track in read(file).tracks}


def test_sound_goes_on_without_a_hole(tmp_path: Path) -> None:
    """The encoder's first samples, which it puts before its media, lie where the last ones of before end."""
    encoded, path = usual(), tmp_path / "a.mp4"
    life(path, encoded, None)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    life(path, encoded, end_of(path))
    plain = path.with_suffix(".plain.mp4")
    plain_copy(path, plain)
    found = mp4_reader.read(plain)
    sound = next(t for t, form in zip(found.tracks, encoded.formats, strict=True) if form.is_sound)
    assert {each.duration for each in sound.samples[:-1]} == {1024}


def test_other_encoder_settings_have_a_description_of_their_own(tmp_path: Path) -> None:
    small, large = media(Spec(seconds=1.0)), media(Spec(seconds=1.0, width=640, height=360))
    path = tmp_path / "a.mp4"
    life(path, small, None)
    life(path, large, end_of(path))
    plain = path.with_suffix(".plain.mp4")
    plain_copy(path, plain)
    with av.open(str(plain)) as container:
        sizes = {(frame.width, frame.height) for frame in container.decode(video=0)}
    assert sizes == {(320, 180), (640, 360)}


def test_other_codecs_and_tracks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    life(path, media(Spec(seconds=1.0)), None)
    for other in (Spec(seconds=1.0, audio=AudioCodec.OPUS), Spec(seconds=1.0, video=False)):
        with pytest.raises(EgressError, match="other tracks or codecs"):
            life(path, media(other), end_of(path))


def test_nothing_and_garbage_are_no_file_to_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert end_of(path) is None
    for data in (b"", b"\0" * 5000, file_header(Encoded(Spec(seconds=1.0)).formats)):
        path.write_bytes(data)
        assert end_of(path) is None
