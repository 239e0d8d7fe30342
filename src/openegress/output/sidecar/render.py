"""The files of each sidecar, made of the log."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from openegress.core.sidecars import Sidecar
from openegress.output.manifest import rfc3339
from openegress.output.sidecar import entries
from openegress.output.sidecar.entries import LogEntry
from openegress.output.sidecar.log import read
from openegress.output.sidecar.media_time import MediaTime
from openegress.output.sidecar.rttm import rttm
from openegress.output.sidecar.speech import segments
from openegress.output.sidecar.webvtt import Cue, webvtt
from openegress.output.spool_file import disk_error

Log = Callable[[], Iterable[LogEntry]]
"""Read anew each time: it may be long."""


def render(folder: Path, sidecar: Sidecar, recording: str, end_ns: int) -> dict[str, Path]:
    """The files of `sidecar`, by the ending of their names. `recording`: the name of what they are of;
    `end_ns`: where it ends, if the log does not say so. Blocking. Raises EgressError when the disk
    refuses."""
    made: dict[str, Path] = {}
    for ending, text in _texts(sidecar, lambda: read(folder), recording, end_ns).items():
        made[ending] = folder / f"sidecar{ending}"
        try:
            with made[ending].open("w", encoding="utf-8") as file:
                file.writelines(text)
        except OSError as error:
            raise disk_error(error, made[ending]) from error
    return made


def _texts(sidecar: Sidecar, log: Log, recording: str, end_ns: int) -> dict[str, Iterable[str]]:
    time = MediaTime.of(log(), end_ns)
    match sidecar:
        case Sidecar.EVENTS:
            return {".events.jsonl": event_lines(log(), time)}
        case Sidecar.SPEAKERS:
            spoken, names = segments(log(), time), _names(log())
            cues = (
                Cue(each.begin_s, each.end_s, name := names.get(each.identity) or each.identity, name)
                for each in spoken
            )
            return {".speakers.vtt": webvtt(cues), ".speakers.rttm": rttm(spoken, recording)}


def event_lines(log: Iterable[LogEntry], time: MediaTime) -> Iterator[str]:
    """JSON lines: media time, wall clock, what happened, and of whom."""
    told_end = False
    for entry in log:
        told_end = told_end or entry.event == entries.ENDED
        yield _line(entry, time)
    if not told_end:
        yield _line(LogEntry(time.end_ns, entries.ENDED), time)


def _line(entry: LogEntry, time: MediaTime) -> str:
    head = {"media_s": round(time.s(entry.at_ns), 3), "at": rfc3339(entry.at_ns), "event": entry.event}
    return msgspec.json.encode(head | entry.fields).decode() + "\n"


def _names(log: Iterable[LogEntry]) -> dict[str, str]:
    """The last name of each identity."""
    named = itertools.chain.from_iterable(
        [(entry.fields["identity"], entry.fields["name"])]
        for entry in log
        if entry.event in ("participant_joined", "participant_renamed")
    )
    return dict(named)
