"""Reads which pictures and data of a room a v2 media source of protocol v1.54.0 selects."""

from typing import Any, Literal

from livekit.protocol.egress import MediaSource

from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.core.routes import DataRoute, VideoRoute
from openegress.proto.today import today


def videos_of(media: MediaSource) -> tuple[VideoRoute, ...]:
    """The routes in its `videos`; empty: it has none. Raises EgressError."""
    newest = today(media)
    if newest.WhichOneof("video") != "videos":
        return ()
    routes = tuple(_video_route(each) for each in newest.videos.selectors)
    if newest.videos.capture_all:
        return (*routes, VideoRoute(match="all"))
    if all(route.exclude for route in routes):
        raise missing_or_invalid("videos (nothing is selected; set capture_all, or a selector)")
    return routes


def data_of(media: MediaSource) -> tuple[DataRoute, ...]:
    """The routes in its `data`; empty: it has none. Upstream's routes are for data tracks; here they are for
    packets of data channels, whose topic is the name. Raises EgressError."""
    newest = today(media)
    if not newest.HasField("data"):
        return ()
    routes = tuple(_data_route(each) for each in newest.data.selectors)
    if newest.data.capture_all:
        return (*routes, DataRoute())
    if all(route.exclude for route in routes):
        raise missing_or_invalid("data (nothing is selected; set capture_all, or a selector)")
    return routes


def _video_route(wire: Any) -> VideoRoute:
    match, value = _match(wire)
    return VideoRoute(match=match, value=value, track_name=wire.track_name, exclude=wire.exclude)


def _match(wire: Any) -> tuple[Literal["any", "track", "participant"], str]:
    match wire.WhichOneof("match"):
        case "track_id" if wire.track_id:
            return "track", wire.track_id
        case "participant_identity" if wire.participant_identity:
            return "participant", wire.participant_identity
        case None if wire.track_name:
            return "any", ""
        case _:
            raise missing_or_invalid("videos selector match")


def _data_route(wire: Any) -> DataRoute:
    match wire.WhichOneof("match"):
        case "track_id":
            raise unimplemented("media.data by track_id (participant_identity and track_name are)")
        case "participant_identity" if not wire.participant_identity:
            raise missing_or_invalid("data selector match")
        case None if not wire.track_name:
            raise missing_or_invalid("data selector match")
    return DataRoute(identity=wire.participant_identity, topic=wire.track_name, exclude=wire.exclude)
