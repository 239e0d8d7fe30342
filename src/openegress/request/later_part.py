"""Makes the plan of a part of an egress that another worker has begun. Pure."""

import msgspec

from openegress.core.codecs import Container
from openegress.core.end_rules import EndRules
from openegress.core.part import Part
from openegress.core.plan import (
    FileOutput,
    ImageOutput,
    Limits,
    Output,
    Plan,
    SegmentOutput,
    TracksFile,
    TracksSource,
)
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.request import naming

_LEAST_S = 1.0
"""Minimum time limit for a part whose egress reached its limit while no worker recorded."""


def may_have_parts(plan: Plan) -> bool:
    """Whether another worker may continue a recording of this plan. It may not with a stream, which the first
    worker may still be sending, nor with a split file, whose numbers would collide with those of other
    workers."""
    is_of_tracks = isinstance(plan.source, TracksSource)
    return plan.resumes and not is_of_tracks and all(map(_is_one, plan.outputs))


def _is_one(output: Output) -> bool:
    """Whether every worker can store its part as a whole output of its own."""
    match output:
        case TracksFile():
            return False
        case FileOutput():
            return output.container is Container.MP4 and output.split is None
        case SegmentOutput() | ImageOutput():
            return True
        case _:
            return False


def has_place(plan: Plan, own: StoragePlan) -> bool:
    """Whether a worker that stores in `own` can store what it records of this plan."""
    return all(_stored_here(output, own) is not None for output in plan.outputs)


def later_part(plan: Plan, part: Part, started_at_ns: int, now_ns: int, own: StoragePlan) -> Plan | None:
    """The plan of another part of an egress, whose whole plan is `plan` and whose time began at
    `started_at_ns`. This worker stores outputs without a storage of their own in `own`. None: it cannot store
    an output.

    Names end in the number of the part. Limits of time go on counting."""
    outputs = []
    for output in plan.outputs:
        here = _stored_here(output, own)
        if here is None:
            return None
        outputs.append(_named(here, part.mark))
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


def _named(output: Output, mark: str) -> Output:
    match output:
        case FileOutput():
            return msgspec.structs.replace(output, filepath=naming.distinct(output.filepath, mark))
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
    left_s = max(_LEAST_S, limits.duration_s - passed_s) if limits.duration_s else 0.0
    return msgspec.structs.replace(limits, duration_s=left_s)


def _with_time_left(part: Part, rules: EndRules) -> Part:
    if not rules.max_duration_s:
        return part
    most_ns = int(max(0.0, rules.max_duration_s - _LEAST_S) * S)
    return msgspec.structs.replace(part, recorded_ns=min(part.recorded_ns, most_ns))
