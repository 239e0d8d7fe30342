"""Media that a recording lacks although it was sent, or was due. Pure."""

import msgspec

from openegress.core.text import shown

MAX_NAMED_TRACKS = 20
"""Tracks that `details` names; the manifest lists all of them."""
MAX_CHARS = 64
"""Characters of an identity in `details`."""


class TrackLosses(msgspec.Struct, frozen=True):
    """The losses of one track, named by its most recent SID."""

    track: str
    identity: str
    lost_packets: int = 0
    """Packets of sound or pictures that never arrived, although they were requested again."""
    unusable_pictures: int = 0
    """Pictures that arrived incomplete, or without the pictures that they refer to."""
    left_out_ms: int = 0
    """How long the track was left out because it cost the recording more than a track may."""
    left_out_why: str = ""
    """The most recent reason."""

    @property
    def any(self) -> bool:
        return bool(self.lost_packets or self.unusable_pictures or self.left_out_ms)


class QuickerEncoding(msgspec.Struct, frozen=True):
    """Pictures that were encoded faster than planned, as the machine lacked the time."""

    speed: str
    ms: int
    """How much of the timeline was encoded at that speed."""


class LeftOut(msgspec.Struct, frozen=True):
    """The losses of one egress. Media that never reached the server is unknown and does not count."""

    tracks: tuple[TrackLosses, ...] = ()
    pictures: int = 0
    """Pictures of the recording, not of a track, that the machine had no time to encode."""
    quicker: tuple[QuickerEncoding, ...] = ()
    """Only with encoder_speed auto."""

    @property
    def any(self) -> bool:
        return bool(self.pictures or self.quicker) or any(track.any for track in self.tracks)


def summary(left_out: LeftOut) -> str:
    """A sentence for EgressInfo.details; "" when nothing is missing."""
    spans = [f"{each.ms / 1000:.0f} s with {each.speed}" for each in left_out.quicker]
    quicker = f"encoded quicker for want of time: {', '.join(spans)}" if spans else ""
    return "; ".join(filter(None, (_losses(left_out), quicker)))


def _losses(left_out: LeftOut) -> str:
    tracks = [track for track in left_out.tracks if track.any]
    parts = [_of_track(track) for track in tracks[:MAX_NAMED_TRACKS]]
    if len(tracks) > MAX_NAMED_TRACKS:
        parts.append(f"and of {_count(len(tracks) - MAX_NAMED_TRACKS, 'more track')}")
    if left_out.pictures:
        parts.append(f"{_count(left_out.pictures, 'picture')} for want of time to encode them")
    return f"left out: {', '.join(parts)}" if parts else ""


def _of_track(track: TrackLosses) -> str:
    counts = ((track.lost_packets, "lost packet"), (track.unusable_pictures, "unusable picture"))
    losses = [_count(count, noun) for count, noun in counts if count]
    if track.left_out_ms:
        losses.append(f"{track.left_out_ms / 1000:.0f} s")
    because = f": {track.left_out_why}" if track.left_out_ms else ""
    return f"{' and '.join(losses)} of {track.track} ({shown(track.identity, MAX_CHARS)}{because})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
