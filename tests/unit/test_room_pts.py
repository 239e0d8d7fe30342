"""Encoded sound on the timeline: holes filled, drift followed, beginnings cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec
from openegress.core.units import MS
from openegress.room.sound_length import duration_of
from openegress.source.room.pts import AudioPts, VideoPts

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
    pts = speaking()
    placed = [pts.place(i * 20 * MS, RTP + i * 960, OPUS_20_MS) for i in range(5)]
    assert [[(each.pts, each.duration) for each in packets] for packets in placed] == [
        [(i * 960, 960)] for i in range(5)
    ]


def speaking(codec: AudioCodec = AudioCodec.OPUS) -> AudioPts:
    """Somebody speaks in every packet."""
    return AudioPts(codec, lambda data: False)


def test_sound_that_seems_to_be_from_before_media_time_zero_is_kept() -> None:
    """It is the jitter of the first packets: nothing is recorded before one has come."""
    pts = speaking()
    assert [each.pts for each in pts.place(-20 * MS, RTP, OPUS_20_MS)] == [0]
    assert [each.pts for each in pts.place(0, RTP + 960, OPUS_20_MS)] == [960]


def test_speech_that_is_late_is_written_and_pauses_are_left_out_until_it_is_in_time() -> None:
    quiet = b"\x78" + b"q" * 40
    pts = AudioPts(AudioCodec.OPUS, lambda data: data == quiet)
    pts.place(0, RTP, OPUS_20_MS)
    pts.silence_until(2000 * MS)
    late = [pts.place((20 + 20 * i) * MS, RTP + 960 * (i + 1), OPUS_20_MS) for i in range(100)]
    assert all([each.data for each in packets] == [OPUS_20_MS] for packets in late)
    pauses = [pts.place((2020 + 20 * i) * MS, RTP + 960 * (i + 101), quiet) for i in range(120)]
    assert sum(not each for each in pauses) == pytest.approx(100, abs=12)
    assert pts.end_ns == pytest.approx(4420 * MS, abs=15 * MS)


@pytest.mark.parametrize("off_ms", [-50, 50])
def test_sound_without_a_pause_is_led_to_its_time_by_a_thousandth(off_ms: int) -> None:
    pts = speaking()
    pts.place(0, RTP, OPUS_20_MS)
    placed = [
        each for i in range(1, 3500) for each in pts.place((20 * i + off_ms) * MS, RTP + 960 * i, OPUS_20_MS)
    ]
    assert all(0 <= abs(b.pts - a.pts - a.duration) <= 1 for a, b in pairwise(placed))
    assert {each.data for each in placed} == {OPUS_20_MS}
    assert abs(placed[1000].pts - 1001 * 960 - off_ms * 48) == pytest.approx(50 * 48 - 960, abs=2)
    assert pts.late_ns == pytest.approx(0, abs=1.1 * MS)


def test_it_is_told_how_late_sound_is_written() -> None:
    quiet = b"\x78" + b"q" * 40
    pts = AudioPts(AudioCodec.OPUS, lambda data: data == quiet)
    pts.place(0, RTP, OPUS_20_MS)
    assert pts.late_ns == 0
    pts.silence_until(2000 * MS)
    pts.place(20 * MS, RTP + 960, OPUS_20_MS)
    assert pts.late_ns == 1980 * MS
    pts.place(40 * MS, RTP + 1920, quiet)
    assert pts.late_ns == 1960 * MS
    pts.silence_until(4000 * MS)
    assert pts.late_ns == 0


def test_a_lost_packet_is_concealed() -> None:
    pts = speaking()
    pts.place(0, RTP, OPUS_20_MS)
    placed = pts.place(40 * MS, RTP + 1920, OPUS_20_MS)
    assert [(each.pts, len(each.data)) for each in placed] == [(960, 1), (1920, len(OPUS_20_MS))]


def test_a_long_hole_is_silence() -> None:
    pts = speaking()
    pts.place(0, RTP, OPUS_20_MS)
    placed = pts.place(1000 * MS, RTP + 48_000, OPUS_20_MS)
    assert len(placed) == 50
    assert {each.data for each in placed[:-1]} == {b"\xf8\xff\xfe"}


def test_a_muted_track_is_silent_and_goes_on_where_it_should() -> None:
    pts = speaking(AudioCodec.PCMU)
    pts.place(0, RTP, bytes(160))
    silent = pts.silence_until(1010 * MS)
    assert sum(each.duration for each in silent) == 1010 * 8 - 160
    assert set(b"".join(each.data for each in silent)) == {0xFF}
    assert [each.pts for each in pts.place(1010 * MS, RTP + 8080, bytes(160))] == [8080]


def test_a_track_that_never_sends_is_silent_from_the_beginning() -> None:
    silent = speaking().silence_until(1000 * MS)
    assert silent[0].pts == 0
    assert sum(each.duration for each in silent) == 48_000


@given(
    losses=st.sets(st.integers(1, 300)),
    drift_ppm=st.integers(-300, 300),
    jitter_ms=st.lists(st.integers(-3, 3), min_size=301, max_size=301),
)
def test_sound_has_no_hole_and_no_overlap(losses: set[int], drift_ppm: int, jitter_ms: list[int]) -> None:
    pts = speaking()
    end = None
    for i in (i for i in range(301) if i not in losses):
        at_ns = 100 * MS + i * 20 * MS * (1_000_000 + drift_ppm) // 1_000_000 + jitter_ms[i] * MS
        for each in pts.place(at_ns, RTP + i * 960, OPUS_20_MS):
            assert end is None or abs(each.pts - end) < 10
            end = each.pts + each.duration
        if end is not None:
            assert abs(end * 1_000_000_000 / 48_000 - at_ns - 20 * MS) < 25 * MS


@given(st.lists(st.integers(-(10**9), 10**12), min_size=1))
def test_pictures_rise_strictly_from_zero(times_ns: list[int]) -> None:
    pts = VideoPts()
    placed = [pts.place(at_ns) for at_ns in times_ns]
    assert placed[0] >= 0
    assert all(b > a for a, b in pairwise(placed))


def sparse(is_pause: bool = False) -> AudioPts:
    return AudioPts(AudioCodec.OPUS, lambda data: is_pause, sparse=True)


@pytest.mark.parametrize("hole_ms", [40, 400, 3_600_000])
def test_a_sparse_stream_leaves_holes_as_they_are(hole_ms: int) -> None:
    pts = sparse()
    pts.place(0, RTP, OPUS_20_MS)
    placed = pts.place((20 + hole_ms) * MS, RTP + (20 + hole_ms) * 48, OPUS_20_MS)
    assert [(each.pts, each.data) for each in placed] == [((20 + hole_ms) * 48, OPUS_20_MS)]


def test_a_sparse_stream_writes_every_pause_that_makes_up_for_what_is_late() -> None:
    """A burst after a stall of half a second: its times never fall, and are true after fifty pauses."""
    pts = sparse(is_pause=True)
    pts.place(0, RTP, OPUS_20_MS)
    late = [pts.place(0, RTP + 960 * (i + 1), OPUS_20_MS) for i in range(25)]
    after = [pts.place(20 * i * MS, RTP + 960 * (i + 26), OPUS_20_MS) for i in range(60)]
    placed = [each for packets in (*late, *after) for each in packets]
    assert len(placed) == 85
    assert {each.data for each in placed} == {OPUS_20_MS}
    assert all(b.pts - a.pts >= 480 for a, b in pairwise(placed))
    assert placed[-1].pts == pytest.approx(59 * 960, abs=960)


@given(st.lists(st.tuples(st.integers(-300, 300), st.booleans()), min_size=1, max_size=80))
def test_a_sparse_stream_keeps_each_packet_once_and_in_order(steps: list[tuple[int, bool]]) -> None:
    """Whatever the network does, and whoever speaks."""
    speaks = iter([speaking_now for _, speaking_now in steps])
    pts = AudioPts(AudioCodec.OPUS, lambda data: not next(speaks, True), sparse=True)
    at_ms, placed = 0, []
    for number, (jump_ms, _) in enumerate(steps):
        at_ms += 20
        found = pts.place((at_ms + jump_ms) * MS, RTP + number * 960, OPUS_20_MS)
        assert len(found) == 1
        placed += found
    assert all(a.pts < b.pts for a, b in pairwise(placed))
