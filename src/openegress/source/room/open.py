"""Opens the source for a plan that records a room: joins the room, and decides whether to store its tracks
unchanged."""

from openegress.core.codecs import MediaKind
from openegress.core.errors import invalid
from openegress.core.passthrough import Passthrough
from openegress.core.plan import (
    LayoutSource,
    MediaSource,
    Plan,
    Source,
    StreamOutput,
    TracksFile,
    TracksSource,
    WebsocketOutput,
)
from openegress.core.room_keys import NO_KEYS, KeySupply
from openegress.core.sidecars import DATA_CHANNEL_SIDECARS, Sidecar
from openegress.media.overlays import Overlays
from openegress.request import layouts
from openegress.room import VideoQuality
from openegress.room.client import RoomClient
from openegress.room.connection import SessionOptions
from openegress.source.room.attendance import Attendance
from openegress.source.room.awaited import WaitLimits
from openegress.source.room.codec import refuse_unsuitable, wants_packets
from openegress.source.room.composite.layout_policy import LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.every_track import ChosenTracks, EveryTrack, WithEveryTrack
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.observed_room import ObservedRoom
from openegress.source.room.passthrough_source import RoomPacketSource
from openegress.source.room.recorded_people import RecordedPeople
from openegress.source.room.track_follower import TrackFollower
from openegress.source.room.track_policy import RequestedTracks, TrackPolicy
from openegress.source.room.tracks_source import RoomTracksSource

_OF_EVERYBODY = frozenset({"all", "kind", "not_kind", "alternate"})
"""Routes of sound that are not of one track or participant."""


async def open_source(
    plan: Plan,
    patience: WaitLimits | None = None,
    memory_bytes: int = 0,
    room_keys: KeySupply = NO_KEYS,
) -> RoomPacketSource | RoomTracksSource | RoomFrameSource:
    """Joins the room, waits for what the request names, and decides whether to pass it through. This process
    sheds media once it uses `memory_bytes` (0: never).

    Close the result with stop(), prepared or not. Raises EgressError with its phase: the connection, a
    missing track or participant (NOT_FOUND), or tracks that the outputs do not support (INVALID_ARGUMENT).
    Nothing stays open then.
    """
    source = plan.source
    if not isinstance(source, MediaSource | LayoutSource | TracksSource):
        raise TypeError(f"a plan with {type(source).__name__} records no tracks")
    into_file = source.data if isinstance(source, TracksSource) else ()
    data = not DATA_CHANNEL_SIDECARS.isdisjoint(plan.sidecars) or bool(into_file)
    data_tracks = Sidecar.DATA in plan.sidecars or bool(into_file)
    options = SessionOptions(insecure=source.insecure, data=data, data_tracks=data_tracks)
    room = RoomClient(source.ws_url, source.token, plan.egress_id, keys=room_keys, options=options)
    follower = TrackFollower(
        room,
        source.room_name,
        _policy(plan, source),
        patience,
        memory_bytes,
        has_layout=isinstance(source, LayoutSource),
    )
    if is_observed(plan):
        follower.observe(ObservedRoom(plan.recorded))
    try:
        await follower.join()
        refuse_unsuitable(plan, follower.selection.tracks)
    except BaseException:
        await follower.close()
        raise
    if isinstance(source, TracksSource):
        follower.take_best()
        return RoomTracksSource(follower, source.data)
    watched = any(isinstance(output, StreamOutput | WebsocketOutput) for output in plan.outputs)
    if isinstance(source, MediaSource) and wants_packets(plan, follower.selection.tracks):
        follower.take_best()
        return RoomPacketSource(follower, watched=watched)
    return RoomFrameSource(
        follower,
        plan.video,
        with_audio=plan.audio is not None or plan.video is None,
        watched=watched,
        overlays=_overlays(plan),
    )


def is_observed(plan: Plan) -> bool:
    """Whether all events of the room are needed: by sidecars, by a file with data, or by a handler that
    continues the recording and must know the requested layout."""
    source = plan.source
    into_file = isinstance(source, TracksSource) and bool(source.data)
    return bool(plan.sidecars) or into_file or (plan.resumes and isinstance(source, LayoutSource))


def is_whole_room(source: Source) -> bool:
    """Whether the source is everybody in a room, so that no single track can name its files."""
    if not isinstance(source, MediaSource):
        return isinstance(source, LayoutSource)
    takes_all = any(not route.exclude and route.match in _OF_EVERYBODY for route in source.audio)
    return takes_all and source.video is None


def kept_kinds(plan: Plan) -> frozenset[MediaKind]:
    """The kinds of tracks that are kept as they come, beside the composed picture."""
    if _keeps_tracks(plan):
        return frozenset(MediaKind)
    return frozenset({MediaKind.AUDIO}) if plan.stems is not None else frozenset()


def _keeps_tracks(plan: Plan) -> bool:
    return any(isinstance(output, TracksFile) for output in plan.outputs)


def _overlays(plan: Plan) -> Overlays | None:
    """The overlays; None without a picture. They are made even if nothing lies over it yet, because that may
    change."""
    if plan.video is None:
        return None
    return Overlays(plan.video.width, plan.video.height, plan.looks, plan.pictures)


def _policy(plan: Plan, source: MediaSource | LayoutSource | TracksSource) -> TrackPolicy:
    policy = RecordedPeople(_selecting(plan, source), plan.recorded)
    # Needed even if nothing of the kind is requested yet: it may be while the recording runs.
    return Attendance(policy, plan.end_rules, is_of_room=not isinstance(source, MediaSource))


def _selecting(plan: Plan, source: MediaSource | LayoutSource | TracksSource) -> TrackPolicy:
    if isinstance(source, TracksSource):
        return EveryTrack(source) if source.chosen is None else ChosenTracks(source.chosen)
    video = plan.video
    if isinstance(source, MediaSource):
        needed = video is not None and plan.passthrough is not Passthrough.ALWAYS
        quality = VideoQuality(video.width, video.height, video.framerate) if video and needed else None
        return RequestedTracks(source, quality)
    if video is None:
        raise invalid("a layout needs a picture")
    canvas = Size(video.width, video.height)
    composed = LayoutPolicy(
        layouts.parse(source.layout, source.specs),
        canvas,
        video.framerate,
        source.audio,
        looks=plan.looks,
        pictures=plan.pictures,
        specs=source.specs,
    )
    return WithEveryTrack(composed) if _keeps_tracks(plan) else composed
