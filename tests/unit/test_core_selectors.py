"""Selectors as they are written, and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.selectors import KINDS, SOURCES, By, Selector, Selectors

CHARACTERS = st.characters(exclude_characters=",", exclude_categories=["Cs"])
PATTERN = st.text(CHARACTERS, min_size=1, max_size=20).filter(lambda text: text == text.strip() != "")
SELECTOR = st.one_of(
    st.builds(Selector, st.sampled_from([By.IDENTITY, By.NAME, By.TRACK]), PATTERN),
    st.builds(Selector, st.just(By.KIND), st.sampled_from(KINDS)),
    st.builds(Selector, st.just(By.SOURCE), st.sampled_from(SOURCES)),
)
SELECTORS = st.builds(Selectors, st.lists(SELECTOR, max_size=3).map(tuple))


@given(selectors=SELECTORS)
def test_what_is_written_is_read(selectors: Selectors) -> None:
    assert Selectors.parse(str(selectors)) == selectors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("ann", (Selector(By.IDENTITY, "ann"),)),
        ("room:7:ann", (Selector(By.IDENTITY, "room:7:ann"),)),
        ("identity:kind:x", (Selector(By.IDENTITY, "kind:x"),)),
        ("kind: agent, bot-*", (Selector(By.KIND, "agent"), Selector(By.IDENTITY, "bot-*"))),
        ("name:Ann L*,track:x", (Selector(By.NAME, "Ann L*"), Selector(By.TRACK, "x"))),
        ("source:screen_share", (Selector(By.SOURCE, "screen_share"),)),
    ],
)
def test_reading(text: str, expected: tuple[Selector, ...]) -> None:
    assert Selectors.parse(text).each == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kind:robot", "a list with a kind that LiveKit has (standard, ingress, egress, sip, agent"),
        ("ann,source:screen", "a list with a source that LiveKit has (unknown, camera, microphone"),
        (" , ", "a list with something between its commas"),
        ("ann,", "a list with something between its commas"),
        ("kinds:agent", "a list with kind: in place of kinds: (or identity:kinds:agent for an identity)"),
        ("Source:camera", "a list with source: in place of Source:"),
        ("name:", "a list in which name: is followed by a pattern"),
    ],
)
def test_what_cannot_be_read(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        Selectors.parse(text)
    assert str(caught.value).startswith(error)
