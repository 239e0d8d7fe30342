"""Reads which audio of a room goes to which channel, for each way in which a request may say so."""

from typing import Any, Literal

from livekit.protocol.egress import AudioChannel, AudioConfig, AudioMixing
from livekit.protocol.models import ParticipantInfo

from openegress.core.errors import missing_or_invalid
from openegress.core.plan import AudioRoute
from openegress.proto.today import today

CHANNELS: dict[int, Literal["both", "left", "right"]] = {
    AudioChannel.AUDIO_CHANNEL_BOTH: "both",
    AudioChannel.AUDIO_CHANNEL_LEFT: "left",
    AudioChannel.AUDIO_CHANNEL_RIGHT: "right",
}
AGENT = "agent"


def of_mixing(mixing: int) -> tuple[AudioRoute, ...]:
    """The routes of a room composite. Raises EgressError for an unknown mixing."""
    match mixing:
        case AudioMixing.DEFAULT_MIXING:
            return (AudioRoute(match="all"),)
        case AudioMixing.DUAL_CHANNEL_AGENT:
            return (
                AudioRoute(match="kind", value=AGENT, channel="left"),
                AudioRoute(match="not_kind", value=AGENT, channel="right"),
            )
        case AudioMixing.DUAL_CHANNEL_ALTERNATE:
            return (AudioRoute(match="alternate"),)
        case _:
            raise missing_or_invalid("audio_mixing")


def of_config(config: AudioConfig) -> tuple[AudioRoute, ...]:
    """The routes of a v2 media source, in protocol v1.54.0's class; empty: no audio. Raises EgressError."""
    routes = tuple(_route(route) for route in today(config).routes)
    if config.capture_all:
        # This route comes last, as it takes what the others leave.
        return (*routes, AudioRoute(match="all"))
    if routes and all(route.exclude for route in routes):
        raise missing_or_invalid("audio routes (nothing is left but what is excluded; set capture_all)")
    return routes


def _route(wire: Any) -> AudioRoute:
    """Converts an AudioRoute of protocol v1.54.0."""
    channel = CHANNELS.get(wire.channel)
    if channel is None:
        raise missing_or_invalid("audio route channel")
    match, value = _match(wire)
    if wire.exclude:
        return AudioRoute(match=match, value=value, track_name=wire.track_name, exclude=True)
    return AudioRoute(match=match, value=value, channel=channel, track_name=wire.track_name)


def without_channel(config: AudioConfig) -> tuple[str, ...]:
    """The notice about a channel for tracks that are not recorded."""
    if any(route.exclude and route.channel for route in today(config).routes):
        return ("the channel of an audio route with exclude has no effect: its tracks are not recorded",)
    return ()


def _match(wire: Any) -> tuple[Literal["any", "track", "participant", "kind"], str]:
    match wire.WhichOneof("match"):
        case "track_id" if wire.track_id:
            return "track", wire.track_id
        case "participant_identity" if wire.participant_identity:
            return "participant", wire.participant_identity
        case "participant_kind":
            return "kind", _kind_name(wire.participant_kind)
        case None if wire.track_name:
            return "any", ""
        case _:
            raise missing_or_invalid("audio route match")


def _kind_name(kind: int) -> str:
    try:
        return str(ParticipantInfo.Kind.Name(kind)).lower()
    except ValueError:
        raise missing_or_invalid("audio route participant_kind") from None
