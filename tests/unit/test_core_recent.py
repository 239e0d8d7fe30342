"""A mapping that keeps what was set last."""

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.recent import Recent


@given(st.lists(st.tuples(st.integers(0, 9), st.integers())), st.integers(1, 5))
def test_what_was_set_last_is_kept(entries: list[tuple[int, int]], most: int) -> None:
    found: Recent[int, int] = Recent(most)
    for key, value in entries:
        found[key] = value
    latest = {key: None for key, _ in reversed(entries)}
    assert list(found)[::-1] == list(latest)[:most]
    assert all(found[key] == dict(entries)[key] for key in found)
