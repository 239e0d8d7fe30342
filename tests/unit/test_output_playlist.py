"""HLS playlists as text, and where segments are cut."""

from fractions import Fraction
from random import Random

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media import Packet
from openegress.output.hls import playlist as playlists
from openegress.output.hls.cutter import Cutter
from openegress.output.hls.layout import made, made_bytes
from openegress.output.hls.playlist import (
    Listing,
    PlaylistKind,
    PlaylistLimits,
    Segment,
    date_time,
    render,
    rounded_s,
    seconds,
    uri,
)
from openegress.output.hls.recover import parse_entries, promised

START_NS = 1_700_000_000 * S
OURS = PlaylistLimits.of(4, passed_through=False)


def segment(n: int, duration_s: float = 4.0, discontinuity: bool = False, init: str = "") -> Segment:
    return Segment(f"a_{n:05d}.ts", round(duration_s * S), START_NS + n * 4 * S, discontinuity, init)


def test_a_growing_playlist_in_full() -> None:
    assert render(PlaylistKind.FULL, [segment(0), segment(1, 3.2)], promise=OURS) == (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:4\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n#EXTINF:4.000000,\na_00000.ts\n"
        "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:24.000Z\n#EXTINF:3.200000,\na_00001.ts\n"
    )


def test_the_end_is_marked() -> None:
    text = render(PlaylistKind.FULL, [segment(0)], promise=OURS, ended=True)
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in text
    assert text.endswith("#EXT-X-ENDLIST\n")


def test_fmp4_names_its_initialisation_segment_once_per_playlist() -> None:
    text = render(PlaylistKind.LIVE, [segment(n, init="a init.mp4") for n in range(9)], promise=OURS)
    assert text.count('#EXT-X-MAP:URI="a%20init.mp4"') == 1
    assert "#EXT-X-VERSION:7" in text
    assert text.index("EXT-X-MAP") < text.index("EXTINF")


def test_each_format_has_its_initialisation_segment_from_its_first_segment_on() -> None:
    inits = ["i.mp4"] * 3 + ["i_1.mp4"] * 3 + ["i_2.mp4"]
    segments = [segment(n, discontinuity=n in (3, 4, 6), init=init) for n, init in enumerate(inits)]
    told = [
        line for line in render(PlaylistKind.FULL, segments, promise=OURS).splitlines() if "DATE" not in line
    ]
    # Once when it changes, and again after a discontinuity at which it does not.
    assert told[6:] == [
        '#EXT-X-MAP:URI="i.mp4"', "#EXTINF:4.000000,", "a_00000.ts",
        "#EXTINF:4.000000,", "a_00001.ts",
        "#EXTINF:4.000000,", "a_00002.ts",
        "#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="i_1.mp4"', "#EXTINF:4.000000,", "a_00003.ts",
        "#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="i_1.mp4"', "#EXTINF:4.000000,", "a_00004.ts",
        "#EXTINF:4.000000,", "a_00005.ts",
        "#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="i_2.mp4"', "#EXTINF:4.000000,", "a_00006.ts",
    ]  # fmt: skip


def test_a_playlist_that_grows_writes_each_segment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def counted(name: str) -> str:
        written.append(name)
        return uri(name)

    monkeypatch.setattr(playlists, "uri", counted)
    listing, segments = Listing(OURS), []
    for n in range(200):
        segments.append(segment(n, discontinuity=n % 7 == 6))
        listing.add(segments[-1])
        text = listing.text(PlaylistKind.FULL)
    assert len(written) == 200
    for kind in PlaylistKind:
        for ended in (False, True):
            assert listing.text(kind, ended=ended) == render(kind, segments, promise=OURS, ended=ended)
    assert parse_entries(text) == segments


def test_the_size_of_what_was_made_is_told_beside_the_playlist() -> None:
    text = made(render(PlaylistKind.FULL, [segment(0), segment(1)], promise=OURS, ended=True), 123_456_789)
    assert made_bytes(text) == 123_456_789
    assert parse_entries(text) == [segment(0), segment(1)]
    assert len(m3u8.loads(text).segments) == 2
    assert made_bytes("") == 0


@pytest.mark.parametrize("count", range(1, 12))
def test_a_live_playlist_begins_with_what_its_first_segment_needs(count: int) -> None:
    inits = ["i.mp4"] * 3 + ["i_1.mp4"] * 4 + ["i_2.mp4"] * 4
    segments = [segment(n, discontinuity=n in (3, 7), init=init) for n, init in enumerate(inits[:count])]
    live = m3u8.loads(render(PlaylistKind.LIVE, segments, promise=OURS))
    assert [s.init_section.uri for s in live.segments] == inits[:count][-5:]


@pytest.mark.parametrize(("passed_through", "target_s", "independent"), [(False, 4, True), (True, 8, False)])
def test_what_a_playlist_promises_never_changes(
    passed_through: bool, target_s: int, independent: bool
) -> None:
    promise = PlaylistLimits.of(4, passed_through=passed_through)
    for durations_s in ([], [4.0], [4.0, 4.4], [0.1, 7.9, 8.4]):
        text = render(PlaylistKind.FULL, [segment(n, d) for n, d in enumerate(durations_s)], promise=promise)
        assert f"#EXT-X-TARGETDURATION:{target_s}\n" in text
        assert ("#EXT-X-INDEPENDENT-SEGMENTS" in text) is independent


@pytest.mark.parametrize("passed_through", [False, True])
@given(st.lists(st.integers(1, 3 * S), max_size=60), st.randoms(use_true_random=False))
def test_the_cutter_keeps_what_is_promised(passed_through: bool, gaps_ns: list[int], random: Random) -> None:
    promise = PlaylistLimits.of(3, passed_through=passed_through)
    cutter = Cutter(3 * S, has_video=True, limit_ns=promise.limit_ns)
    cutter.begins(packet(MediaKind.VIDEO, 0))
    begun_ns = at_ns = 0
    for gap_ns in gaps_ns:
        # Sound goes on where the picture does not.
        kind, key = random.choice(
            [(MediaKind.VIDEO, True), (MediaKind.VIDEO, False), (MediaKind.AUDIO, True)]
        )
        sound = [packet(MediaKind.AUDIO, t / S) for t in range(at_ns, at_ns + gap_ns, S // 50)]
        at_ns += gap_ns
        for each in (*sound, packet(kind, at_ns / S, key=key)):
            if cutter.begins(each):
                assert rounded_s(each.pts_ns - begun_ns) <= promise.target_s
                begun_ns = each.pts_ns


def test_a_segment_ends_at_the_limit_where_no_key_frame_comes() -> None:
    cutter = Cutter(4 * S, has_video=True, limit_ns=8 * S)
    keys = {0.0, 4.0, 13.0}
    at_s = [n / 2 for n in range(40)]
    cuts = [at for at in at_s if cutter.begins(packet(MediaKind.VIDEO, at, key=at in keys))]
    assert cuts == [0.0, 4.0, 12.0]


def test_a_new_format_begins_a_segment() -> None:
    cutter = Cutter(4 * S, has_video=True, limit_ns=8 * S)
    assert cutter.begins(packet(MediaKind.VIDEO, 0))
    assert not cutter.begins(packet(MediaKind.VIDEO, 1))
    assert cutter.begins(packet(MediaKind.VIDEO, 2), breaks=True)
    assert not cutter.begins(packet(MediaKind.VIDEO, 3.9))


def test_discontinuities_that_slid_out_are_counted() -> None:
    segments = [segment(n, discontinuity=n in (1, 6)) for n in range(9)]
    live = m3u8.loads(render(PlaylistKind.LIVE, segments, promise=OURS))
    assert live.media_sequence == 4
    assert live.discontinuity_sequence == 1
    assert [s.discontinuity for s in live.segments] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a_0.ts", "a_0.ts"),
        ("dir/a b.ts", "dir/a%20b.ts"),
        ("a#1?.ts", "a%231%3F.ts"),
        ("ä%.ts", "%C3%A4%25.ts"),
        ("x:y.ts", "x%3Ay.ts"),
        ('q".ts', "q%22.ts"),
    ],
)
def test_names_become_uris(name: str, written: str) -> None:
    assert uri(name) == written


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "0.000000"), (499, "0.000000"), (500, "0.000001"), (4 * S, "4.000000"), (33_366_667, "0.033367")],
)
def test_durations_are_decimal(duration_ns: int, text: str) -> None:
    assert seconds(duration_ns) == text


def test_a_millisecond_that_rounds_up_carries() -> None:
    assert date_time(START_NS - 1) == "2023-11-14T22:13:20.000Z"


@given(
    st.lists(st.integers(1, 20 * S), max_size=40),
    st.sampled_from(PlaylistKind),
    st.booleans(),
    st.integers(1, 10),
    st.lists(st.tuples(st.booleans(), st.sampled_from(["a b_init.mp4", "init_1.mp4"])), min_size=40),
    st.booleans(),
)
def test_any_playlist_is_read_back_as_it_was_meant(
    durations: list[int],
    kind: PlaylistKind,
    ended: bool,
    segment_s: int,
    formats: list[tuple[bool, str]],
    is_fmp4: bool,
) -> None:
    segments = [
        Segment(f"{n}.x", d, START_NS + n * S, discontinuity, init if is_fmp4 else "")
        for n, (d, (discontinuity, init)) in enumerate(zip(durations, formats, strict=False))
    ]
    promise = PlaylistLimits(max([segment_s, *(rounded_s(d) for d in durations)]), 0, independent=True)
    text = render(kind, segments, promise=promise, ended=ended)
    parsed = m3u8.loads(text)
    shown = segments if kind is PlaylistKind.FULL else segments[-5:]
    assert [s.uri for s in parsed.segments] == [s.uri for s in shown]
    assert all(
        abs(a.duration - b.duration_ns / S) < 1e-6 for a, b in zip(parsed.segments, shown, strict=True)
    )
    assert [s.init_section.uri if s.init_section else "" for s in parsed.segments] == [
        uri(s.init) for s in shown
    ]
    assert [s.discontinuity for s in parsed.segments] == [s.discontinuity for s in shown]
    if kind is PlaylistKind.FULL:
        assert [(s.uri, s.discontinuity, s.init) for s in parse_entries(text)] == [
            (s.uri, s.discontinuity, s.init) for s in segments
        ]
    assert parsed.is_endlist is ended
    assert parsed.media_sequence == len(segments) - len(shown)
    assert parsed.target_duration is not None
    assert all(s.duration < parsed.target_duration + 0.5 for s in parsed.segments)


def packet(kind: MediaKind, at_s: float, *, key: bool = True) -> Packet:
    return Packet(kind, b"", round(at_s * 90_000), round(at_s * 90_000), 3000, Fraction(1, 90_000), key)


@pytest.mark.parametrize(
    ("keys_s", "cuts_s"),
    [
        ([0, 2, 4, 6, 8, 10, 12], [0, 4, 8, 12]),
        ([0, 3, 6, 9, 12], [0, 6, 9, 12]),
        ([0, 5.1, 10.2], [0, 5.1, 10.2]),
        ([1.0, 3.9, 4.1, 8.0], [1.0, 4.1, 8.0]),
        ([0, 3.9995, 7.9995], [0, 3.9995, 7.9995]),
        ([0, 100, 104], [0, 100, 104]),
    ],
)
def test_video_is_cut_at_the_first_key_frame_at_or_after_each_multiple(
    keys_s: list[float], cuts_s: list[float]
) -> None:
    cutter = Cutter(4 * S, has_video=True, limit_ns=1000 * S)
    assert [at for at in keys_s if cutter.begins(packet(MediaKind.VIDEO, at))] == cuts_s


def test_other_frames_and_sound_never_cut_a_segment_with_video() -> None:
    cutter = Cutter(4 * S, has_video=True, limit_ns=1000 * S)
    assert not cutter.begins(packet(MediaKind.VIDEO, 0, key=False))
    assert not cutter.begins(packet(MediaKind.AUDIO, 5))


def test_sound_alone_is_cut_at_each_multiple_and_its_priming_makes_no_segment() -> None:
    cutter = Cutter(2 * S, has_video=False, limit_ns=4 * S)
    at_s = [-0.021, 0.0, 1.0, 1.995, 2.01, 3.0, 4.0]
    assert [at for at in at_s if cutter.begins(packet(MediaKind.AUDIO, at))] == [-0.021, 2.01, 4.0]


def test_a_recovery_keeps_what_was_promised() -> None:
    for promise in (OURS, PlaylistLimits.of(4, passed_through=True)):
        made = [segment(0), segment(1)]
        again = promised(render(PlaylistKind.FULL, made, promise=promise), made, segment_s=4)
        assert (again.target_s, again.independent) == (promise.target_s, promise.independent)
    assert promised("", [segment(0, 6.0)], segment_s=4).target_s == 6


def test_sound_begins_the_segment_after_a_pause_where_segments_may_do_without_a_key_frame() -> None:
    cutter = Cutter(4 * S, has_video=True, limit_ns=8 * S, keyless=True)
    assert cutter.begins(packet(MediaKind.VIDEO, 0))
    assert cutter.begins(packet(MediaKind.AUDIO, 1), breaks=True)
    encoded = Cutter(4 * S, has_video=True, limit_ns=8 * S)
    assert encoded.begins(packet(MediaKind.VIDEO, 0))
    assert not encoded.begins(packet(MediaKind.AUDIO, 1), breaks=True)
