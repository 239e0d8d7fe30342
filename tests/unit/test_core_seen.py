"""Which requests are new, and how little is remembered of those that claim to wait for ever."""

from openegress.core import seen
from openegress.core.seen import SeenIds
from openegress.core.units import S

FOREVER_NS = 2**63 - 1


def test_once_while_somebody_waits() -> None:
    found = SeenIds()
    assert found.is_new("a", 10 * S, 1 * S)
    assert not found.is_new("a", 10 * S, 2 * S)
    assert not found.is_new("b", 2 * S, 2 * S)
    assert found.is_new("a", 30 * S, 11 * S)


def test_a_flood_is_not_remembered() -> None:
    found = SeenIds()
    for number in range(seen.MAX_IDS + 5_000):
        assert found.is_new(f"k{number}", FOREVER_NS, number)
    assert len(found) == seen.MAX_IDS
    later_ns = int(seen.MAX_EXPIRY_S * S) + 60 * S
    assert found.is_new("new", FOREVER_NS, later_ns)
    assert len(found) == 1


def test_long_ids_are_nobodys() -> None:
    found = SeenIds()
    assert not found.is_new("y" * (seen.MAX_ID_CHARS + 1), FOREVER_NS, 1)
    assert len(found) == 0
