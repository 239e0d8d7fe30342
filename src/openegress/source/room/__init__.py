"""Rooms recorded without a browser: which tracks, from when to when, as they are or decoded.

`open_source` joins and decides; the source it gives implements source.PacketSource or source.Source.
"""

from openegress.core.plan import MediaSource, Plan, StreamOutput
from openegress.room import VideoQuality
from openegress.room.client import RoomClient
from openegress.source.room.codec import container_for, passthrough_possible, wants_packets
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.passthrough_source import RoomPacketSource
from openegress.source.room.session import Patience, RoomSession

__all__ = [
    "Patience",
    "RoomFrameSource",
    "RoomPacketSource",
    "container_for",
    "open_source",
    "passthrough_possible",
]


async def open_source(plan: Plan, patience: Patience | None = None) -> RoomPacketSource | RoomFrameSource:
    """Joins the room, waits for what the request names, and decides whether it may go as it is.

    Close what comes back with stop(), prepared or not. Raises EgressError naming its phase: the connection,
    or a track or participant that is not there (NOT_FOUND); nothing is left open then.
    """
    source = plan.source
    if not isinstance(source, MediaSource):
        raise TypeError(f"a plan with {type(source).__name__} records no tracks")
    quality = None
    if plan.video is not None and not plan.passthrough:
        quality = VideoQuality(plan.video.width, plan.video.height, plan.video.framerate)
    room = RoomClient(source.ws_url, source.token, plan.egress_id)
    session = RoomSession(room, source, quality, patience)
    try:
        await session.join()
    except BaseException:
        await session.close()
        raise
    if wants_packets(plan, session.selection.tracks):
        session.want_quality(None)
        return RoomPacketSource(session)
    return RoomFrameSource(
        session,
        plan.video,
        with_audio=plan.audio is not None or plan.video is None,
        live=any(isinstance(output, StreamOutput) for output in plan.outputs),
    )
