"""Makes the notices of a requested encoding that has no effect, or another one than requested. Pure."""

from collections.abc import Iterator

from openegress.core.codecs import AudioCodec
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.request.encoding import OPUS_HZ, Wish
from openegress.request.requested import RequestedOutputs
from openegress.request.room_tracks import RecordedMedia

_OF_ENCODED_PICTURES = ("advanced.video_codec", "advanced.video_bitrate", "advanced.key_frame_interval")
"""Fields that have no effect on images, which have only a size and an interval."""


def of(
    wish: Wish,
    wanted: RequestedOutputs,
    has: RecordedMedia,
    audio: AudioEncoding | None,
    video: VideoEncoding | None,
) -> tuple[str, ...]:
    """Returns the notices. `audio` and `video` are None if nothing is encoded."""
    return (
        *wish.notices,
        *_without_effect(wish, wanted, has),
        *_otherwise(wish, audio, video),
    )


def _without_effect(wish: Wish, wanted: RequestedOutputs, has: RecordedMedia) -> Iterator[str]:
    for name in wish.of_picture:
        if not has.video:
            yield f"{name} has no effect: no picture is recorded"
        elif not wanted.is_encoded and name in _OF_ENCODED_PICTURES:
            yield f"{name} has no effect: images are JPEG"
    for name in wish.of_sound:
        if not has.audio:
            yield f"{name} has no effect: no sound is recorded"
        elif not wanted.is_encoded:
            yield f"{name} has no effect: sound goes to a WebSocket as it is"


def _otherwise(wish: Wish, audio: AudioEncoding | None, video: VideoEncoding | None) -> Iterator[str]:
    asked_s = wish.key_frame_interval_s
    if video is not None and asked_s and abs(video.key_frame_interval_s - asked_s) > 1e-6:
        yield (
            f"advanced.key_frame_interval is {video.key_frame_interval_s:g} s and not {asked_s:g} s: each"
            " segment begins with a key frame"
        )
    is_opus = audio is not None and audio.codec is AudioCodec.OPUS
    if is_opus and "advanced.audio_frequency" in wish.of_sound and wish.sample_rate != OPUS_HZ:
        yield f"advanced.audio_frequency has no effect: Opus always has {OPUS_HZ} Hz"
