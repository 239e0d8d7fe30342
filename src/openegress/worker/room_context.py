"""Makes the context of a request: what the server adds to it, including the metadata of its room."""

from dataclasses import replace

import structlog

from openegress.core.errors import EgressError
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.context import Context
from openegress.request.request_kind import room_of
from openegress.worker.config import WorkerConfig

_log = structlog.get_logger(__name__)

UNREAD = "the room's metadata could not be read: its options, if any, are ignored"


async def context_of(request: StartEgressRequest, config: WorkerConfig) -> tuple[Context, tuple[str, ...]]:
    """Returns the context, and notices for the caller. If the server cannot be asked for a room, it is
    recorded without the room's options: the recorder's own join will report what is wrong with the server."""
    context = config.context()
    room_name = room_of(request)
    if not room_name:
        return context, ()
    try:
        metadata = await config.room_metadata(room_name)
    except EgressError as error:
        _log.warning(UNREAD, egress_id=request.egress_id, error=error.text)
        return context, (UNREAD,)
    return replace(context, room_metadata=metadata), ()
