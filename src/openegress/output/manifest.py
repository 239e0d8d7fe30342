"""Builds <egress_id>.json: what an egress stored, for programs that find the files without asking the API.
Pure.

The fields are upstream's; times are unix ns. `started_at` is the wall clock of media time zero, so that
several recordings of a room can be aligned.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from openegress.core.events import ExtraFileStored
from openegress.core.left_out import LeftOut
from openegress.core.marker import Marker, sorted_markers
from openegress.core.restart import Restart
from openegress.core.units import S


@dataclass(frozen=True, slots=True)
class FileRecord:
    filename: str
    location: str
    presign_error: str = ""
    """The reason why `location` needs credentials although presigned URLs are configured."""


@dataclass(frozen=True, slots=True)
class PlaylistRecord:
    location: str
    segments: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    filename: str
    taken_at_ns: int
    location: str


@dataclass(frozen=True, slots=True)
class Records:
    """The objects that one output stored."""

    files: tuple[FileRecord, ...] = ()
    playlists: tuple[PlaylistRecord, ...] = ()
    images: tuple[ImageRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """Part of the recording that was stored as a separate file, in ns of media time."""

    filename: str
    location: str
    begin_ns: int
    end_ns: int
    presign_error: str = ""


def extra_files_stored(files: Iterable[FileRecord], at_ns: int) -> list[ExtraFileStored]:
    """Returns the events for files that EgressInfo has no field for."""
    return [ExtraFileStored(at_ns, each.filename) for each in files]


@dataclass(frozen=True, slots=True)
class Pause:
    """Time that the recording leaves out, in unix ns."""

    paused_at_ns: int
    resumed_at_ns: int

    def until(self, ended_at_ns: int) -> "Pause":
        """Returns the pause with an end. A pause without one (0) ends with the recording."""
        return self if self.resumed_at_ns else Pause(self.paused_at_ns, max(self.paused_at_ns, ended_at_ns))


def paused_ns(pauses: Iterable[Pause]) -> int:
    """Returns the total length of all pauses that have an end."""
    return sum(max(0, each.resumed_at_ns - each.paused_at_ns) for each in pauses)


@dataclass(frozen=True, slots=True)
class Header:
    """Facts about the egress as a whole; empty fields are left out."""

    egress_id: str
    part: str = ""
    """The number of its part, if other workers have recorded the other parts; "": the manifest is of the
    whole, or of the first part."""
    room_id: str = ""
    room_name: str = ""
    url: str = ""
    started_at_ns: int = 0
    ended_at_ns: int = 0
    publisher_identity: str = ""
    track_id: str = ""
    track_kind: str = ""
    track_source: str = ""
    audio_track_id: str = ""
    video_track_id: str = ""
    passthrough: bool = False
    """Whether encoded frames were stored as they came."""
    left_out: LeftOut = field(default_factory=LeftOut)
    pauses: tuple[Pause, ...] = ()
    restarts: tuple[Restart, ...] = ()
    markers: tuple[Marker, ...] = ()
    clips: tuple[ClipRecord, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)


def name_of(header: Header) -> str:
    """Returns the manifest's name without its extension."""
    return f"{header.egress_id}-{header.part}" if header.part else header.egress_id


def build(header: Header, records: Iterable[Records]) -> str:
    """Builds the manifest's text."""
    fields: dict[str, object] = {
        "egress_id": header.egress_id,
        "part": int(header.part or 0),
        "room_id": header.room_id,
        "room_name": header.room_name,
        "url": header.url,
        "started_at": header.started_at_ns,
        "ended_at": header.ended_at_ns,
        "publisher_identity": header.publisher_identity,
        "track_id": header.track_id,
        "track_kind": header.track_kind,
        "track_source": header.track_source,
        "audio_track_id": header.audio_track_id,
        "video_track_id": header.video_track_id,
        "passthrough": header.passthrough,
        "left_out": _left_out(header.left_out),
        "pauses": [
            {"paused_at": pause.paused_at_ns, "resumed_at": pause.resumed_at_ns} for pause in header.pauses
        ],
        "restarts": [
            {"lost_at": each.lost_at_ns, "resumed_at": each.resumed_at_ns, "position": each.at_ns}
            for each in header.restarts
        ],
        "markers": [
            {"name": each.name, "position": each.at_ns, "marked_at": each.unix_ns}
            for each in sorted_markers(header.markers)
        ],
        "clips": [
            {**_file(FileRecord(c.filename, c.location, c.presign_error)), "from": c.begin_ns, "to": c.end_ns}
            for c in header.clips
        ],
        **header.extra,
    }
    all_records = list(records)
    fields["files"] = [_file(f) for r in all_records for f in r.files]
    fields["playlists"] = [
        {"location": p.location, "segments": [_file(s) for s in p.segments]}
        for r in all_records
        for p in r.playlists
    ]
    fields["images"] = [
        {"filename": i.filename, "timestamp": rfc3339(i.taken_at_ns), "location": i.location}
        for r in all_records
        for i in r.images
    ]
    return json.dumps({key: value for key, value in fields.items() if value}, indent=2, ensure_ascii=False)


def rfc3339(at_ns: int) -> str:
    """Formats a time in UTC with nanoseconds (RFC 3339), as Go writes times in JSON."""
    return f"{datetime.fromtimestamp(at_ns // S, UTC):%Y-%m-%dT%H:%M:%S}.{at_ns % S:09d}Z"


def _left_out(left_out: LeftOut) -> object:
    told = msgspec.structs.replace(left_out, tracks=tuple(track for track in left_out.tracks if track.any))
    if not told.any:
        return None
    fields = msgspec.to_builtins(told)
    return fields if told.quicker else {key: value for key, value in fields.items() if key != "quicker"}


def _file(record: FileRecord) -> dict[str, object]:
    told = {"filename": record.filename, "location": record.location, "presign_error": record.presign_error}
    return {key: value for key, value in told.items() if value or key != "presign_error"}
