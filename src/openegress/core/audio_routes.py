"""Which audio of a room goes to which channel, from the ways a request may say it."""

from typing import Literal

from livekit.protocol.egress import AudioChannel, AudioConfig, AudioMixing
from livekit.protocol.egress import AudioRoute as WireRoute
from livekit.protocol.models import ParticipantInfo

from openegress.core.errors import missing_or_invalid
from openegress.core.plan import AudioRoute

CHANNELS: dict[int, Literal["both", "left", "right"]] = {
    AudioChannel.AUDIO_CHANNEL_BOTH: "both",
    AudioChannel.AUDIO_CHANNEL_LEFT: "left",
    AudioChannel.AUDIO_CHANNEL_RIGHT: "right",
}
AGENT = "agent"


def of_mixing(mixing: int) -> tuple[AudioRoute, ...]:
    """Of a room composite. Raises EgressError for a mixing that does not exist."""
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
    """Of a v2 media source; empty: no audio. Raises EgressError."""
    if config.capture_all:
        return (AudioRoute(match="all"),)
    return tuple(_route(route) for route in config.routes)


def _route(wire: WireRoute) -> AudioRoute:
    channel = CHANNELS.get(wire.channel)
    if channel is None:
        raise missing_or_invalid("audio route channel")
    match wire.WhichOneof("match"):
        case "track_id" if wire.track_id:
            return AudioRoute(match="track", value=wire.track_id, channel=channel)
        case "participant_identity" if wire.participant_identity:
            return AudioRoute(match="participant", value=wire.participant_identity, channel=channel)
        case "participant_kind":
            kind = _kind_name(wire.participant_kind)
            return AudioRoute(match="kind", value=kind, channel=channel)
        case _:
            raise missing_or_invalid("audio route match")


def _kind_name(kind: int) -> str:
    try:
        return ParticipantInfo.Kind.Name(kind).lower()
    except ValueError:
        raise missing_or_invalid("audio route participant_kind") from None
