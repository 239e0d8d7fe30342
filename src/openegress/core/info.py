"""EgressInfo as a pure function of events: the status machine that clients and webhooks see.

STARTING -> ACTIVE -> ENDING -> COMPLETE | FAILED | LIMIT_REACHED, and STARTING -> ABORTED | FAILED.
A terminal status never changes.
"""

from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import results
from openegress.core.errors import Code, Phase
from openegress.core.events import (
    Active,
    AnyEvent,
    AwaitingStart,
    BackupUsed,
    Composing,
    Ended,
    Ending,
    EndReason,
    EndReport,
    FileUpdate,
    ImagesUpdate,
    ManifestStored,
    Noticed,
    ObserverEvent,
    OutputFailed,
    Paused,
    Restarted,
    Resumed,
    SegmentsUpdate,
    StreamAdded,
    StreamUpdate,
)
from openegress.core.left_out import summary
from openegress.core.units import S

TERMINAL = frozenset(
    {
        EgressStatus.EGRESS_COMPLETE,
        EgressStatus.EGRESS_FAILED,
        EgressStatus.EGRESS_ABORTED,
        EgressStatus.EGRESS_LIMIT_REACHED,
    }
)

_RESUMED = "Resumed after the recording process had died"
PAUSED = "Paused"
"""A part of EgressInfo.details while recording is paused."""
COMPOSING = "Composing: "
"""The beginning of the part that says how much of a deferred recording is composed."""
_WAITING = "waits for its turn"
END_REASON = "End reason: "
STOPPED_BEFORE_START = "Stop called before pipeline could start"
STOPPED_AWAITING_START = "Start signal not received"
LIMIT_BEFORE_START = "Session limit reached before start signal"
LIMIT_REACHED = "Session limit reached"
LIMIT_REACHED_CODE = 413
"""HTTP "content too large". Upstream answers it, although no Twirp code maps to it."""

_SEPARATOR = "; "
_LIMITS = frozenset({EndReason.LIMIT, EndReason.MAX_DURATION, EndReason.MAX_SIZE})


def is_terminal(info: EgressInfo) -> bool:
    return info.status in TERMINAL


def is_running(info: EgressInfo) -> bool:
    """Starting or active, and not yet ending."""
    return info.status in (EgressStatus.EGRESS_STARTING, EgressStatus.EGRESS_ACTIVE)


def details_of(*parts: str) -> str:
    """Joins several notices and leaves out empty ones."""
    return _SEPARATOR.join(filter(None, parts))


def is_paused(info: EgressInfo) -> bool:
    return PAUSED in info.details.split(_SEPARATOR)


def composing(info: EgressInfo) -> str:
    """How much of a deferred recording is composed, or that it is queued; "": neither."""
    parts = (part for part in info.details.split(_SEPARATOR) if part.startswith(COMPOSING))
    return next(parts, "").removeprefix(COMPOSING)


def end_reason(info: EgressInfo) -> EndReason | None:
    """Why the egress ended, read from its details; None before its end, and for a reason that is not ours."""
    label, _, said = info.details.split(_SEPARATOR)[0].partition(END_REASON)
    return next((reason for reason in EndReason if not label and reason == said), None)


def http_code(code: str) -> int:
    """EgressInfo.error_code for an errors.Code; 0 for one without a meaning."""
    return 0 if code in ("", Code.UNKNOWN) else Code(code).http_status


def with_request_of(info: EgressInfo, stored: EgressInfo) -> EgressInfo:
    """`info` with the request of the record: workers never change it, but UpdateLayout does."""
    kind = stored.WhichOneof("request")
    if kind is None or getattr(info, kind) == getattr(stored, kind):
        return info
    kept = EgressInfo()
    kept.CopyFrom(info)
    getattr(kept, kind).CopyFrom(getattr(stored, kind))
    return kept


def with_results_of(info: EgressInfo, later: EgressInfo, now_ns: int) -> EgressInfo:
    """An ended record with the later results of its outputs; how it ended does not change."""
    kept = _copy(info, now_ns)
    for name in ("file_results", "segment_results", "image_results"):
        kept.ClearField(name)
        getattr(kept, name).extend(getattr(later, name))
    kept.manifest_location = later.manifest_location or kept.manifest_location
    kept.backup_storage_used = kept.backup_storage_used or later.backup_storage_used
    results.mirror(kept)
    return kept


# --- what happens to it


def apply(info: EgressInfo, event: AnyEvent, now_ns: int) -> EgressInfo:
    """A new message with `event` in it; `info` itself where nothing changes (an ObserverEvent, or after
    the end)."""
    if is_terminal(info) or isinstance(event, ObserverEvent | AwaitingStart):
        return info
    if isinstance(event, StreamAdded) and results.is_sending(info, event):
        return info
    info = _copy(info, now_ns)
    match event:
        case Active():
            if info.status == EgressStatus.EGRESS_STARTING:
                info.status = EgressStatus.EGRESS_ACTIVE
            results.start(info, event.at_ns)
        case Paused():
            info.details = details_of(_without_pause(info.details), PAUSED)
        case Resumed():
            info.details = _without_pause(info.details)
        case Restarted():
            _resume(info, event)
        case Noticed(text):
            info.details = details_of(info.details, text)
        case Composing(percent):
            said = _WAITING if percent is None else f"{percent} %"
            info.details = details_of(_without(COMPOSING, info.details), f"{COMPOSING}{said}")
        case Ending():
            _begin_end(info, event, now_ns)
        case Ended():
            _end(info, event)
        case FileUpdate() | SegmentsUpdate() | ImagesUpdate() | StreamAdded() | StreamUpdate():
            results.apply(info, event)
        case OutputFailed():
            told = info.error.split("\n") if info.error else []
            # A handler that continues the recording repeats it.
            info.error = "\n".join(told if event.error in told else [*told, event.error])
            info.error_code = info.error_code or http_code(event.code)
        case ManifestStored():
            info.manifest_location = info.manifest_location or event.location
        case BackupUsed():
            info.backup_storage_used = True
    results.mirror(info)
    return info


def _resume(info: EgressInfo, event: Restarted) -> None:
    if info.status == EgressStatus.EGRESS_STARTING:
        info.status = EgressStatus.EGRESS_ACTIVE
    others = (part for part in info.details.split(_SEPARATOR) if not part.startswith(_RESUMED))
    times = "" if event.times == 1 else f" {event.times} times"
    info.details = details_of(*others, f"{_RESUMED}{times} ({event.missing_ns / S:.1f} s are missing)")


def ended_by_crash(info: EgressInfo, text: str, now_ns: int) -> EgressInfo:
    """The handler is gone and nobody could finish its work: FAILED with `text`, 500."""
    code, report = Code.INTERNAL.value, EndReport.MISSING
    return apply(info, Ended(now_ns, EndReason.FAILURE, text, code, report=report), now_ns)


def _begin_end(info: EgressInfo, event: Ending, now_ns: int) -> None:
    reason = event.reason
    _set_details(info, reason)
    if info.status != EgressStatus.EGRESS_STARTING:
        info.status = EgressStatus.EGRESS_ENDING
    elif reason in (EndReason.API, EndReason.KILLED):
        _abort(info, _stopped_early(event.phase), now_ns)
    elif reason is EndReason.LIMIT:
        _abort(info, LIMIT_BEFORE_START, now_ns)
    elif reason is EndReason.START_TIMEOUT:
        _abort(info, _before_anything(reason), now_ns)


def _end(info: EgressInfo, event: Ended) -> None:
    starting = info.status == EgressStatus.EGRESS_STARTING
    _set_details(info, event.reason)
    info.details = details_of(_without(COMPOSING, info.details), summary(event.left_out))
    if event.code or event.reason is EndReason.FAILURE:
        if starting and event.phase is Phase.START_SIGNAL and event.code == Code.FAILED_PRECONDITION:
            # A page that does not start is the one failure that clients know as ABORTED.
            _abort(info, event.error, event.at_ns)
            return
        info.error = event.error or info.error or "the recording failed without saying why"
        info.error_code = http_code(event.code)
        if event.report is EndReport.MISSING:
            results.break_streams(info, info.error, event.at_ns)
        _finish(info, EgressStatus.EGRESS_FAILED, event.at_ns)
    elif event.reason in _LIMITS:
        if starting:
            _abort(info, LIMIT_BEFORE_START, event.at_ns)
            return
        info.error, info.error_code = LIMIT_REACHED, LIMIT_REACHED_CODE
        _finish(info, EgressStatus.EGRESS_LIMIT_REACHED, event.at_ns)
    elif starting:
        stopped = event.reason in (EndReason.API, EndReason.KILLED)
        text = _stopped_early(event.phase) if stopped else _before_anything(event.reason)
        _abort(info, event.error or text, event.at_ns)
    else:
        # The error of a single stream stays in its result: this egress did what it was asked.
        info.error, info.error_code = event.error, 0
        _finish(info, EgressStatus.EGRESS_COMPLETE, event.at_ns)


def _before_anything(reason: EndReason) -> str:
    return f"{reason.value} before anything was recorded"


def _stopped_early(phase: Phase | None) -> str:
    return STOPPED_AWAITING_START if phase is Phase.START_SIGNAL else STOPPED_BEFORE_START


def _abort(info: EgressInfo, error: str, at_ns: int) -> None:
    info.error, info.error_code = error, Code.FAILED_PRECONDITION.http_status
    _finish(info, EgressStatus.EGRESS_ABORTED, at_ns)


def _finish(info: EgressInfo, status: EgressStatus, at_ns: int) -> None:
    info.status = status
    info.ended_at = at_ns
    results.finish(info, at_ns)


def _set_details(info: EgressInfo, reason: EndReason) -> None:
    """The first reason stays: a failure while ending does not hide who ended it. Notices follow it."""
    info.details = _without_pause(info.details)
    if not info.details.startswith(END_REASON):
        info.details = details_of(f"{END_REASON}{reason.value}", info.details)


def _without(beginning: str, details: str) -> str:
    return details_of(*(part for part in details.split(_SEPARATOR) if not part.startswith(beginning)))


def _without_pause(details: str) -> str:
    return details_of(*(part for part in details.split(_SEPARATOR) if part != PAUSED))


# --- messages


def _copy(info: EgressInfo, now_ns: int) -> EgressInfo:
    copy = EgressInfo()
    copy.CopyFrom(info)
    copy.updated_at = max(now_ns, info.updated_at + 1)
    return copy
