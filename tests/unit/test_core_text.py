"""Text of others stays on its line, and short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.errors import MAX_MESSAGE_CHARS, Code, EgressError
from openegress.core.text import shown, shown_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a room", "a room"),
        ("Büro 3, ü", "Büro 3, ü"),
        ("two\nlines", "two\\nlines"),
        ("back\r", "back\\r"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("line\u2028separator", "line\\u2028separator"),
        ("gpj.\u202egnp", "gpj.\\u202egnp"),
        ("half \ud800", "half \\ud800"),
        ("a" * 30, "a" * 30),
        ("a" * 31, "a" * 29 + "…"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, expected: str) -> None:
    assert shown(text, 30) == expected


def test_lines_stay_apart_and_together_they_are_bounded() -> None:
    assert shown_lines("one\ntwo\r\x00", 100) == "one\ntwo\\r\\x00"
    assert shown_lines("a\n" * 1000, 10) == "a\n" * 4 + "a…"


@pytest.mark.parametrize(
    "message", ["x" * 60_000_000, "a\x1b[31mred", "half \ud800"], ids=["long", "red", "half"]
)
def test_errors_are_bounded_and_can_be_seen(message: str) -> None:
    error = EgressError(Code.INVALID_ARGUMENT, message)
    assert len(error.text) <= MAX_MESSAGE_CHARS and str(error) == error.message
    assert "\x1b" not in error.text
    error.text.encode()


@given(st.text())
def test_it_is_one_line_that_can_be_encoded(text: str) -> None:
    assert len(shown(text).splitlines()) <= 1
    shown(text).encode()
