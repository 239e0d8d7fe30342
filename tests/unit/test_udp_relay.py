"""What the testkit's bad network does to datagrams, without a socket."""

from itertools import groupby

import pytest

from testkit.udp_relay import CLEAR, CUT, Impairment, Path, is_media

STEP_S = 0.002
SENT = 20_000


def arrivals(impairment: Impairment, size_bytes: int = 500) -> list[float | None]:
    """Of datagrams that are sent each STEP_S, seconds after the first was."""
    path = Path(impairment, seed=7)
    return [path.delivered_at(size_bytes, number * STEP_S) for number in range(SENT)]


def delays(impairment: Impairment, size_bytes: int = 500) -> list[float]:
    found = arrivals(impairment, size_bytes)
    return [at_s - number * STEP_S for number, at_s in enumerate(found) if at_s is not None]


def test_a_clear_path_passes_all_at_once() -> None:
    assert max(delays(CLEAR)) < 1e-5
    assert len(delays(CLEAR)) == SENT


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 1.0), (0.05, 1.0), (0.2, 1.0), (0.05, 10.0), (0.2, 5.0)])
def test_losses_have_their_share_and_their_length(loss: float, burst: float) -> None:
    lost = [at_s is None for at_s in arrivals(Impairment(loss=loss, burst=burst))]
    assert sum(lost) / SENT == pytest.approx(loss, rel=0.25)
    runs = [len(list(run)) for is_lost, run in groupby(lost) if is_lost]
    # Independent losses come in runs of 1 / (1 - loss) by chance.
    expected = burst if burst > 1 else 1 / (1 - loss)
    assert sum(runs) / len(runs) == pytest.approx(expected, rel=0.25)


def test_a_cut_path_passes_nothing_and_recovers() -> None:
    path = Path(CUT)
    assert path.delivered_at(100, 1.0) is None
    path.impairment = CLEAR
    assert path.delivered_at(100, 2.0) == pytest.approx(2.0)


def test_jitter_keeps_the_order() -> None:
    found = [at_s for at_s in arrivals(Impairment(delay_ms=20, jitter_ms=100)) if at_s is not None]
    assert found == sorted(found)
    late = delays(Impairment(delay_ms=20, jitter_ms=100))
    assert min(late) < 0.03 and 0.1 < max(late) < 0.125


def test_some_are_overtaken() -> None:
    found = [at_s for at_s in arrivals(Impairment(reordered=0.05, reordered_ms=50)) if at_s is not None]
    assert len(found) == SENT
    overtaken = sum(any(later < at_s for later in found[n + 1 : n + 3]) for n, at_s in enumerate(found))
    assert overtaken / SENT == pytest.approx(0.05, rel=0.25)


@pytest.mark.parametrize(("size_bytes", "passes"), [(60, SENT), (500, None)])
def test_a_bottleneck_takes_its_rate_and_queues_no_longer_than_it_may(
    size_bytes: int, passes: int | None
) -> None:
    """500 kbit/s: 88 bytes each 2 ms are 352 kbit/s, 528 are 2,112."""
    late = delays(Impairment(kbps=500, queue_ms=200), size_bytes)
    if passes is not None:
        assert len(late) == passes and max(late) < 0.01
    else:
        assert len(late) * (size_bytes + 28) * 8 / (SENT * STEP_S) == pytest.approx(500_000, rel=0.02)
        assert 0.19 < max(late) < 0.22


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (bytes([0x80, 96]) + bytes(20), True),
        (bytes([0x80, 0x80 | 111]) + bytes(20), True),
        (bytes([0x80, 200]) + bytes(20), False),  # RTCP
        (bytes([0, 1]) + bytes(30), False),  # STUN
        (bytes([22, 254]) + bytes(30), False),  # DTLS
        (b"", False),
    ],
)
def test_media_is_told_from_the_rest(data: bytes, media: bool) -> None:
    assert is_media(data) is media
