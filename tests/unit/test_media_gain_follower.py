"""The gain that brings what is said to a loudness."""

import math
from itertools import pairwise

import pytest

from openegress.media.gain_follower import MAX_DB, MIN_DB, GainFollower

TARGET = -16.0


def told(follower: GainFollower, lufs: float, steps: int) -> list[float]:
    """The gain after each step of 100 ms with this loudness."""
    gains = []
    for _ in range(steps):
        follower.step(lufs, lufs + follower.gain_db)
        gains.append(follower.gain_db)
    return gains


@pytest.mark.parametrize("lufs", [-40.0, -30.0, -23.0, -16.0, -8.0])
def test_it_finds_the_loudness_within_some_seconds(lufs: float) -> None:
    follower = GainFollower(TARGET)
    told(follower, lufs, 70)
    assert follower.gain_db == pytest.approx(TARGET - lufs, abs=0.5)


def test_pauses_stay_as_they_are() -> None:
    follower = GainFollower(TARGET)
    told(follower, -26.0, 100)
    before = follower.gain_db
    for quiet in (-math.inf, -70.0, -55.0, -47.0):
        assert set(told(follower, quiet, 600)) == {before}


def test_noise_before_anybody_speaks_is_nobody() -> None:
    follower = GainFollower(TARGET)
    assert set(told(follower, -52.0, 300)) == {0.0}


def test_it_is_slow_once_it_has_found_it() -> None:
    follower = GainFollower(TARGET)
    told(follower, -26.0, 200)
    for lufs in (-20.0, -28.0):
        gains = told(follower, lufs, 300)
        steps = [after - before for before, after in pairwise(gains)]
        assert max(map(abs, steps)) <= 0.3 + 1e-9
        assert gains[-1] == pytest.approx(TARGET - lufs, abs=0.5)


def test_a_slammed_door_is_nobody_s_voice() -> None:
    follower = GainFollower(TARGET)
    told(follower, -26.0, 200)
    before = follower.gain_db
    told(follower, 0.0, 4)
    assert before - follower.gain_db < 1.5
    told(follower, -26.0, 100)
    assert follower.gain_db == pytest.approx(before, abs=0.3)


def test_who_speaks_more_quietly_is_met_too() -> None:
    follower = GainFollower(TARGET)
    told(follower, -20.0, 200)
    gains = told(follower, -33.0, 600)
    assert gains[-1] == pytest.approx(TARGET + 33, abs=0.5)


def test_it_has_bounds() -> None:
    follower = GainFollower(-5.0)
    told(follower, -49.0, 2000)
    assert follower.gain_db == pytest.approx(MAX_DB)
    follower = GainFollower(-50.0)
    told(follower, 0.0, 2000)
    assert follower.gain_db == pytest.approx(MIN_DB)


def test_what_came_of_it_corrects_it() -> None:
    """A limiter, or pauses that count for a meter, make it quieter than it was to be."""
    follower = GainFollower(TARGET)
    for _ in range(400):
        follower.step(-26.0, TARGET - 1.0)
    assert follower.gain_db == pytest.approx(12.0, abs=0.1)
