"""Encoded sound on the timeline: holes filled, drift followed, beginnings cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec
from openegress.source.room.placement import AudioPlacer, VideoPlacer, duration_of

MS = 1_000_000
OPUS_20_MS = b"\x78" + b"x" * 40
"""SILK/CELT hybrid is config 12-15, this is config 15: 20 ms, mono."""
RTP = 4_000_000_000


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        (b"\x00", 480),
        (b"\x08", 960),
        (b"\x18", 2880),
        (b"\x70", 480),
        (b"\x78", 960),
        (b"\x80", 120),
        (b"\xf8\xff\xfe", 960),
        (b"\xf9", 1920),
        (b"\xfb\x03", 2880),
        (b"\xfb", 0),
        (b"\x1b\x3f", 0),
        (b"", 0),
    ],
)
def test_opus_durations(data: bytes, samples: int) -> None:
    assert duration_of(AudioCodec.OPUS, data) == samples


def test_packets_follow_each_other() -> None:
    placer = AudioPlacer(AudioCodec.OPUS)
    placed = [placer.place(i * 20 * MS, RTP + i * 960, OPUS_20_MS) for i in range(5)]
    assert [[(each.pts, each.duration) for each in packets] for packets in placed] == [
        [(i * 960, 960)] for i in range(5)
    ]


def test_sound_from_before_media_time_zero_is_left_out() -> None:
    placer = AudioPlacer(AudioCodec.OPUS)
    assert placer.place(-20 * MS, RTP, OPUS_20_MS) == []
    assert [each.pts for each in placer.place(0, RTP + 960, OPUS_20_MS)] == [0]


def test_a_lost_packet_is_concealed() -> None:
    placer = AudioPlacer(AudioCodec.OPUS)
    placer.place(0, RTP, OPUS_20_MS)
    placed = placer.place(40 * MS, RTP + 1920, OPUS_20_MS)
    assert [(each.pts, len(each.data)) for each in placed] == [(960, 1), (1920, len(OPUS_20_MS))]


def test_a_long_hole_is_silence() -> None:
    placer = AudioPlacer(AudioCodec.OPUS)
    placer.place(0, RTP, OPUS_20_MS)
    placed = placer.place(1000 * MS, RTP + 48_000, OPUS_20_MS)
    assert len(placed) == 50
    assert {each.data for each in placed[:-1]} == {b"\xf8\xff\xfe"}


def test_a_muted_track_is_silent_and_goes_on_where_it_should() -> None:
    placer = AudioPlacer(AudioCodec.PCMU)
    placer.place(0, RTP, bytes(160))
    silent = placer.silence_until(1010 * MS)
    assert sum(each.duration for each in silent) == 1010 * 8 - 160
    assert set(b"".join(each.data for each in silent)) == {0xFF}
    assert [each.pts for each in placer.place(1010 * MS, RTP + 8080, bytes(160))] == [8080]


def test_silence_needs_a_beginning() -> None:
    assert AudioPlacer(AudioCodec.OPUS).silence_until(1000 * MS) == []


@given(
    losses=st.sets(st.integers(1, 300)),
    drift_ppm=st.integers(-300, 300),
    jitter_ms=st.lists(st.integers(-3, 3), min_size=301, max_size=301),
)
def test_sound_has_no_hole_and_no_overlap(losses: set[int], drift_ppm: int, jitter_ms: list[int]) -> None:
    placer = AudioPlacer(AudioCodec.OPUS)
    end = None
    for i in (i for i in range(301) if i not in losses):
        at_ns = 100 * MS + i * 20 * MS * (1_000_000 + drift_ppm) // 1_000_000 + jitter_ms[i] * MS
        for each in placer.place(at_ns, RTP + i * 960, OPUS_20_MS):
            assert end is None or abs(each.pts - end) < 10
            end = each.pts + each.duration
        if end is not None:
            assert abs(end * 1_000_000_000 / 48_000 - at_ns - 20 * MS) < 25 * MS


@given(st.lists(st.integers(-(10**9), 10**12), min_size=1))
def test_pictures_rise_strictly_from_zero(times_ns: list[int]) -> None:
    placer = VideoPlacer()
    placed = [placer.place(at_ns) for at_ns in times_ns]
    assert placed[0] >= 0
    assert all(b > a for a, b in pairwise(placed))
