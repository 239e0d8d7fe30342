"""The record of an egress with several parts, each from another worker. Pure."""

import math
from collections.abc import MutableSequence
from typing import Any

from livekit.protocol.egress import EgressInfo, FileInfo, ImagesInfo, SegmentsInfo

from openegress.core.results import mirror
from openegress.core.units import S

_TOLD_AFTER_NS = round(5.5 * S)
"""A worker that is not heard of any more reports results for at most 4 s, and the next one begins after 7 s.
Their clocks may differ by as much as this is from both."""
_RESULTS = ("file_results", "segment_results", "image_results")
_Result = FileInfo | SegmentsInfo | ImagesInfo


def split(info: EgressInfo, lost_at_ns: int) -> tuple[EgressInfo, EgressInfo]:
    """Splits a record of all parts into (what earlier parts have, the record of the last one alone). The last
    one began when nothing had been heard of the others since `lost_at_ns`."""
    earlier, last = EgressInfo(), EgressInfo()
    last.CopyFrom(info)
    for name in _RESULTS:
        last.ClearField(name)
        for result in getattr(info, name):
            getattr(last if _is_of_last(result, lost_at_ns) else earlier, name).append(result)
    return earlier, last


def extended(info: EgressInfo, own: EgressInfo, lost_at_ns: int) -> EgressInfo:
    """The record of an egress whose next part has the results of `own`, and whose last one ended at
    `lost_at_ns`, as far as anybody knows. A part that recorded nothing has no results."""
    kept = EgressInfo()
    kept.CopyFrom(info)
    for name in _RESULTS:
        kept.ClearField(name)
        getattr(kept, name).extend(each for each in getattr(info, name) if each.started_at)
        for result in getattr(kept, name):
            result.ended_at = result.ended_at or max(result.started_at, lost_at_ns)
            if not isinstance(result, ImagesInfo) and not result.duration:
                result.duration = max(0, result.ended_at - result.started_at)
        getattr(kept, name).extend(getattr(own, name))
    mirror(kept)
    return kept


def has_part(info: EgressInfo, lost_at_ns: int) -> bool:
    """Whether a record that was reported a while ago has the results of the part that extended() adds."""
    return any(_is_of_last(each, lost_at_ns) for name in _RESULTS for each in getattr(info, name))


def _is_of_last(result: _Result, lost_at_ns: int) -> bool:
    return not result.started_at or result.started_at > lost_at_ns + _TOLD_AFTER_NS


def started_at_ns(info: EgressInfo) -> int:
    """Unix ns of the first picture or sound."""
    starts = [each.started_at for name in _RESULTS for each in getattr(info, name) if each.started_at]
    return min(starts, default=info.started_at)


def joined(earlier: EgressInfo, last: EgressInfo) -> EgressInfo:
    """The record of all parts: what split() took apart."""
    if not any(getattr(earlier, name) for name in _RESULTS):
        return last
    info = EgressInfo()
    info.CopyFrom(last)
    for name in _RESULTS:
        info.ClearField(name)
        getattr(info, name).extend([*getattr(earlier, name), *getattr(last, name)])
    mirror(info)
    return info


def with_part(info: EgressInfo, part: EgressInfo) -> EgressInfo:
    """`info` with the final state of an earlier part, which its worker reports late. Idempotent."""
    kept = EgressInfo()
    kept.CopyFrom(info)
    for name in _RESULTS:
        known: MutableSequence[Any] = getattr(kept, name)
        for result in getattr(part, name):
            place = next((n for n, each in enumerate(known) if _name(each) == _name(result)), None)
            if not result.started_at:
                continue  # nothing was recorded of it
            if place is None:
                known.append(result)
            elif not _location(known[place]):
                known[place].CopyFrom(result)
        in_order = sorted(known, key=lambda each: each.started_at or math.inf)
        kept.ClearField(name)
        getattr(kept, name).extend(in_order)
    kept.manifest_location = kept.manifest_location or part.manifest_location
    kept.backup_storage_used = kept.backup_storage_used or part.backup_storage_used
    mirror(kept)
    return kept


def _name(result: _Result) -> str:
    match result:
        case FileInfo():
            return result.filename
        case SegmentsInfo():
            return result.playlist_name
        case ImagesInfo():
            return result.filename_prefix


def _location(result: _Result) -> str:
    """Where the result is stored; images have no location."""
    match result:
        case FileInfo():
            return result.location
        case SegmentsInfo():
            return result.playlist_location
        case ImagesInfo():
            return ""
