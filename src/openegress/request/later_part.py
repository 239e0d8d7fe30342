"""Makes the plan of a part of an egress that another worker has begun. Pure."""

import msgspec

from openegress.core.codecs import Container
from openegress.core.end_rules import EndRules
from openegress.core.live_streams import NO_STREAMS, LiveStreams
from openegress.core.part import Part
from openegress.core.plan import (
    FileOutput,
    ImageOutput,
    Limits,
    Output,
    Plan,
    SegmentOutput,
    StreamOutput,
    TracksFile,
    TracksSource,
)
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.request import naming
from openegress.request.part_names import part_number

_MIN_S = 1.0
"""Minimum time limit for a part whose egress reached its limit while no worker recorded."""


def has_place(plan: Plan, own: StoragePlan) -> bool:
    """Whether a worker that stores in `own` can store what it records of this plan."""
    return all(_stored_here(output, own) is not None for output in plan.outputs)


def later_part(
    plan: Plan,
    part: Part,
    started_at_ns: int,
    now_ns: int,
    own: StoragePlan,
    streams: LiveStreams = NO_STREAMS,
) -> Plan | None:
    """`plan` is that of the whole egress, of which this is another part. Its time began at `started_at_ns`,
    and `own` is where this worker stores what says nothing else. `streams` are the URLs that it has sent to.
    None: its storage is not here.

    Names end in the number of the part. Limits of time go on counting."""
    outputs = []
    for index, output in enumerate(plan.outputs):
        here = _stored_here(output, own)
        if here is None:
            return None
        if isinstance(here, StreamOutput):
            targets = streams.targets(index, here.targets)
            here = msgspec.structs.replace(here, targets=targets)
        if isinstance(here, FileOutput):
            here = _named_file(here, part.mark, is_of_tracks=isinstance(plan.source, TracksSource))
        outputs.append(_named(here, part.mark))
    part = msgspec.structs.replace(part, streams=streams.told)
    return msgspec.structs.replace(
        plan,
        outputs=tuple(outputs),
        part=_with_time_left(part, plan.end_rules),
        limits=_limits(plan.limits, max(0, now_ns - started_at_ns) / S),
        end_rules=msgspec.structs.replace(plan.end_rules, start_timeout_s=0.0),
    )


def _stored_here(output: Output, own: StoragePlan) -> Output | None:
    """The output as this worker stores it: files on another worker's disk go to this one's disk, if it has
    one for recordings."""
    if not isinstance(output, FileOutput | SegmentOutput | ImageOutput):
        return output
    if not isinstance(output.storage.backend, LocalStorage):
        return output
    if not isinstance(own.backend, LocalStorage):
        return None
    storage = msgspec.structs.replace(output.storage, backend=own.backend)
    return msgspec.structs.replace(output, storage=storage)


def _named_file(output: FileOutput, mark: str, *, is_of_tracks: bool) -> FileOutput:
    """A recording that continues in another file gives numbers to its files, as one that is split does: they
    follow the number of the worker's part, so that no two workers have the same name."""
    path = output.filepath
    if output.split is not None and naming.PART in path:
        return msgspec.structs.replace(output, filepath=path.replace(naming.PART, f"{mark}-{naming.PART}"))
    holds_tracks = is_of_tracks or isinstance(output, TracksFile)
    if output.split is None and (holds_tracks or output.container is not Container.MP4):
        mark = f"{mark}-{part_number(0)}"
    return msgspec.structs.replace(output, filepath=naming.distinct(path, mark))


def _named(output: Output, mark: str) -> Output:
    match output:
        case SegmentOutput():
            live = output.live_playlist
            return msgspec.structs.replace(
                output,
                prefix=naming.distinct(output.prefix, mark),
                playlist=naming.distinct(output.playlist, mark),
                live_playlist=naming.distinct(live, mark) if live else "",
            )
        case ImageOutput():
            return msgspec.structs.replace(output, prefix=naming.distinct(output.prefix, mark))
        case _:
            return output


def _limits(limits: Limits, passed_s: float) -> Limits:
    left_s = max(_MIN_S, limits.duration_s - passed_s) if limits.duration_s else 0.0
    return msgspec.structs.replace(limits, duration_s=left_s)


def _with_time_left(part: Part, rules: EndRules) -> Part:
    if not rules.max_duration_s:
        return part
    most_ns = int(max(0.0, rules.max_duration_s - _MIN_S) * S)
    return msgspec.structs.replace(part, recorded_ns=min(part.recorded_ns, most_ns))
