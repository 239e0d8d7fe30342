import pytest

from testkit.machine_watch import MachineWatch, Stillness


@pytest.mark.parametrize(
    ("seen", "spoils"),
    [
        (Stillness(24, 0, 10_000), False),
        (Stillness(26, 0, 10_000), True),
        (Stillness(0, 299, 10_000), False),
        (Stillness(0, 301, 10_000), True),
        (Stillness(0, 40, 100), False),
    ],
)
def test_what_spoils_a_measurement(seen: Stillness, spoils: bool) -> None:
    assert seen.spoils is spoils


def test_it_watches_each_stretch_of_time() -> None:
    watch = MachineWatch()
    try:
        first, second = watch.since_last(), watch.since_last()
    finally:
        watch.close()
    for each in (first, second):
        assert 0 <= each.stolen_ms <= each.total_ms
        assert "stood still for" in str(each)
