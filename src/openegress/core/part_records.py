"""The record of an egress with several parts, each from another worker. Pure."""

from collections.abc import MutableSequence
from typing import Any

from livekit.protocol.egress import EgressInfo, FileInfo, ImagesInfo, SegmentsInfo

from openegress.core.info import mirror

_RESULTS = ("file_results", "segment_results", "image_results")
_Result = FileInfo | SegmentsInfo | ImagesInfo


def split(info: EgressInfo, own: EgressInfo) -> tuple[EgressInfo, EgressInfo]:
    """Splits a record of all parts into (what earlier parts have, the record of the last one alone). `own`
    has a result for each output of a part."""
    earlier, last = EgressInfo(), EgressInfo()
    last.CopyFrom(info)
    for name in _RESULTS:
        results, count = list(getattr(info, name)), len(getattr(own, name))
        at = max(0, len(results) - count)
        getattr(earlier, name).extend(results[:at])
        last.ClearField(name)
        getattr(last, name).extend(results[at:])
    return earlier, last


def extended(info: EgressInfo, own: EgressInfo, lost_at_ns: int) -> EgressInfo:
    """The record of an egress whose next part has the results of `own`, and whose previous part ended at
    `lost_at_ns`, as far as anybody knows."""
    kept = EgressInfo()
    kept.CopyFrom(info)
    for name in _RESULTS:
        for result in getattr(kept, name):
            if result.started_at and not result.ended_at:
                result.ended_at = max(result.started_at, lost_at_ns)
            if not isinstance(result, ImagesInfo) and not result.duration:
                result.duration = max(0, result.ended_at - result.started_at)
        getattr(kept, name).extend(getattr(own, name))
    mirror(kept)
    return kept


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
            if place is None:
                known.append(result)
            elif not _location(known[place]):
                known[place].CopyFrom(result)
        in_order = sorted(known, key=lambda each: each.started_at or info.updated_at)
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
