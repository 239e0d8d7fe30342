"""Makes the EgressInfo that an egress begins with: its redacted request, and a result for each output."""

from livekit.protocol.egress import EgressInfo, EgressSourceType, EgressStatus, StreamInfo

from openegress.core.info import details_of
from openegress.core.plan import (
    FileOutput,
    ImageOutput,
    MediaSource,
    Plan,
    SegmentOutput,
    StreamOutput,
    TracksSource,
    WebsocketOutput,
)
from openegress.core.results import mirror
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.proto.today import known
from openegress.request.redact import redacted


def initial(request: StartEgressRequest, plan: Plan, now_ns: int) -> EgressInfo:
    """The record in state STARTING, with the redacted request and a result for every output of the plan."""
    info = EgressInfo(
        egress_id=plan.egress_id,
        room_id=plan.room_id,
        room_name=plan.room_name,
        source_type=(
            EgressSourceType.EGRESS_SOURCE_TYPE_SDK
            if isinstance(plan.source, MediaSource | TracksSource)
            else EgressSourceType.EGRESS_SOURCE_TYPE_WEB
        ),
        status=EgressStatus.EGRESS_STARTING,
        started_at=now_ns,
        updated_at=now_ns,
        retry_count=request.retry_count,
        details=details_of(*plan.notices),
    )
    body = request.WhichOneof("request")
    if body is not None:
        getattr(info, body).CopyFrom(redacted(known(getattr(request, body))))
    for output in plan.outputs:
        match output:
            case FileOutput():
                info.file_results.add(filename=output.filepath)
            case SegmentOutput():
                live = output.directory + output.live_playlist if output.live_playlist else ""
                info.segment_results.add(
                    playlist_name=output.directory + output.playlist, live_playlist_name=live
                )
            case ImageOutput():
                info.image_results.add(filename_prefix=output.directory + output.prefix)
            case StreamOutput():
                info.stream_results.extend(
                    StreamInfo(url=target.redacted, id=target.id) for target in output.targets
                )
            case WebsocketOutput():
                info.stream_results.add(url=output.redacted, id=output.id)
    kinds = {type(output) for output in plan.outputs}
    if kinds == {FileOutput}:
        info.file.SetInParent()
    elif kinds == {SegmentOutput}:
        info.segments.SetInParent()
    elif kinds in ({StreamOutput}, {WebsocketOutput}):
        info.stream.SetInParent()
    mirror(info)
    return info
