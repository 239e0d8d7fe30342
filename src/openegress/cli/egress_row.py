"""An EgressInfo (as the API's JSON: snake_case, int64 as strings) as a row of a table. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from livekit.protocol.egress import EgressInfo

from openegress.cli.quantities import NONE, duration_text, size_text, time_text
from openegress.cli.table import Cell, Column
from openegress.cli.terminal import Colour
from openegress.core.info import is_paused
from openegress.core.public import where
from openegress.core.shown_url import redact_page
from openegress.core.text import shown

Info = Mapping[str, Any]

COLUMNS = (
    Column("EGRESS"),
    Column("KIND"),
    Column("SOURCE", gives_way=True),
    Column("STATUS"),
    Column("STARTED"),
    Column("LASTED", right=True),
    Column("SIZE", right=True),
    Column("OUTPUT", gives_way=True),
)
WITH_ERROR = (*COLUMNS, Column("ERROR"))

KINDS = ("room_composite", "web", "participant", "track_composite", "track", "egress")

STATUS_COLOURS = {
    "EGRESS_STARTING": Colour.YELLOW,
    "EGRESS_ACTIVE": Colour.GREEN,
    "EGRESS_ENDING": Colour.YELLOW,
    "EGRESS_COMPLETE": None,
    "EGRESS_FAILED": Colour.RED,
    "EGRESS_ABORTED": Colour.RED,
    "EGRESS_LIMIT_REACHED": Colour.YELLOW,
}
STREAM_COLOURS = {"ACTIVE": Colour.GREEN, "FAILED": Colour.RED}

STREAM_COLUMNS = (
    Column("STREAM", gives_way=True),
    Column("STATUS"),
    Column("RETRIES", right=True),
    Column("ERROR"),
)


def rows(infos: Sequence[Info], now_s: float) -> tuple[Sequence[Column], list[list[Cell]]]:
    """The columns and rows of a list. There is a column for errors where any egress has one."""
    has_errors = any(info.get("error") for info in infos)
    columns = WITH_ERROR if has_errors else COLUMNS
    return columns, [_row(info, now_s)[: len(columns)] for info in infos]


def stream_rows(info: Info) -> list[list[Cell]]:
    """For STREAM_COLUMNS."""
    found = []
    for stream in info.get("stream_results") or ():
        status = str(stream.get("status", ""))
        found.append(
            [
                Cell(shown(str(stream.get("url", "")))),
                Cell(status.lower(), STREAM_COLOURS.get(status)),
                Cell(str(stream.get("retries", 0) or NONE)),
                Cell(shown(str(stream.get("error", "")), 400)),
            ]
        )
    return found


def _row(info: Info, now_s: float) -> list[Cell]:
    started_s, ended_s = _unix_s(info, "started_at"), _unix_s(info, "ended_at")
    lasted_s = (ended_s or now_s) - started_s
    size_bytes = total_bytes(info)
    return [
        Cell(shown(str(info.get("egress_id", "")))),
        Cell(kind_text(info)),
        Cell(source_text(info) or NONE),
        Cell(status_text(info), status_colour(info)),
        Cell(time_text(started_s, now_s) if started_s else NONE),
        Cell(duration_text(lasted_s) if started_s else NONE),
        Cell(size_text(size_bytes) if size_bytes else NONE),
        Cell(output_text(info) or NONE),
        Cell(shown(str(info.get("error") or ""), 1000), Colour.RED),
    ]


def kind_text(info: Info) -> str:
    """As `openegress start --type` names it."""
    return next((kind.replace("_", "-") for kind in KINDS if info.get(kind)), NONE)


def status_text(info: Info) -> str:
    """EGRESS_LIMIT_REACHED -> limit reached. Says too whether a recording is paused."""
    if _is_paused(info):
        return "paused"
    return str(info.get("status", "")).removeprefix("EGRESS_").lower().replace("_", " ")


def status_colour(info: Info) -> Colour | None:
    return Colour.YELLOW if _is_paused(info) else STATUS_COLOURS.get(str(info.get("status")))


def _is_paused(info: Info) -> bool:
    return info.get("status") == "EGRESS_ACTIVE" and is_paused(EgressInfo(details=info.get("details")))


def source_text(info: Info) -> str:
    """The page, or the room and what is recorded of it."""
    body: Info = next((info[kind] for kind in KINDS if info.get(kind)), {})
    url = (body.get("web") or {}).get("url") or body.get("url")
    if url:
        return page_text(str(url))
    room = str(info.get("room_name") or body.get("room_name") or "")
    tracks = "+".join(filter(None, (body.get("audio_track_id"), body.get("video_track_id"))))
    part = body.get("identity") or body.get("track_id") or tracks or body.get("layout")
    return shown(f"{room}/{part}" if part else room)


def page_text(url: str) -> str:
    """The page's URL, shortened."""
    hidden = "?…" if "?" in url or "#" in url else ""
    return shown(where(redact_page(url)) + hidden)


def output_text(info: Info) -> str:
    """The location of the first output, and how many others there are."""
    places = [
        *(each.get("location") or each.get("filename") for each in info.get("file_results") or ()),
        *(
            each.get("playlist_location") or each.get("playlist_name")
            for each in info.get("segment_results") or ()
        ),
        *(each.get("url") for each in info.get("stream_results") or ()),
        *(
            f"{each.get('filename_prefix', '')} ({each.get('image_count', 0)} images)"
            for each in info.get("image_results") or ()
        ),
    ]
    if not places:
        return ""
    more = f" +{len(places) - 1}" if len(places) > 1 else ""
    return shown(str(places[0] or "")) + more


def total_bytes(info: Info) -> int:
    results = [*(info.get("file_results") or ()), *(info.get("segment_results") or ())]
    return sum(int(each.get("size") or 0) for each in results)


def _unix_s(info: Info, field: str) -> float:
    return int(info.get(field) or 0) / 1e9
