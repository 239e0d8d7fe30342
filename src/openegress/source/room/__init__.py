"""Rooms recorded without a browser: which tracks, from when to when, as they are or decoded.

`open_source` joins and decides; the source it gives implements source.PacketSource or source.Source.
"""

from openegress.core import layouts
from openegress.core.errors import invalid
from openegress.core.plan import LayoutSource, MediaSource, Plan, StreamOutput, WebsocketOutput
from openegress.room import VideoQuality
from openegress.room.client import RoomClient
from openegress.source.room.cast import Cast, RequestedTracks
from openegress.source.room.codec import (
    container_for,
    passthrough_possible,
    refuse_unsuitable,
    wants_packets,
)
from openegress.source.room.composite.cast import WholeRoom
from openegress.source.room.composite.rectangles import Size
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
    a track or participant that is not there (NOT_FOUND), or tracks that the outputs cannot take
    (INVALID_ARGUMENT); nothing is left open then.
    """
    source = plan.source
    if not isinstance(source, MediaSource | LayoutSource):
        raise TypeError(f"a plan with {type(source).__name__} records no tracks")
    room = RoomClient(source.ws_url, source.token, plan.egress_id)
    session = RoomSession(room, source.room_name, _cast(plan, source), patience)
    try:
        await session.join()
        refuse_unsuitable(plan, session.selection.tracks)
    except BaseException:
        await session.close()
        raise
    watched = any(isinstance(output, StreamOutput | WebsocketOutput) for output in plan.outputs)
    if isinstance(source, MediaSource) and wants_packets(plan, session.selection.tracks):
        session.take_best()
        return RoomPacketSource(session, watched=watched)
    return RoomFrameSource(
        session,
        plan.video,
        with_audio=plan.audio is not None or plan.video is None,
        live=any(isinstance(output, StreamOutput) for output in plan.outputs),
        watched=watched,
    )


def _cast(plan: Plan, source: MediaSource | LayoutSource) -> Cast:
    video = plan.video
    if isinstance(source, MediaSource):
        needed = video is not None and not plan.passthrough
        quality = VideoQuality(video.width, video.height, video.framerate) if video and needed else None
        return RequestedTracks(source, quality)
    layout = layouts.parse(source.layout)
    if video is None or layout is None:
        raise invalid(layouts.unknown(source.layout) if video else "a layout needs a picture")
    canvas = Size(video.width, video.height)
    return WholeRoom(layout, canvas, video.framerate, source.audio)
