"""Pages that campaigns write: several runs add up to one table."""

from pathlib import Path

from campaigns.page import replace_rows, rows_of

HEAD = "# Title\n\nText.\n\n| leg | medium | value |\n|---|---|---|\n"
ORDER = [("up", "VP8"), ("up", "AV1"), ("down", "VP8")]


def test_rows_that_were_not_measured_stay(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    replace_rows(
        page, HEAD, {("down", "VP8"): "| down | VP8 | 3 |", ("up", "VP8"): "| up | VP8 | 1 |"}, ORDER
    )
    replace_rows(page, HEAD, {("up", "AV1"): "| up | AV1 | 2 |", ("up", "VP8"): "| up | VP8 | 9 |"}, ORDER)
    assert page.read_text() == HEAD + "| up | VP8 | 9 |\n| up | AV1 | 2 |\n| down | VP8 | 3 |\n"


def test_rows_that_nothing_measures_any_more_go(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(HEAD + "| gone | VP8 | 1 |\n| up | VP8 | 1 |\n")
    replace_rows(page, HEAD, {}, ORDER)
    assert page.read_text() == HEAD + "| up | VP8 | 1 |\n"


def test_rows_are_found_by_their_first_cells() -> None:
    assert rows_of("| up | VP8 |  |\nnot a row\n| a |\n", 2) == {("up", "VP8"): "| up | VP8 |  |"}
