"""Which pictures are left out for an encoder that cannot keep up, on a clock that only tests move."""

import pytest

from openegress.core.units import S
from openegress.media.overload import (
    CALM_S,
    LAST_PICTURES_S,
    LONGEST_CALM_S,
    MANY,
    PRESSED_WINDOWS,
    RECENT_S,
    RELAPSE_S,
    WINDOW_S,
    EncoderPace,
    LastPictures,
    Overload,
    Rate,
)

FPS = 30


class Bench:
    """Pictures at 30 a second, of which a share meets a full queue at each rate."""

    def __init__(self, framerate: int = FPS) -> None:
        self.overload = Overload(framerate, 0.0)
        self.frame = 0
        self.taken: list[int] = []
        self.changes: list[tuple[float, Rate]] = []

    @property
    def now_s(self) -> float:
        return self.frame / FPS

    def run(self, seconds: float, full: dict[Rate, float]) -> None:
        """`full`: of a hundred pictures at that rate so many meet a full queue."""
        for _ in range(round(seconds * FPS)):
            self.frame += 1
            if self.overload.takes(self.frame * S // FPS):
                self.taken.append(self.frame)
                is_full = self.frame // 2 * 37 % 100 < 100 * full[self.overload.rate]
                if self.overload.met(is_full, self.now_s):
                    self.changes.append((self.now_s, self.overload.rate))


ALWAYS = {Rate.FULL: 1.0, Rate.HALF: 1.0}
ONLY_AT_FULL_RATE = {Rate.FULL: 1.0, Rate.HALF: 0.0}
NEVER = {Rate.FULL: 0.0, Rate.HALF: 0.0}


@pytest.mark.parametrize(
    ("seconds", "full", "rate"),
    [
        (60.0, NEVER, Rate.FULL),
        (PRESSED_WINDOWS * WINDOW_S - 0.5, ALWAYS, Rate.FULL),
        (PRESSED_WINDOWS * WINDOW_S + 0.5, ALWAYS, Rate.HALF),
        (600.0, ALWAYS, Rate.HALF),
        (600.0, {Rate.FULL: 0.1, Rate.HALF: 0.0}, Rate.FULL),
    ],
)
def test_the_rate_is_halved_after_some_seconds_of_pressure(
    seconds: float, full: dict[Rate, float], rate: Rate
) -> None:
    bench = Bench()
    bench.run(seconds, full)
    assert bench.overload.rate is rate


def test_a_hard_scene_now_and_then_changes_nothing() -> None:
    bench = Bench()
    for _ in range(20):
        bench.run((PRESSED_WINDOWS - 1) * WINDOW_S, ALWAYS)
        bench.run(2 * WINDOW_S, NEVER)
    assert bench.changes == []


def test_at_half_the_rate_every_other_picture_goes() -> None:
    bench = Bench()
    bench.run(PRESSED_WINDOWS * WINDOW_S + 1, ALWAYS)
    bench.taken.clear()
    bench.run(4, ALWAYS)
    assert len(bench.taken) == 2 * FPS
    assert {b - a for a, b in zip(bench.taken, bench.taken[1:], strict=False)} == {2}


@pytest.mark.parametrize("step", [2, 3, 30])
def test_a_source_that_is_slow_itself_loses_nothing(step: int) -> None:
    bench = Bench()
    bench.run(PRESSED_WINDOWS * WINDOW_S + 1, ALWAYS)
    assert bench.overload.rate is Rate.HALF
    begun = bench.frame + 2
    assert all(bench.overload.takes((begun + n * step) * S // FPS) for n in range(50))


def test_time_that_jumps_back_does_not_stop_the_picture() -> None:
    bench = Bench()
    bench.run(PRESSED_WINDOWS * WINDOW_S + 1, ALWAYS)
    assert bench.overload.takes(0)


def test_the_full_rate_comes_back_when_it_is_calm() -> None:
    bench = Bench()
    bench.run(PRESSED_WINDOWS * WINDOW_S + 1, ALWAYS)
    bench.run(CALM_S + 2 * WINDOW_S, NEVER)
    assert [rate for _, rate in bench.changes] == [Rate.HALF, Rate.FULL]
    bench.run(60, NEVER)
    assert len(bench.changes) == 2


def test_trying_the_full_rate_in_vain_gets_rarer() -> None:
    bench = Bench()
    bench.run(1200, ONLY_AT_FULL_RATE)
    halved = [at_s for at_s, rate in bench.changes if rate is Rate.HALF]
    restored = [at_s for at_s, rate in bench.changes if rate is Rate.FULL]
    rests = [round(up - down) for down, up in zip(halved, restored, strict=False)]
    assert rests == pytest.approx([CALM_S, 40, 80, 160, LONGEST_CALM_S, LONGEST_CALM_S], abs=3)


def test_pressure_long_after_is_a_new_one() -> None:
    bench = Bench()
    for _ in range(2):
        bench.run(PRESSED_WINDOWS * WINDOW_S + 1, ALWAYS)
        bench.run(CALM_S + 2 * WINDOW_S + RELAPSE_S, NEVER)
    halved, restored, again, back = [at_s for at_s, _ in bench.changes]
    assert back - again == pytest.approx(restored - halved, abs=1)


@pytest.mark.parametrize(
    ("framerate", "took_s", "is_slow"),
    [
        (30, [], False),
        (30, [0.3, 0.3], False),  # a machine stands still now and then
        (30, [0.3, 0.3, 0.3], True),
        (30, [0.01, 0.01, 0.3, 0.3, 0.01], False),
        (30, [0.3, 0.3, 0.3, 0.01, 0.01, 0.01], False),
        (30, [0.06] * 5, False),  # a second encoder of this speed would do
        (30, [0.07] * 5, True),
        (60, [0.04] * 5, True),
        (1, [0.1] * 5, False),
        (1, [0.2] * 5, True),
    ],
)
def test_an_encoder_is_slow_by_the_middle_of_its_last_pictures(
    framerate: int, took_s: list[float], is_slow: bool
) -> None:
    pace = EncoderPace(framerate)
    for number, each_s in enumerate(took_s):
        pace.given(float(number))
        pace.asked(number + each_s)
        pace.asked(number + 0.9)  # for sound: it had no picture meanwhile
    assert pace.is_slow is is_slow


@pytest.mark.parametrize(
    ("left_out", "since_s", "time_s"),
    [
        (0, 99.9, LAST_PICTURES_S),
        (MANY, 100.0 - RECENT_S - 0.1, LAST_PICTURES_S),
        (MANY - 1, 100.0 - RECENT_S + 0.1, LAST_PICTURES_S),  # a hiccup
        (MANY, 100.0 - RECENT_S + 0.1, 0.0),
        (3 * MANY, 90.0, LAST_PICTURES_S),
    ],
)
def test_the_last_pictures_get_no_time_where_others_were_left_out(
    left_out: int, since_s: float, time_s: float
) -> None:
    last = LastPictures()
    for number in range(left_out):
        last.left_out.note(since_s + number / FPS)
    last.expect_end(100.0)
    last.expect_end(200.0)
    assert last.until_s == pytest.approx(100.0 + time_s)
