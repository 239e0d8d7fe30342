"""Finds the codecs of a room's tracks, and decides whether a recording may store them unchanged. Pure."""

from collections.abc import Sequence

from openegress.core.codecs import (
    CONTAINER_AUDIO,
    CONTAINER_VIDEO,
    MIME_CODECS,
    TRACK_CONTAINER,
    AudioCodec,
    Container,
    MediaKind,
    VideoCodec,
)
from openegress.core.errors import invalid
from openegress.core.passthrough import Passthrough
from openegress.core.plan import FileOutput, Plan, SegmentOutput, WebsocketOutput
from openegress.room import Track

Codec = AudioCodec | VideoCodec


def codec_of(track: Track) -> Codec | None:
    """The announced codec; None if the room does not say (an audio track may be announced without one)."""
    codec = MIME_CODECS.get(track.mime_type.lower())
    if codec is None and track.kind is MediaKind.AUDIO:
        return AudioCodec.OPUS  # every LiveKit client's default, and long the only one
    return codec


def takes(container: Container | None, codecs: Sequence[Codec]) -> bool:
    """Whether the container supports the codecs. None: whether any container does."""
    if container is None:
        return container_for(codecs) is not None
    return all(codec in CONTAINER_AUDIO[container] or codec in CONTAINER_VIDEO[container] for codec in codecs)


def container_for(codecs: Sequence[Codec]) -> Container | None:
    """The container that holds these together without transcoding; None if there is none."""
    if len(codecs) == 1:
        return TRACK_CONTAINER.get(codecs[0])
    for container in (Container.MP4, Container.WEBM, Container.OGG):
        if takes(container, codecs):
            return container
    return None


IN_BAND = frozenset({VideoCodec.VP8, VideoCodec.VP9})
"""Codecs whose tracks need only the picture's size to begin in a container."""


def passthrough_possible(plan: Plan, tracks: Sequence[Track]) -> bool:
    """Whether all outputs of the plan can take `tracks` (the selection) unchanged. That requires one
    track of each wanted kind, with codecs that all containers support. Outputs that need decoded pictures or
    sound (images, streams that must be AAC, websockets with PCM) rule it out."""
    codecs = [codec_of(track) for track in tracks]
    kinds = [track.kind for track in tracks]
    if not tracks or None in codecs or len(set(kinds)) != len(kinds):
        return False
    if plan.video is not None and MediaKind.VIDEO not in kinds:
        return False
    if plan.audio is not None and MediaKind.AUDIO not in kinds:
        return False
    known = [codec for codec in codecs if codec is not None]
    return bool(plan.outputs) and all(
        isinstance(output, FileOutput | SegmentOutput) and takes(output.container, known)
        for output in plan.outputs
    )


def refuse_unsuitable(plan: Plan, tracks: Sequence[Track]) -> None:
    """Raises EgressError (INVALID_ARGUMENT) if an output does not support what the room turned out to
    have."""
    only_sound = all(isinstance(output, WebsocketOutput) for output in plan.outputs)
    for track in tracks:
        if only_sound and track.kind is MediaKind.VIDEO:
            raise invalid(f"track {track.sid} is video; websocket_url takes audio tracks only")


def wants_packets(plan: Plan, tracks: Sequence[Track]) -> bool:
    """Whether a plan uses encoded frames, now that its tracks are known."""
    if any(isinstance(output, WebsocketOutput) for output in plan.outputs):
        return False
    if any(codec_of(track) in (AudioCodec.PCMU, AudioCodec.PCMA) for track in tracks):
        return False  # FFmpeg's Ogg does not support PCM
    match plan.passthrough:
        case Passthrough.ALWAYS:
            return True
        case Passthrough.NEVER:
            return False
        case Passthrough.IF_POSSIBLE:
            return not _sound_would_wait(plan, tracks) and passthrough_possible(plan, tracks)


def _sound_would_wait(plan: Plan, tracks: Sequence[Track]) -> bool:
    """Whether sound would wait for a muted picture whose format only its first key frame shows. The file
    might never start then, so the recording is encoded instead."""
    video = next((track for track in tracks if track.kind is MediaKind.VIDEO and track.muted), None)
    is_heard = any(track.kind is MediaKind.AUDIO for track in tracks)
    if video is None or not is_heard or plan.video is None:
        return False
    return codec_of(video) not in IN_BAND
