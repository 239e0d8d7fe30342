"""When a connection to a room counts as lost, and how long it is tried to get it back."""

from openegress.core.errors import Code, EgressError
from openegress.room.liveness import (
    ADDRESS_AFTER_S,
    IDLE_SILENCE_S,
    MEDIA_SILENCE_S,
    SILENCE_S,
    Liveness,
    PathCounts,
)
from openegress.room.rejoin import REJOIN_PAUSES_S, Rejoin


def lost(
    liveness: Liveness,
    *,
    seconds: int,
    datagrams: int = 0,
    packets: int = 0,
    expects_media: bool = True,
    address_gone: bool = False,
    heard: bool = True,
) -> tuple[int, str] | None:
    """(second, why) of a path that gets so many datagrams and packets a second."""
    for second in range(seconds):
        if heard:
            liveness.heard(float(second))
        why = liveness.look(
            float(second),
            PathCounts(datagrams * second, packets * second),
            expects_media=expects_media,
            is_address_gone=lambda: address_gone,
        )
        if why is not None:
            return second, why
    return None


def test_a_path_that_nothing_comes_over_is_lost_sooner_where_media_is_expected() -> None:
    assert lost(Liveness(10, 30), seconds=60) == (SILENCE_S, f"no packet from the server for {SILENCE_S} s")
    assert lost(Liveness(10, 30), seconds=60, expects_media=False) == (
        IDLE_SILENCE_S,
        f"no packet from the server for {IDLE_SILENCE_S} s",
    )


def test_a_path_over_which_only_checks_come_is_lost_where_media_is_expected() -> None:
    liveness = Liveness(10, 30)
    assert lost(liveness, seconds=60, datagrams=1) == (
        MEDIA_SILENCE_S,
        f"no media from the server for {MEDIA_SILENCE_S} s",
    )
    assert liveness.needs_renewal
    assert lost(Liveness(10, 30), seconds=60, datagrams=1, expects_media=False) is None


def test_a_path_that_media_comes_over_is_kept() -> None:
    liveness = Liveness(10, 30)
    assert lost(liveness, seconds=60, datagrams=2, packets=1) is None
    assert not liveness.needs_renewal


def test_an_address_that_is_gone_is_noticed_once_nothing_comes() -> None:
    assert lost(Liveness(10, 30), seconds=60, address_gone=True) == (
        ADDRESS_AFTER_S,
        "this host has lost the address that media came to",
    )
    assert lost(Liveness(10, 30), seconds=60, datagrams=1, packets=1, address_gone=True) is None


def test_signalling_that_is_not_heard_is_lost_after_the_servers_own_times() -> None:
    where = {"seconds": 60, "datagrams": 1, "packets": 1, "heard": False}
    assert lost(Liveness(5, 10), **where) == (16, "no signalling message for 16 s")  # type: ignore[arg-type]
    assert lost(Liveness(0, 0), **where) == (41, "no signalling message for 41 s")  # type: ignore[arg-type]


def test_pings_are_sent_as_often_as_the_server_wants_them() -> None:
    liveness = Liveness(10, 30)
    liveness.begin(0)
    assert [now for now in range(40) if liveness.takes_ping(now)] == [10, 20, 30]


def test_a_room_is_tried_again_ever_more_slowly_and_for_so_long() -> None:
    rejoin = Rejoin(100.0, 10.0)
    pauses = [rejoin.next_pause_s() for _ in range(len(REJOIN_PAUSES_S) + 2)]
    assert pauses == [*REJOIN_PAUSES_S, REJOIN_PAUSES_S[-1], REJOIN_PAUSES_S[-1]]
    assert rejoin.tries == len(pauses)
    away = EgressError(Code.UNAVAILABLE, "nobody answers")
    assert not rejoin.gives_up(away, 110.0)
    assert rejoin.gives_up(away, 110.1)
    assert rejoin.gives_up(EgressError(Code.UNAUTHENTICATED, "the token is refused"), 100.1)
