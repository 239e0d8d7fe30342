"""Selectors as they are written, and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.selectors import KINDS, SOURCES, Selector, SelectorField, Selectors

CHARACTERS = st.characters(exclude_characters=",", exclude_categories=["Cs"])
PATTERN = st.text(CHARACTERS, min_size=1, max_size=20).filter(lambda text: text == text.strip() != "")
SELECTOR = st.one_of(
    st.builds(
        Selector, st.sampled_from([SelectorField.IDENTITY, SelectorField.NAME, SelectorField.TRACK]), PATTERN
    ),
    st.builds(Selector, st.just(SelectorField.KIND), st.sampled_from(KINDS)),
    st.builds(Selector, st.just(SelectorField.SOURCE), st.sampled_from(SOURCES)),
)
SELECTORS = st.builds(Selectors, st.lists(SELECTOR, max_size=3).map(tuple))


@given(selectors=SELECTORS)
def test_what_is_written_is_read(selectors: Selectors) -> None:
    assert Selectors.parse(str(selectors)) == selectors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("ann", (Selector(SelectorField.IDENTITY, "ann"),)),
        ("room:7:ann", (Selector(SelectorField.IDENTITY, "room:7:ann"),)),
        ("identity:kind:x", (Selector(SelectorField.IDENTITY, "kind:x"),)),
        (
            "kind: agent, bot-*",
            (Selector(SelectorField.KIND, "agent"), Selector(SelectorField.IDENTITY, "bot-*")),
        ),
        ("name:Ann L*,track:x", (Selector(SelectorField.NAME, "Ann L*"), Selector(SelectorField.TRACK, "x"))),
        ("source:screen_share", (Selector(SelectorField.SOURCE, "screen_share"),)),
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
