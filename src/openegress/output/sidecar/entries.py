"""Turns events of a room into entries of the sidecars' log. Pure."""

from typing import Any

import msgspec

from openegress.room import Track, TrackEncryption
from openegress.room.events import (
    ConnectionLost,
    DataLocked,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    QualityChanged,
    Reconnected,
    RoomEvent,
    SpeakersChanged,
    TrackMuted,
    TrackPublished,
    TrackUnpublished,
)

MAX_CHARS = 256
"""Limit for a name, and for a reason."""
MAX_TEXT_CHARS = 16_384
"""Limit for one message, one transcribed segment or one text of another topic."""
MAX_SPEAKERS = 50
"""Limit for one entry: nobody can distinguish more people who speak at once."""

STARTED, ENDED = "recording_started", "recording_ended"
PAUSED, RESUMED = "paused", "resumed"
IS_CUT = "cut"
"""Field of pause and resume: the recording leaves the time out, as it does by default."""
IS_RESTART = "restart"
"""Field of pause and resume: the process of the recording had died."""
SPEAKERS = "active_speakers"
LOST = "connection_lost"
LAYOUT = "layout_changed"
ASKED = "layout_asked"
"""The whole text of a layout with its options: for composing, and in no sidecar."""
MARKED = "marker"
CLIPPED = "clip"
LEFT_OUT = "events_left_out"
CHAT, TRANSCRIPT, DATA = "chat", "transcript", "data"
SAID = frozenset({CHAT, TRANSCRIPT, DATA})
"""Entries of what people send; all other entries are events of the room."""


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log."""

    at_ns: int
    """Unix ns of the event."""
    event: str
    fields: dict[str, Any] = {}


def source_of(entry: LogEntry) -> str:
    """Returns whose entry it is; entries of nobody belong to their kind."""
    return entry.fields.get("identity") or entry.event


def entry_of(event: RoomEvent, at_ns: int) -> LogEntry | None:
    """Returns the entry of an event; None: it is not needed."""
    match event:
        case ParticipantJoined(who):
            more = {"name": who.name, "kind": who.kind, "participant_id": who.sid}
            return _entry(at_ns, "participant_joined", identity=who.identity, **more)
        case ParticipantLeft(who):
            return _entry(at_ns, "participant_left", identity=who.identity)
        case ParticipantChanged(who):
            return _entry(at_ns, "participant_renamed", identity=who.identity, name=who.name)
        case TrackPublished(track):
            return _entry(at_ns, "track_published", **_described(track))
        case TrackUnpublished(track):
            return _entry(at_ns, "track_unpublished", **_named(track))
        case TrackMuted(track):
            return _entry(at_ns, "track_muted" if track.muted else "track_unmuted", **_named(track))
        case SpeakersChanged(identities):
            return _entry(at_ns, SPEAKERS, identities=list(identities[:MAX_SPEAKERS]))
        case QualityChanged(identity, quality):
            return _entry(at_ns, "connection_quality", identity=identity, quality=quality.value)
        case DataLocked(identity, reason):
            return _entry(at_ns, "data_locked", identity=identity, reason=reason)
        case ConnectionLost(reason):
            return _entry(at_ns, LOST, reason=reason)
        case Reconnected(after_s):
            return _entry(at_ns, "reconnected", after_s=round(after_s, 3))
        case _:
            return None


def _named(track: Track) -> dict[str, Any]:
    return {
        "identity": track.participant.identity,
        "track_id": track.sid,
        "kind": track.kind.value,
        "source": track.source.value,
    }


def _described(track: Track) -> dict[str, Any]:
    return {
        **_named(track),
        "name": track.name,
        "mime_type": track.mime_type,
        "muted": track.muted,
        "encrypted": track.encryption is not TrackEncryption.NONE,
    }


def _entry(at_ns: int, event: str, **fields: Any) -> LogEntry:
    return LogEntry(at_ns, event, {key: _bounded(value) for key, value in fields.items()})


def _bounded(value: Any) -> Any:
    match value:
        case str():
            return value[:MAX_CHARS]
        case list():
            return [_bounded(each) for each in value]
        case _:
            return value
