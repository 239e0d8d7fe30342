"""Lines of text in the order in which they are seen, and what must not be taken apart."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import features

from openegress.media import fonts
from openegress.media import text as texts
from openegress.media.text_runs import TextRun, clusters, line_height, runs

HEBREW, ARABIC = "שלום", "مرحبا"


def seen(text: str) -> list[tuple[str, bool]]:
    return [(run.text, run.is_rtl) for run in runs(text, lambda cluster, font: "one")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("abc 12", [("abc 12", False)]),
        (HEBREW, [(HEBREW, True)]),
        # As UAX 9 orders them: a number within right to left reads from left to right.
        (f"{HEBREW} 123", [("123", False), (f"{HEBREW} ", True)]),
        (f"abc {HEBREW}", [("abc ", False), (HEBREW, True)]),
        (f"{HEBREW} abc", [("abc", False), (f"{HEBREW} ", True)]),
        (
            f"a {HEBREW} 1.5 {ARABIC} b",
            [("a ", False), (f" {ARABIC}", True), ("1.5", False), (f"{HEBREW} ", True), (" b", False)],
        ),
        (f"a {HEBREW} {ARABIC}!", [("a ", False), (f"{HEBREW} {ARABIC}", True), ("!", False)]),
        ("12:30", [("12:30", False)]),
    ],
)
def test_the_order_in_which_it_is_seen(text: str, expected: list[tuple[str, bool]]) -> None:
    assert seen(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("é", ["é"]),
        ("👩‍👩‍👧‍👦!", ["👩‍👩‍👧‍👦", "!"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("1️⃣2", ["1️⃣", "2"]),
        ("👍🏽👍", ["👍🏽", "👍"]),
        ("क्षि", ["क्", "षि"]),
    ],
)
def test_what_belongs_together(text: str, expected: list[str]) -> None:
    assert clusters(text) == expected


def test_a_run_has_one_font() -> None:
    found = runs("abc中def", lambda cluster, font: "latin" if cluster.isascii() else "cjk")
    assert found == [
        TextRun("abc", "latin", False),
        TextRun("中", "cjk", False),
        TextRun("def", "latin", False),
    ]


@given(text=st.text(max_size=40))
def test_nothing_is_lost_or_doubled(text: str) -> None:
    found = runs(text, lambda cluster, font: unicodedata.category(cluster[0]))
    assert sorted("".join(run.text for run in found)) == sorted(text)


@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12), size=st.sampled_from([8, 20])
)
def test_any_text_is_drawn_within_its_width(text: str, size: int) -> None:
    image = texts.draw(text, size, (255, 255, 255), 100)
    assert image.width <= 101 and image.height == line_height(size)


def test_letters_join_and_go_from_right_to_left() -> None:
    """Joined letters are narrower than the same ones apart; the first is at the right."""
    if not features.check("raqm") or not fonts.font_of("م")[0]:
        pytest.skip("no Raqm or no Arabic font here")
    apart = sum(texts.width_of(letter, 40) for letter in ARABIC)
    assert texts.width_of(ARABIC, 40) < 0.9 * apart
    image = texts.draw("\u0627" + "\u0633" * 3, 40, (255, 255, 255), 400)
    tall = [x for x in range(image.width) if image.getpixel((x, 12))[3] > 128]  # type: ignore[index]
    assert tall and min(tall) > image.width / 2  # the alef, which comes first
