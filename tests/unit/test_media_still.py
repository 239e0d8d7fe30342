"""Which pictures an encoder has to see: its double gives each out later, and tells what it was given."""

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.media.h264_skip import Headers, RepeatWriter
from openegress.media.still import StillPictures, Unit

TICK = 3000
"""A slot, in ticks of the time base."""
LAG = 5
SMALL, LARGE = 30, 20_000
REPEATS = RepeatWriter(Headers(16, True, True, False, 26, True))


@dataclass(frozen=True)
class Input:
    pts: int
    is_key: bool
    size: int


class Stream:
    """An encoder that holds LAG pictures, behind StillPictures."""

    def __init__(self, bits_a_tick: float = 1e6, most_ticks: int = 0, patience: int = 0) -> None:
        """`patience` in slots."""
        self.still = StillPictures(REPEATS, bits_a_tick, most_ticks, patience * TICK)
        self.seen: list[Input] = []
        self.given: list[tuple[int, int]] = []
        """(PTS, bytes) of the stream."""
        self.keys: list[int] = []
        """PTS of its key frames."""
        self._inside: deque[Input] = deque()

    def put(self, slot: int, *, is_new: bool, is_key: bool = False) -> bool:
        """True when the encoder saw it."""
        step = self.still.take(slot * TICK, is_new=is_new, is_key=is_key)
        self._note(step.units)
        for each in step.inputs:
            is_large = each.is_key or (is_new and each is step.inputs[-1])
            picture = Input(each.pts, each.is_key, LARGE if is_large else SMALL)
            self.seen.append(picture)
            self._inside.append(picture)
            if len(self._inside) > LAG:
                self._give(self._inside.popleft())
        return bool(step.inputs)

    def flush(self) -> None:
        units = self.still.end()
        if units is None:
            while self._inside:
                self._give(self._inside.popleft())
            units = self.still.rest()
        self._note(units)

    def _give(self, picture: Input) -> None:
        data = b"\0\0\0\1\x41\x9a\x26" + bytes(picture.size - 7)
        self._note(self.still.give(data, is_key=picture.is_key))

    def _note(self, units: Iterable[Unit]) -> None:
        for unit in units:
            self.given.append((unit.pts, len(unit.data)))
            self.keys += [unit.pts] * unit.is_key


def test_what_repeats_is_not_encoded_and_a_change_is_at_once() -> None:
    stream = Stream()
    seen = [stream.put(slot, is_new=slot in (0, 60), is_key=slot == 0) for slot in range(61)]
    assert all(seen[:8]) and not any(seen[9:60]) and seen[60]
    stream.flush()
    sizes = dict(stream.given)
    assert [pts for pts, _ in stream.given] == [slot * TICK for slot in range(61)]
    assert {pts // TICK for pts, size in sizes.items() if size == LARGE} == {0, 60}


def test_a_key_frame_is_encoded_in_its_slot() -> None:
    stream = Stream()
    for slot in range(300):
        stream.put(slot, is_new=slot == 0, is_key=slot % 120 == 0)
    stream.flush()
    assert [pts // TICK for pts, size in stream.given if size == LARGE] == [0, 120, 240]
    assert len(stream.seen) < 40


def test_a_key_frame_of_the_same_picture_is_the_one_before() -> None:
    stream = Stream(patience=12)
    for slot in range(600):
        stream.put(slot, is_new=slot in (0, 300), is_key=slot % 120 == 0)
    stream.flush()
    assert stream.keys == [slot * TICK for slot in range(0, 600, 120)]
    # After the change at 300 the encoder makes one of it, at 360, which is that at 480 too.
    assert [each.is_key for each in stream.seen].count(True) == 2
    assert [pts // TICK for pts, size in stream.given if size == LARGE] == [0, 120, 240, 300, 360, 480]
    assert [pts for pts, _ in stream.given] == [slot * TICK for slot in range(600)]


def test_a_change_soon_after_a_key_frame_that_waits_finds_it_encoded() -> None:
    for behind in range(LAG + 6):
        stream = Stream(patience=12)
        for slot in range(150):
            stream.put(slot, is_new=slot in (0, 121 + behind), is_key=slot % 120 == 0)
        stream.flush()
        assert stream.keys == [0, 120 * TICK]
        large = [pts // TICK for pts, size in stream.given if size == LARGE]
        assert large == [0, 120, 121 + behind]
        assert [pts for pts, _ in stream.given] == [slot * TICK for slot in range(150)]


def test_the_encoder_does_not_learn_of_what_it_does_not_see() -> None:
    stream = Stream()
    for slot in range(100):
        stream.put(slot, is_new=slot in (0, 50))
    assert [each.pts for each in stream.seen] == [slot * TICK for slot in range(len(stream.seen))]


def test_the_encoder_sees_repeats_until_it_may_spend_again_what_it_spent() -> None:
    slots = 20
    stream = Stream(bits_a_tick=8 * LARGE / (slots * TICK))
    seen = [stream.put(slot, is_new=slot == 0) for slot in range(60)]
    assert LAG + slots <= sum(seen) <= LAG + slots + 3
    assert Stream(bits_a_tick=0.0).still.take(0, is_new=True, is_key=True).inputs


def test_a_repeat_that_adds_to_the_picture_is_encoded() -> None:
    still = StillPictures(REPEATS, 1e6)
    still.take(0, is_new=True, is_key=True)
    still.give(bytes(LARGE), is_key=True)
    for slot in range(1, 50):
        assert still.take(slot * TICK, is_new=False, is_key=False).inputs
        still.give(bytes(REPEATS.size + 100), is_key=False)


def slot_count(runs: list[tuple[int, int, bool]]) -> int:
    return sum(length for length, _, _ in runs)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3), st.booleans()), max_size=20),
    st.sampled_from([0, 12, 40]),
)
def test_each_picture_has_its_slot(runs: list[tuple[int, int, bool]], patience: int) -> None:
    """Whatever comes, with slots left out: one for each, in order, and new ones as the encoder made them."""
    stream, slot, new, keys = Stream(patience=patience), 0, [], []
    for length, step, is_key in runs:
        for index in range(length):
            stream.put(slot, is_new=index == 0, is_key=is_key and index == length // 2)
            if is_key and index == length // 2:
                keys.append(slot * TICK)
            if index == 0 or (is_key and index == length // 2):
                new.append(slot * TICK)
            slot += step
    taken = len(stream.given)
    stream.flush()
    assert [pts for pts, _ in stream.given] == sorted({pts for pts, _ in stream.given})
    assert [pts for pts, size in stream.given if size == LARGE] == new
    assert stream.keys == keys
    most_held = LAG + patience
    assert max(0, slot_count(runs) - most_held) <= taken <= max(0, slot_count(runs) - LAG)
    assert stream.still.inside == 0
    assert all(later.pts > earlier.pts for earlier, later in zip(stream.seen, stream.seen[1:], strict=False))


@given(
    st.lists(st.tuples(st.integers(1, 200), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([0, 12]),
)
def test_at_a_variable_rate_a_picture_lasts_until_another_one_comes(
    runs: list[tuple[int, bool]], patience: int
) -> None:
    """New pictures lie in their slots; of what repeats, as much is there as tells how long it lasts."""
    most = 30
    stream, slot, new = Stream(most_ticks=most * TICK, patience=patience), 0, []
    for length, is_key in runs:
        for index in range(length):
            is_cut = is_key and index == length // 2
            stream.put(slot, is_new=index == 0, is_key=is_cut)
            if index == 0 or is_cut:
                new.append(slot)
            slot += 1
    stream.flush()
    slots = [pts // TICK for pts, _ in stream.given]
    assert slots == sorted(set(slots)) and slots[-1] == slot - 1
    assert [pts // TICK for pts, size in stream.given if size == LARGE] == new
    assert all(later - earlier <= most for earlier, later in itertools.pairwise(slots))
    assert {each - 1 for each in new if each} <= set(slots), "what a new picture ends is as long as it was"
    settled = LAG + 4  # until the encoder adds nothing more
    longest = max(length for length, _ in runs)
    if longest > 2 * (settled + most):
        assert len(slots) < slot - longest // 2 + settled + 2 * longest // most


# --- h264_skip

MAIN_720P = bytes.fromhex("00000001674d401fda014016e9a808080a000003000200057e401e3065400000000168ef07f2")
"""As x264 writes it: CABAC, weighted prediction."""
HIGH_1080P = bytes.fromhex(
    "0000000167640028acb403c0113f2cd404040500000300010002bf200f1832a00000000168ef07f2c0"
)
BASELINE_720P = bytes.fromhex("000000016742c01fda014016e9a808080a000003000200057e401e3065400000000168ce07f2")


def test_what_parameter_sets_say() -> None:
    assert Headers.of(MAIN_720P) == Headers(3600, True, True, False, 19, True)
    assert Headers.of(HIGH_1080P) == Headers(8160, True, True, False, 19, True)
    assert Headers.of(BASELINE_720P) == Headers(3600, False, False, False, 19, True)


@pytest.mark.parametrize("extradata", [b"", MAIN_720P[:20], MAIN_720P[:-6], b"\0\0\0\1\x67", bytes(40)])
def test_parameter_sets_that_are_not_whole(extradata: bytes) -> None:
    assert Headers.of(extradata) is None


def test_another_order_of_pictures_is_left_to_the_encoder() -> None:
    with_order_of_its_own = bytearray(MAIN_720P)
    with_order_of_its_own[8] = 0xFA  # pic_order_cnt_type 0 where 2 was
    assert Headers.of(bytes(with_order_of_its_own)) is None


def test_repeats_are_what_x264_writes_of_nothing_but_skipped_macroblocks() -> None:
    """Baseline: x264's own slice of 3600 skipped macroblocks, but for quantiser and deblocking."""
    repeats = RepeatWriter(Headers(3600, False, False, False, 19, True))
    assert repeats.repeat()[:7] == bytes.fromhex("00000001419a20")
    assert RepeatWriter(Headers.of(MAIN_720P) or pytest.fail("")).size == 35


def test_numbers_go_on_behind_what_was_put_in() -> None:
    repeats = RepeatWriter(Headers(3600, False, False, False, 19, True))
    key, following = bytes.fromhex("0000000165888400"), bytes.fromhex("00000001419a202fc00708c0")
    assert repeats.renumbered(key, is_key=True) == key
    assert repeats.renumbered(following, is_key=False) == following  # 1
    put_in = [repeats.repeat() for _ in range(17)]
    assert put_in[0][5:7] == bytes.fromhex("9a40") and put_in[15][5:7] == bytes.fromhex("9a20")
    # 2 to 18 were put in, so the next is 19, modulo 16.
    assert repeats.renumbered(following, is_key=False) == bytes.fromhex("00000001419a602fc00708c0")
    assert repeats.renumbered(key, is_key=True) == key
    assert repeats.renumbered(following, is_key=False) == following
