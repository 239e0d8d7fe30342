"""Makes the files of each sidecar from the log."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from openegress.core.errors import Phase, internal
from openegress.core.sidecars import Sidecar
from openegress.output.manifest import rfc3339
from openegress.output.sidecar import entries
from openegress.output.sidecar.entries import LogEntry
from openegress.output.sidecar.labels import labels_of
from openegress.output.sidecar.log import NAME, read
from openegress.output.sidecar.media_time import MediaTime
from openegress.output.sidecar.rttm import rttm
from openegress.output.sidecar.speech import segments
from openegress.output.sidecar.transcript import TranscriptSegment, spans_s, transcript
from openegress.output.sidecar.webvtt import Cue, webvtt
from openegress.output.spool_file import disk_error

_NAMING = ("participant_joined", "participant_renamed")

Log = Callable[[], Iterable[LogEntry]]
"""Reads the log again each time, as it may be long."""


def render(folder: Path, sidecar: Sidecar, recording: str, end_ns: int) -> dict[str, Path]:
    """Makes the files of `sidecar`, and returns them by the endings of their names. `recording`: the name of
    the recording; `end_ns`: where it ends, if the log does not say so. Blocking. Raises EgressError when the
    disk refuses, or has damaged the log."""
    made: dict[str, Path] = {}
    try:
        for ending, text in _texts(sidecar, lambda: read(folder), recording, end_ns).items():
            made[ending] = folder / f"sidecar{ending}"
            with made[ending].open("w", encoding="utf-8") as file:
                file.writelines(text)
    except OSError as error:
        raise disk_error(error, folder / NAME) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"the log of what happened in the room is damaged: {error!r}"
        raise internal(text, Phase.FINISH) from error
    return made


def _texts(sidecar: Sidecar, log: Log, recording: str, end_ns: int) -> dict[str, Iterable[str]]:
    time = MediaTime.of(log(), end_ns)
    match sidecar:
        case Sidecar.EVENTS:
            return {".events.jsonl": event_lines(log(), time)}
        case Sidecar.SPEAKERS:
            spoken, labels = segments(log(), time), labels_of(_names(log()))
            cues = (
                Cue(each.begin_s, each.end_s, label := labels.get(each.identity, each.identity), label)
                for each in spoken
            )
            return {".speakers.vtt": webvtt(cues), ".speakers.rttm": rttm(spoken, recording)}
        case Sidecar.CHAT:
            return {".chat.jsonl": said_lines(log(), time, entries.CHAT)}
        case Sidecar.DATA:
            return {".data.jsonl": said_lines(log(), time, entries.DATA)}
        case Sidecar.TRANSCRIPT:
            segments_said, names = transcript(log()), _names(log())
            spans, labels = spans_s(segments_said, time), labels_of(names)
            cues = (
                Cue(begin_s, end_s, labels.get(each.identity, each.identity), each.text)
                for each, (begin_s, end_s) in zip(segments_said, spans, strict=True)
            )
            senders = _by_sid(log())
            lines = (
                _transcript_line(each, time, names.get(each.identity, ""), senders.get(each.sender, ""))
                for each in segments_said
            )
            return {".transcript.jsonl": lines, ".vtt": webvtt(cues)}


def event_lines(log: Iterable[LogEntry], time: MediaTime) -> Iterator[str]:
    """Makes JSON lines: media time, wall clock, the event and its participant."""
    told_end = False
    for entry in log:
        if entry.event in entries.SAID or entry.event == entries.ASKED:
            continue
        told_end = told_end or entry.event == entries.ENDED
        yield _line(entry, time)
    if not told_end:
        yield _line(LogEntry(time.end_ns, entries.ENDED), time)


def said_lines(log: Iterable[LogEntry], time: MediaTime, event: str) -> Iterator[str]:
    """Makes JSON lines of one kind of what people send, with the sender's name at that time."""
    names: dict[str, str] = {}
    for entry in log:
        identity = entry.fields.get("identity", "")
        if entry.event in _NAMING:
            names[identity] = entry.fields["name"]
        elif entry.event == event:
            name = names.get(identity, "")
            yield _json_line(_when(entry.at_ns, time) | {"name": name} | entry.fields)


def _transcript_line(each: TranscriptSegment, time: MediaTime, name: str, sender: str) -> str:
    told = {"end_s": round(time.s(each.end_ns), 3), "name": name, "identity": each.identity}
    more = {"segment": each.number, "text": each.text, "final": each.final}
    optional = {"sender": sender, "track_id": each.track_id, "language": each.language}
    return _json_line(
        _when(each.begin_ns, time) | told | more | {key: text for key, text in optional.items() if text}
    )


def _line(entry: LogEntry, time: MediaTime) -> str:
    return _json_line(_when(entry.at_ns, time) | {"event": entry.event} | entry.fields)


def _when(at_ns: int, time: MediaTime) -> dict[str, Any]:
    return {"media_s": round(time.s(at_ns), 3), "at": rfc3339(at_ns)}


def _json_line(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields).decode() + "\n"


def _by_sid(log: Iterable[LogEntry]) -> dict[str, str]:
    """Returns the identities of all who were there, by SID and by identity."""
    joined = [entry.fields for entry in log if entry.event == "participant_joined"]
    keys = ("identity", "participant_id")
    return {fields[key]: fields["identity"] for fields in joined for key in keys if key in fields}


def _names(log: Iterable[LogEntry]) -> dict[str, str]:
    """Returns the last name of each identity."""
    named = (entry.fields for entry in log if entry.event in _NAMING)
    return {fields["identity"]: fields["name"] for fields in named}
