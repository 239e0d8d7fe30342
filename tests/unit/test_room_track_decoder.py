"""Pictures of one track, slot by slot, whatever order they are sent in."""

import pytest
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.codecs import VideoCodec
from openegress.core.token_bucket import TokenBucket
from openegress.core.units import S
from openegress.room import EncodedFrame
from openegress.room.budget import ROOM_DECODING, DecodeBudget
from openegress.source.room.track_decoder import VideoTrackDecoder
from testkit.live_encoder import LiveEncoder, ReorderingEncoder, Unit
from testkit.pattern import COLOURS, Picture, PictureSpec, read_counter
from testkit.probe import luma_of

FPS = 30
SLOT_NS = S // FPS
RTP_TICKS = 90_000 // FPS
WIDTH, HEIGHT = 320, 180
PICTURES = 60


def units(b_frames: int, keys: tuple[int, ...] = ()) -> list[tuple[int, Unit]]:
    """In the order of sending, with the number of the picture by which each is sent."""
    picture = Picture(PictureSpec(WIDTH, HEIGHT, FPS, COLOURS[0]))
    sent: list[tuple[int, Unit]] = []
    if b_frames:
        reordering = ReorderingEncoder(WIDTH, HEIGHT, FPS, 500, b_frames)
        for number in range(PICTURES):
            made = reordering.encode(picture.draw(number), number, force_key=number in keys)
            sent += [(number, unit) for unit in made]
        return sent
    live = LiveEncoder("h264", WIDTH, HEIGHT, FPS, 500)
    for number in range(PICTURES):
        unit = live.encode(picture.draw(number), number, force_key=number in keys)
        sent.append((number, Unit(unit.data, unit.is_key, number)))
    return sent


def frame(unit: Unit, at_ns: int, *, after_gap: bool = False) -> EncodedFrame:
    """As the room client gives it."""
    rtp = 7_000 + unit.pts * RTP_TICKS
    return EncodedFrame("TR_1", VideoCodec.H264, unit.data, at_ns, rtp, 90_000, unit.is_key, after_gap)


class Unlimited(DecodeBudget):
    """Of a test that says nothing about time."""

    def allows(self, at_ns: int, tracks: int) -> bool:
        return True


def shown(decoder: VideoTrackDecoder, slot: int) -> list[int]:
    picture = decoder.picture(slot * SLOT_NS, 0, 1)
    return [] if picture is None else [counter_of(picture)]


def counter_of(picture: VideoFrame) -> int:
    counter = read_counter(luma_of(picture))
    assert counter is not None
    return counter


@pytest.mark.parametrize("b_frames", [0, 1, 2, 3])
@given(late_ms=st.integers(0, 32))
@settings(max_examples=5, deadline=None)
def test_each_picture_is_seen_once_and_in_order(b_frames: int, late_ms: int) -> None:
    """Asked for a slot as soon as the track has been heard of up to there, as the compositor does."""
    decoder = VideoTrackDecoder(FPS, 0, Unlimited(TokenBucket(ROOM_DECODING)))
    seen: list[tuple[int, int]] = []
    slot = 0
    newest_ns = -1
    for _, unit in units(b_frames, keys=(20, 40)):
        # Times of pictures that come in the order of decoding only rise.
        newest_ns = max(newest_ns + 1, unit.pts * SLOT_NS + late_ms * S // 1000)
        decoder.put(newest_ns, frame(unit, newest_ns))
        while slot * SLOT_NS <= decoder.newest_ns:
            seen += [(slot, counter) for counter in shown(decoder, slot)]
            slot += 1
    while slot < PICTURES + 10:
        seen += [(slot, counter) for counter in shown(decoder, slot)]
        slot += 1
    counters = [counter for _, counter in seen]
    last = PICTURES - 1 - b_frames  # what the encoder and the decoder still hold
    assert counters[: last - 2] == list(range(last - 2)), counters
    late = {at - counter for at, counter in seen[5 : last - 2]}
    assert max(late) - min(late) <= 1, "as far apart as they were captured"


def test_pictures_from_before_a_loss_are_shown_before_the_key_frame_that_ends_it() -> None:
    decoder = VideoTrackDecoder(FPS, 0, Unlimited(TokenBucket(ROOM_DECODING)))
    sent = units(2, keys=(30,))
    counters: list[int] = []
    for index, (number, unit) in enumerate(sent):
        if 10 <= index < 15:
            continue
        at_ns = number * SLOT_NS
        decoder.put(at_ns, frame(unit, at_ns, after_gap=index == 15))
        counters += shown(decoder, number)
        assert decoder.wants_key is False or unit.pts < 31
    assert counters == sorted(counters)
    assert len(set(counters)) == len(counters)
    key = next(unit.pts for _, unit in sent if unit.is_key and unit.pts)
    lost = {unit.pts for _, unit in sent[10:15]}
    assert not lost & set(counters)
    assert set(range(key, PICTURES - 6)) <= set(counters)
