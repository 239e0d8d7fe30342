"""Tracks that are left out, and what takes them again before their time."""

import asyncio

from openegress.core.codecs import MediaKind
from openegress.room import TrackKey, TrackSource
from openegress.room.budget import KEY_REASONS, Reason
from openegress.room.standings import Standings

REASONS = (Reason.WRONG_KEY, Reason.KEY_CHANGED, Reason.PACKETS)


async def test_a_new_key_takes_again_what_no_key_fitted_and_nothing_else() -> None:
    taken: list[TrackKey] = []
    standings = Standings(taken.append)
    keys = [TrackKey(f"p{number}", MediaKind.AUDIO, TrackSource.MICROPHONE, "") for number in range(3)]
    for key, reason in zip(keys, REASONS, strict=True):
        standings.of(key, keys)
        assert standings.leave_out(key, reason) == 5
    standings.take_again(KEY_REASONS)
    assert taken == keys[:2]
    assert [standings.of(key, keys).is_left_out for key in keys] == [False, False, True]
    standings.take_again(KEY_REASONS)
    await asyncio.sleep(0)
    assert taken == keys[:2], "their timers are over too"
    standings.close()
