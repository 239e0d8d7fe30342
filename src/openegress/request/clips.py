"""Makes the plan of a clip from the request and what is known of its egress. Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf.message import Message
from livekit.protocol.egress import (
    AliOSSUpload,
    AzureBlobUpload,
    EgressInfo,
    FileInfo,
    GCPUpload,
    S3Upload,
    SegmentedFileProtocol,
)

from openegress.core.block import Block
from openegress.core.clip_plan import ClipPlan, StoredPart
from openegress.core.codecs import Container
from openegress.core.decode import Decoder
from openegress.core.errors import Code, EgressError, missing_or_invalid, unimplemented
from openegress.core.plan import FileOutput, Plan, SegmentOutput, TracksFile
from openegress.core.render import Render
from openegress.core.restart import Restart, gaps_before_ns
from openegress.core.span import END_SLACK_NS, RequestedSpan, position_ns
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.core.values import Seconds
from openegress.proto.openegress_control_pb2 import ClipRequest
from openegress.request import destinations, naming
from openegress.request.context import Context

MAX_PATH_CHARS = 1000
_UPLOADS = (S3Upload, GCPUpload, AzureBlobUpload, AliOSSUpload)


class _Last(Block, frozen=True, forbid_unknown_fields=True):
    last: Seconds = Seconds(0)


def wish_of(request: ClipRequest) -> RequestedSpan:
    """The requested span. Raises EgressError for a span that no recording could have."""
    begin, end = str(getattr(request, "from")), request.to
    last_ns = round(Decoder().struct({"last": request.last}, _Last, "").last * S) if request.last else None
    wish = RequestedSpan(
        last_ns,
        position_ns(begin, "from") if begin else None,
        position_ns(end, "to") if end else None,
    )
    wish.check()
    if len(request.filepath) > MAX_PATH_CHARS:
        raise missing_or_invalid(f"filepath ({len(request.filepath)} characters)")
    return wish


def of_running(request: ClipRequest, info: EgressInfo, plan: Plan, spool: Path, clip_id: str) -> ClipPlan:
    """The plan for an egress that is recording, whose plan has its storage. Raises EgressError."""
    wish = wish_of(request)
    if plan.render is Render.DEFERRED:
        why = "the egress is composed after it was recorded: ask when it is complete"
        raise EgressError(Code.FAILED_PRECONDITION, why)
    index, output = _clipped(plan)
    # Beside a file of tracks, a recording has one file.
    has_tracks_beside = any(isinstance(each, TracksFile) for each in plan.outputs)
    parts = info.file_results if isinstance(output, FileOutput) and not has_tracks_beside else ()
    recorded = _stored_name(output, info)
    if not recorded:
        raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording yet")
    kind = "file" if isinstance(output, FileOutput) else "segments"
    return ClipPlan(
        clip_id=clip_id,
        recorded=output,
        target=_target(request, recorded, output.storage, plan.name_values),
        last_ns=wish.last_ns,
        begin_ns=wish.begin_ns,
        end_ns=wish.end_ns,
        left_in=str(spool / plan.egress_id / f"{kind}-{index}"),
        stored=tuple(map(_part, parts)),
        playlist=recorded if isinstance(output, SegmentOutput) else "",
        taken=tuple(dict.fromkeys((recorded, *(each.filename for each in parts)))),
    )


def of_ended(request: ClipRequest, info: EgressInfo, context: Context, clip_id: str) -> ClipPlan:
    """The plan for an egress that has ended, from what it stored in the server's own storage. Raises
    EgressError."""
    wish = wish_of(request)
    storage = context.storage
    files = _files_of_recording(info)
    segments = next((each for each in info.segment_results if each.playlist_location), None)
    if not files and segments is None:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            "the egress has stored neither a file nor segments that a clip could be cut from",
        )
    name = files[0].filename if files else segments.playlist_name if segments is not None else ""
    body = info.WhichOneof("request")
    if body is None or _names_storage(getattr(info, body)):
        raise EgressError(
            Code.FAILED_PRECONDITION,
            "the egress was stored with credentials of its own request, which are not kept after its end:"
            " clips of it can be cut while it runs; of files in this service's own storage also later",
        )
    recorded: FileOutput | SegmentOutput
    if files:
        recorded = FileOutput(name, None, storage)
    else:
        extension = Container.FMP4 if _is_fmp4(info) else Container.TS
        recorded = SegmentOutput("", "", name, "", 0, extension, timestamp_suffix=False, storage=storage)
    values = {
        "room_name": info.room_name,
        "room_id": info.room_id,
        **naming.time_values(context.now_ns, context.zone),
    }
    return ClipPlan(
        clip_id=clip_id,
        recorded=recorded,
        target=_target(request, name, storage, values),
        last_ns=wish.last_ns,
        begin_ns=wish.begin_ns,
        end_ns=wish.end_ns,
        stored=tuple(map(_part, files)),
        playlist="" if files else name,
        taken=tuple(each.filename for each in files),
    )


def _files_of_recording(info: EgressInfo) -> list[FileInfo]:
    """The parts of the recording in order, without the file of its room's tracks."""
    files = [each for each in info.file_results if each.location]
    body = info.WhichOneof("request")
    if body is None or not _asks_for_file(getattr(info, body)):
        return []
    # The first part has no number if the file was not to be split.
    are_parts = all(f"{number:05d}" in each.filename for number, each in enumerate(files[1:], 2))
    return files if are_parts else files[:1]


def _asks_for_file(request: Message) -> bool:
    if any(field.name in ("file_outputs", "file") for field, _ in request.ListFields()):
        return True
    return any(output.HasField("file") for output in getattr(request, "outputs", ()))


def is_within_reach(info: EgressInfo, context: Context) -> bool:
    """Whether this machine can read what an ended egress has stored: a local file exists only on one
    machine."""
    if not isinstance(context.storage.backend, LocalStorage):
        return True
    names = [each.location for each in info.file_results if each.location]
    names += [each.playlist_location for each in info.segment_results if each.playlist_location]
    return not names or any(Path(each).is_file() for each in names)


def started_at_ns(info: EgressInfo, at_ns: int, restarts: tuple[Restart, ...] = ()) -> int:
    """The unix time of media time zero for a position at `at_ns`; 0: unknown. `restarts` of a running
    recording are time that is left out within a file; a part states itself when it began."""
    begin_ns = 0
    files = _files_of_recording(info) or info.file_results[:1]
    for each in files:
        if at_ns < begin_ns + each.duration or each is files[-1]:
            within = tuple(one for one in restarts if one.at_ns > begin_ns + END_SLACK_NS)
            zero_ns = max(0, each.started_at - begin_ns)
            return zero_ns and zero_ns + gaps_before_ns(within, at_ns)
        begin_ns += each.duration
    zero_ns = info.segment_results[0].started_at if info.segment_results else 0
    return zero_ns and zero_ns + gaps_before_ns(restarts, at_ns)


def _clipped(plan: Plan) -> tuple[int, FileOutput | SegmentOutput]:
    stored = [
        (n, o)
        for n, o in enumerate(plan.outputs)
        if isinstance(o, FileOutput | SegmentOutput) and not isinstance(o, TracksFile)
    ]
    if not stored:
        raise unimplemented("a clip of an egress without a file and without segments")
    return stored[0]


def _stored_name(output: FileOutput | SegmentOutput, info: EgressInfo) -> str:
    if isinstance(output, FileOutput):
        return next((each.filename for each in info.file_results if each.filename), "")
    return next((each.playlist_name for each in info.segment_results if each.playlist_name), "")


def _target(
    request: ClipRequest, recorded: str, storage: StoragePlan, values: Mapping[str, str]
) -> FileOutput:
    """The file of the clip. Raises EgressError if its path leaves the storage."""
    directory, name = naming.split(recorded)
    stem = f"{_stem(name)}-clip-{{from}}-{{to}}"
    if not request.filepath:
        template = directory + stem
    else:
        template = naming.name(request.filepath, values)
        if not template or template.endswith("/"):
            template += stem
    path = destinations.path_in(storage, template, "filepath")
    return FileOutput(path, None, storage, manifest=False)


def _stem(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def _part(file: FileInfo) -> StoredPart:
    """A stored part. Its size is 0 while it is not stored yet and may still grow."""
    return StoredPart(file.filename, file.duration, file.size if file.location else 0)


def _names_storage(message: Message) -> bool:
    """Whether any part of a request names a storage, and so its credentials."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in (value,) if isinstance(value, Message) else value:
            if isinstance(part, _UPLOADS) or _names_storage(part):
                return True
    return False


def _is_fmp4(info: EgressInfo) -> bool:
    body = info.WhichOneof("request")
    asked = getattr(info, body) if body else None
    found: Sequence[object] = getattr(asked, "segment_outputs", ()) or ()
    protocols = [getattr(each, "protocol", 0) for each in found]
    for output in getattr(asked, "outputs", ()) or ():
        if output.HasField("segments"):
            protocols.append(output.segments.protocol)
    return SegmentedFileProtocol.HLS_FMP4_PROTOCOL in protocols
