"""The speed of an encoder that follows the machine: down at once, up after a long calm, never to and fro."""

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import EncoderSpeed
from openegress.media.speed_choice import (
    CALM_S,
    LONGEST_CALM_S,
    SPEEDS,
    STEP_S,
    TIMES,
    SpeedChoice,
)

FPS = 30
ULTRAFAST, SUPERFAST, VERYFAST = SPEEDS


class Machine:
    """Encodes 30 pictures a second with a part of its time."""

    def __init__(self, speed: EncoderSpeed = VERYFAST) -> None:
        self.now_s = 100.0
        self.choice = SpeedChoice(speed, self.now_s)
        self.changes: list[tuple[float, EncoderSpeed]] = []

    def run(self, seconds: float, work_s: float, pressed_share: float | None = None) -> "Machine":
        """`work_s`: what a second of pictures takes at ultrafast. Above a second they are pressed, unless
        `pressed_share` says how many are."""
        for _ in range(round(seconds * FPS)):
            self.now_s += 1 / FPS
            took_s = work_s * TIMES[self.choice.speed]
            pressed = float(took_s > 1) if pressed_share is None else pressed_share
            met = int(self.now_s * FPS * pressed) - int((self.now_s * FPS - 1) * pressed)
            if self.choice.seen(self.now_s, offered=1, pressed=met, took_s=min(took_s, 1.0) / FPS):
                self.changes.append((self.now_s - 100, self.choice.speed))
        return self

    @property
    def speeds(self) -> Iterator[EncoderSpeed]:
        return (speed for _, speed in self.changes)


def test_a_machine_with_time_keeps_the_speed() -> None:
    assert Machine().run(3600, 0.3).changes == []


def test_it_gets_quicker_as_long_as_pictures_wait() -> None:
    (first, quick), (second, quicker) = Machine().run(30, 5.0).changes
    assert (quick, quicker) == (SUPERFAST, ULTRAFAST)
    assert first <= 2.2 and STEP_S <= second - first <= STEP_S + 1.2


def test_it_gets_no_quicker_than_it_has_to() -> None:
    assert list(Machine().run(600, 0.75).speeds) == [SUPERFAST]


def test_one_second_is_no_reason() -> None:
    machine = Machine()
    for _ in range(20):
        machine.run(1, 0.3, pressed_share=1.0).run(3, 0.3)
    assert machine.changes == []


def test_a_picture_now_and_then_is_no_reason() -> None:
    assert Machine().run(600, 0.3, pressed_share=0.05).changes == []


def test_it_gets_slower_step_by_step_when_it_is_calm_for_long() -> None:
    machine = Machine(ULTRAFAST).run(600, 0.2)
    (first, slow), (second, slower) = machine.changes
    assert (slow, slower) == (SUPERFAST, VERYFAST)
    assert first >= CALM_S and second - first >= CALM_S


def test_it_gets_no_slower_without_time_to_spare() -> None:
    """It would have to come down again."""
    assert Machine(SUPERFAST).run(3600, 0.3).changes == []


def test_what_does_not_hold_is_tried_less_and_less() -> None:
    """The machine is short of time as soon as it is slower, however calm it was before."""
    machine, tries = Machine(SUPERFAST), []
    for _ in range(12_000):
        is_slow = machine.choice.speed is VERYFAST
        before = len(machine.changes)
        machine.run(1, 0.2, pressed_share=1.0 if is_slow else 0.0)
        tries += [at for at, speed in machine.changes[before:] if speed is VERYFAST]
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert all(after > before * 1.5 for before, after in itertools.pairwise(waits[:4]))
    assert max(waits) <= LONGEST_CALM_S + 60 and len(tries) < 20


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, 3.0)), max_size=30))
def test_it_never_goes_to_and_fro(loads: list[tuple[int, float]]) -> None:
    machine = Machine()
    for seconds, work_s in loads:
        machine.run(seconds, work_s)
    order = list(SPEEDS)
    at_s, speed = 0.0, VERYFAST
    for changed_s, new in machine.changes:
        assert abs(order.index(new) - order.index(speed)) == 1
        is_slower = order.index(new) > order.index(speed)
        assert changed_s - at_s >= (CALM_S if is_slower else STEP_S - 0.1)
        at_s, speed = changed_s, new
