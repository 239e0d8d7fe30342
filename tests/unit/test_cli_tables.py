"""What the command prints for people: quantities, tables, and records in their words."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.cli import egress_row, record, terminal
from openegress.cli.errors import report
from openegress.cli.quantities import duration_text, size_text, time_text
from openegress.cli.table import Cell, Column, cut, render, text_width
from openegress.cli.terminal import Colour, Palette
from openegress.core.errors import Code, EgressError

PLAIN = Palette(enabled=False)
NOW_S = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (723, "12m03s"), (7512, "2h05m12s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_times_have_a_date_unless_they_are_of_today() -> None:
    assert time_text(NOW_S - 60, NOW_S, UTC) == "11:59:00"
    assert time_text(NOW_S - 86_400, NOW_S, UTC) == "2026-02-28 12:00"


# --- tables


def test_columns_line_up_under_their_headers() -> None:
    columns = [Column("A"), Column("NUMBER", right=True), Column("LAST")]
    rows = [[Cell("1"), Cell("22"), Cell("x y")], [Cell("long one"), Cell("333"), Cell("")]]
    assert render(columns, rows, PLAIN) == "\n".join(
        ["A         NUMBER  LAST", "1             22  x y", "long one     333", ""]
    )


def test_colours_do_not_move_columns() -> None:
    columns, rows = [Column("A"), Column("B")], [[Cell("ab", Colour.RED), Cell("c")]]
    assert render(columns, rows, Palette(enabled=True)).splitlines()[1] == "\x1b[31mab\x1b[0m  c"


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"])), st.integers(1, 40))
def test_what_is_cut_fits(text: str, wide: int) -> None:
    assert text_width(cut(text, wide)) <= wide


def test_wide_characters_take_two_columns() -> None:
    assert text_width("日本e\u0301") == 5
    assert cut("日本語", 4) == "日…"


def test_a_narrow_terminal_cuts_what_may_be_cut() -> None:
    columns = [Column("ID"), Column("SOURCE", gives_way=True), Column("ERROR")]
    rows = [[Cell("EG_1"), Cell("s" * 60), Cell("e" * 30)]]
    _, row = render(columns, rows, PLAIN, 60).splitlines()
    assert row == f"EG_1  {'s' * 21}…  {'e' * 30}"
    _, row = render(columns, rows, PLAIN, 10).splitlines()
    assert row == f"EG_1  {'s' * 11}…  {'e' * 30}"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Tty(), {"TERM": "xterm"}, True),
        (Tty(), {"NO_COLOR": ""}, True),
        (Tty(), {"NO_COLOR": "1"}, False),
        (Tty(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_for_terminals(stream: io.StringIO, environment: dict[str, str], coloured: bool) -> None:
    assert ("\x1b" in terminal.palette(stream, environment).paint("a", Colour.RED)) is coloured


# --- records


def info(**more: Any) -> dict[str, Any]:
    return {
        "egress_id": "EG_1",
        "status": "EGRESS_COMPLETE",
        "room_name": "r",
        "room_composite": {"room_name": "r", "layout": "grid"},
        "started_at": str(int((NOW_S - 723) * 1e9)),
        "ended_at": "0",
    } | more


def texts(**more: Any) -> dict[str, str]:
    columns, rows = egress_row.rows([info(**more)], NOW_S)
    return {column.title: cell.text for column, cell in zip(columns, rows[0], strict=True)}


@pytest.mark.parametrize(
    ("status", "details", "shown"),
    [
        ("EGRESS_ACTIVE", "", "active"),
        ("EGRESS_ACTIVE", "Paused", "paused"),
        ("EGRESS_ACTIVE", "layout has no effect; Paused", "paused"),
        ("EGRESS_ACTIVE", "ignored, as not known here: Paused", "active"),
        ("EGRESS_ENDING", "Paused", "ending"),
        ("EGRESS_LIMIT_REACHED", "", "limit reached"),
    ],
)
def test_a_status_says_whether_it_is_paused(status: str, details: str, shown: str) -> None:
    assert texts(status=status, details=details)["STATUS"] == shown


def test_a_row() -> None:
    row = texts(
        file_results=[{"location": "/out/a.mp4", "size": "1500000"}],
        stream_results=[{"url": "rtmp://h/{k}"}],
    )
    assert row | {"STARTED": ""} == {
        "EGRESS": "EG_1",
        "KIND": "room-composite",
        "SOURCE": "r/grid",
        "STATUS": "complete",
        "STARTED": "",
        "LASTED": "12m03s",
        "SIZE": "1.5 MB",
        "OUTPUT": "/out/a.mp4 +1",
    }
    assert texts(ended_at=str(int((NOW_S - 720) * 1e9)))["LASTED"] == "3s"
    assert texts(error="bucket gone")["ERROR"] == "bucket gone"
    assert "ERROR" not in texts()


@pytest.mark.parametrize(
    ("request_of", "kind", "source"),
    [
        ({"web": {"url": "https://ann:pw@host/p?token=SECRET#x"}}, "web", "https://host/p?…"),
        ({"web": {"url": "https://host/p"}}, "web", "https://host/p"),
        ({"web": {"url": "https://[bad"}}, "web", "https://{...}"),
        ({"participant": {"identity": "ann"}}, "participant", "r/ann"),
        ({"track_composite": {"audio_track_id": "A", "video_track_id": "V"}}, "track-composite", "r/A+V"),
        ({"track": {"track_id": "T"}}, "track", "r/T"),
        ({"egress": {"web": {"url": "https://host/"}}}, "egress", "https://host/"),
        ({}, "-", "r"),
    ],
)
def test_kinds_and_sources(request_of: dict[str, Any], kind: str, source: str) -> None:
    row = texts(room_composite=None, **request_of)
    assert (row["KIND"], row["SOURCE"]) == (kind, source)


def test_names_of_others_cannot_write_to_the_terminal() -> None:
    row = texts(
        room_composite={"layout": "\x1b[2J"},
        error="\x1b]0;x\x07\nsecond",
        file_results=[{"location": "a\rb"}],
    )
    assert not any(char in "".join(row.values()) for char in "\x1b\r\n\x07")


def test_errors_and_places_cannot_write_to_it_either(capsys: pytest.CaptureFixture[str]) -> None:
    """A file may have the name of somebody in the room; an error, what a server has answered. U+009B begins a
    sequence as ESC [ does."""
    report(EgressError(Code.UNKNOWN, "HTTP 500: \x9b2J\x1b]0;x\x07 \u202egnp"))
    named = EgressInfo(error="\x1b[2J", status=EgressStatus.EGRESS_FAILED)
    named.file_results.add(location="/out/\x9b2J\u202e.mp4")
    record.report(named, as_json=False)
    told = capsys.readouterr()
    assert "/out/" in told.out and "HTTP 500" in told.err
    assert not any(char in told.out + told.err for char in "\x1b\x9b\x07\u202e")


def test_streams_have_a_row_each() -> None:
    streams = [{"url": "rtmp://h/{k}", "status": "FAILED", "retries": 3, "error": "refused"}, {"url": "x"}]
    found = egress_row.stream_rows(info(stream_results=streams))
    assert [[cell.text for cell in row] for row in found] == [
        ["rtmp://h/{k}", "failed", "3", "refused"],
        ["x", "", "-", ""],
    ]
