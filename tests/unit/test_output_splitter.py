"""Which packet of a file that is split lies in which part: each in one, in order, none lost."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.codecs import VIDEO_TIME_BASE, Container, MediaKind
from openegress.core.plan import FileOutput, Split
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.media import Packet
from openegress.output.file.splitter import Begun, Complete, FileSplitter, Step, Written
from openegress.request.part_names import spool_name, stored_name

AUDIO_BASE = Fraction(1, 48_000)
STORAGE = StoragePlan(LocalStorage("/out"))


def picture(at_s: float, *, is_key: bool = False, size: int = 1000) -> Packet:
    at = round(at_s / VIDEO_TIME_BASE)
    return Packet(MediaKind.VIDEO, bytes(size), at, at, 3000, VIDEO_TIME_BASE, is_key)


def sound(number: int) -> Packet:
    return Packet(MediaKind.AUDIO, bytes(200), number * 1024, number * 1024, 1024, AUDIO_BASE, True)


def split(packets: list[Packet], rule: Split, kinds: str = "av") -> tuple[list[Step], list[int]]:
    asked: list[int] = []
    splitter = FileSplitter(rule, with_video="v" in kinds, with_audio="a" in kinds, ask_key=asked.append)
    steps = [step for packet in packets for step in splitter.take(packet)]
    return [*steps, *splitter.flush()], asked


def check(steps: list[Step], packets: list[Packet]) -> list[list[Packet]]:
    """The packets of each part, in the time of the whole. All of them are there, in order, and none came to a
    part before it had begun or after it was complete."""
    begins, open_parts = {0: 0}, {0}
    found: dict[int, list[Packet]] = {0: []}
    for step in steps:
        match step:
            case Begun(part, at_ns):
                assert part == len(begins) and at_ns > begins[part - 1]
                begins[part] = at_ns
                open_parts.add(part)
                found[part] = []
            case Complete(part):
                open_parts.remove(part)
            case Written(part, packet):
                assert part in open_parts
                found[part].append(packet.shifted(Fraction(begins[part], S)))
    assert not open_parts
    for kind in MediaKind:
        whole = [packet for packet in packets if packet.kind is kind]
        joined = [packet for part in found.values() for packet in part if packet.kind is kind]
        assert joined == whole
    return list(found.values())


def call(seconds: float, key_every: int, lag: int) -> list[Packet]:
    """A call whose sound comes so many packets ahead of its pictures (or behind them)."""
    pictures = [(n / 30, picture(n / 30, is_key=n % key_every == 0)) for n in range(int(seconds * 30))]
    sounds = [(n * 1024 / 48_000, sound(n)) for n in range(int(seconds * 48_000 / 1024))]
    shift = lag * 1024 / 48_000
    timed = [(at, 0, p) for at, p in pictures] + [(at - shift, 1, p) for at, p in sounds]
    return [packet for _, _, packet in sorted(timed, key=lambda each: each[:2])]


@settings(max_examples=40)
@given(
    seconds=st.floats(0.5, 12),
    key_every=st.integers(1, 120),
    lag=st.integers(-100, 100),
    every_s=st.sampled_from([1.0, 2.5, 7.0]),
)
def test_by_length_each_packet_is_in_one_part(
    seconds: float, key_every: int, lag: int, every_s: float
) -> None:
    packets = call(seconds, key_every, lag)
    steps, asked = split(packets, Split(every_s=every_s))
    parts = check(steps, packets)
    for part in parts[1:]:
        pictures = [packet for packet in part if packet.kind is MediaKind.VIDEO]
        assert pictures[0].is_key
        sounds = [packet for packet in part if packet.kind is MediaKind.AUDIO]
        if sounds and abs(lag) < 100:
            assert sounds[0].pts_ns > pictures[0].pts_ns - 5 * S
    begun = [step.at_ns for step in steps if isinstance(step, Begun)]
    assert asked[1:] == [at_ns + round(every_s * S) for at_ns in begun]


@settings(max_examples=25)
@given(key_every=st.integers(1, 200), size=st.sampled_from([100_000, 300_000]))
def test_by_size_each_packet_is_in_one_part(key_every: int, size: int) -> None:
    packets = call(12, key_every, 3)
    steps, asked = split(packets, Split(every_bytes=size))
    parts = check(steps, packets)
    for part in parts[:-1] if key_every < 25 else []:
        assert sum(len(packet.data) for packet in part) < size
    assert len(asked) >= len(parts) - 1


def test_a_part_begins_on_time_where_a_key_frame_comes() -> None:
    packets = call(10, 30, 2)
    steps, _ = split(packets, Split(every_s=2.0))
    check(steps, packets)
    assert [step.at_ns for step in steps if isinstance(step, Begun)] == [n * 2 * S for n in range(1, 5)]
    # Sound and pictures of a part begin together, to a packet of sound.
    firsts = [s.packet for s in steps if isinstance(s, Written) and s.part == 2]
    sounds = [packet for packet in firsts if packet.kind is MediaKind.AUDIO]
    assert 0 <= sounds[0].pts_ns < 1024 * S // 48_000


def test_sound_alone_is_split_between_packets() -> None:
    packets = [sound(n) for n in range(500)]
    steps, _ = split(packets, Split(every_s=3.0), "a")
    parts = check(steps, packets)
    assert len(parts) == 4
    assert all(part[0].pts_ns >= n * 3 * S for n, part in enumerate(parts))


def test_a_camera_that_sends_nothing_does_not_hold_sound_for_ever() -> None:
    packets = [picture(0, is_key=True), *(sound(n) for n in range(1000))]
    splitter = FileSplitter(Split(every_s=2.0), with_video=True, with_audio=True, ask_key=lambda at_ns: None)
    steps = [step for packet in packets for step in splitter.take(packet)]
    written = [step for step in steps if isinstance(step, Written)]
    assert len(written) > 900
    late = picture(22.0, is_key=True)
    check([*steps, *splitter.take(late), *splitter.flush()], [*packets, late])


@pytest.mark.parametrize(
    ("path", "part", "name"),
    [
        ("a/b.mp4", 0, "a/b-00001.mp4"),
        ("a/{part}/b.mp4", 1, "a/00002/b.mp4"),
        ("v1.2.mp4", 99_999, "v1.2-100000.mp4"),
    ],
)
def test_names(path: str, part: int, name: str) -> None:
    output = FileOutput(path, Container.MP4, STORAGE, split=Split(every_s=1.0))
    assert stored_name(output, part, path) == name
    assert stored_name(FileOutput(path, Container.MP4, STORAGE), 0, path) == path
    assert spool_name(output, part, Container.MP4) == f"recording-{part + 1:05d}.mp4"
