"""Derives the timeline of an egress: what has happened from one EgressInfo to the next. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo, SegmentsInfo, StreamInfo

from openegress.core.events import ExtraFileStored, MarkerAdded, Rejoined, TimelineEvent
from openegress.core.info import composing, end_reason, is_paused, is_terminal
from openegress.core.units import S


class Mood(StrEnum):
    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Moment:
    at_ns: int
    """Unix time in ns."""
    text: str
    mood: Mood = Mood.QUIET


ENDS = {
    EgressStatus.EGRESS_COMPLETE: ("Complete", Mood.GOOD),
    EgressStatus.EGRESS_FAILED: ("Failed", Mood.BAD),
    EgressStatus.EGRESS_ABORTED: ("Aborted", Mood.BAD),
    EgressStatus.EGRESS_LIMIT_REACHED: ("Limit reached", Mood.BUSY),
}


def moments(before: EgressInfo | None, after: EgressInfo) -> list[Moment]:
    """What has happened since `before`, oldest first. If `before` is None: everything that `after` has a time
    for."""
    old = before or EgressInfo()
    # The sort is stable, so the end comes last among moments of the same time.
    found = [*_life(before, after), *_streams(old, after), *_stored(before, after), *_end(old, after)]
    return sorted(found, key=lambda moment: moment.at_ns)


def moment_of(event: TimelineEvent) -> Moment:
    """The moment of an event that is not part of records."""
    match event:
        case Rejoined(at_ns, after_s):
            return Moment(at_ns, f"Joined the room again after {after_s:.1f} s", Mood.BUSY)
        case MarkerAdded(at_ns, name, media_ns):
            return Moment(at_ns, f"Marker at {_clock(media_ns)}: {name}", Mood.GOOD)
        case ExtraFileStored(at_ns, filename):
            return Moment(at_ns, f"Stored {filename}", Mood.GOOD)


def _clock(media_ns: int) -> str:
    minutes, seconds = divmod(media_ns // S, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _life(before: EgressInfo | None, after: EgressInfo) -> Iterator[Moment]:
    old = before or EgressInfo()
    if before is None and after.started_at:
        yield Moment(after.started_at, "Requested", Mood.BUSY)
    if not _media_began(old) and (began_ns := _media_began(after)):
        yield Moment(began_ns, "Recording", Mood.GOOD)
    for number, part in enumerate(after.file_results[1:], 2):
        known = len(old.file_results) >= number and old.file_results[number - 1].started_at
        if part.started_at and not known:
            yield Moment(part.started_at, f"Part {number}: {part.filename}", Mood.GOOD)
    if after.room_composite.layout != old.room_composite.layout and before is not None:
        yield Moment(after.updated_at, f"Layout: {after.room_composite.layout}")
    if after.status == EgressStatus.EGRESS_ACTIVE and is_paused(after) != is_paused(old):
        yield Moment(
            after.updated_at, *(("Paused", Mood.BUSY) if is_paused(after) else ("Resumed", Mood.GOOD))
        )
    if after.status == EgressStatus.EGRESS_ENDING != old.status:
        yield Moment(after.updated_at, _because("Ending", end_reason(after) or ""), Mood.BUSY)
    if (composed := composing(after)) and composed[0].isdigit() and not composing(old)[:1].isdigit():
        yield Moment(after.updated_at, "Composing", Mood.BUSY)


def _end(old: EgressInfo, after: EgressInfo) -> Iterator[Moment]:
    if is_terminal(after) and not is_terminal(old):
        text, mood = ENDS[after.status]
        yield Moment(after.ended_at or after.updated_at, _because(text, after.error), mood)


def _media_began(info: EgressInfo) -> int:
    """Media time zero in unix ns, from the outputs; 0: not known yet."""
    results: list[FileInfo | SegmentsInfo | StreamInfo] = [
        *info.file_results,
        *info.segment_results,
        *info.stream_results,
    ]
    return min((result.started_at for result in results if result.started_at), default=0)


def _streams(before: EgressInfo, after: EgressInfo) -> Iterator[Moment]:
    for n, new in enumerate(after.stream_results):
        old = before.stream_results[n] if n < len(before.stream_results) else StreamInfo()
        yield from _stream(old, new, after.updated_at)


def _stream(old: StreamInfo, new: StreamInfo, now_ns: int) -> Iterator[Moment]:
    name = f"Stream {new.url}"
    if new.started_at and not old.started_at:
        yield Moment(new.started_at, f"{name} is live", Mood.GOOD)
    if new.retries > old.retries:
        counted = "1 retry" if new.retries == 1 else f"{new.retries} retries"
        yield Moment(new.last_retry_at or now_ns, _because(f"{name}: {counted}", new.error), Mood.BUSY)
    elif new.error and not old.error and new.status == StreamInfo.ACTIVE:
        yield Moment(now_ns, f"{name} was lost: {new.error}", Mood.BUSY)
    if old.error and not new.error and new.status == StreamInfo.ACTIVE:
        yield Moment(now_ns, f"{name} is back", Mood.GOOD)
    if new.status != old.status:
        if new.status == StreamInfo.FAILED:
            yield Moment(new.ended_at or now_ns, _because(f"{name} failed", new.error), Mood.BAD)
        elif new.status == StreamInfo.FINISHED:
            yield Moment(new.ended_at or now_ns, f"{name} finished")


def _stored(before: EgressInfo | None, after: EgressInfo) -> Iterator[Moment]:
    """Yields files that were stored since `before`. A record has no time for that, so the change's time is
    used."""
    if before is None:
        return
    places = {result.location for result in before.file_results}
    for result in after.file_results:
        if result.location and result.location not in places:
            yield Moment(after.updated_at, f"Stored {result.filename}", Mood.GOOD)
    lists = {result.playlist_location for result in before.segment_results}
    for segments in after.segment_results:
        if segments.playlist_location and segments.playlist_location not in lists:
            yield Moment(after.updated_at, f"Stored {segments.playlist_name}", Mood.GOOD)


def _because(text: str, why: str) -> str:
    return f"{text}: {why}" if why else text
