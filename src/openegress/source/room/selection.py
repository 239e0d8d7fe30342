"""Selects the tracks of a room that an egress records, as tracks come and go. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from openegress.core.codecs import MediaKind
from openegress.core.plan import AudioRoute, MediaSource, ParticipantVideo, TrackVideo
from openegress.core.routes import VideoRoute
from openegress.media.mixer import Channel
from openegress.room import Participant, Track, TrackKey, TrackSource, VideoQuality
from openegress.source.room.scene import NO_PICTURE, Scene, Tile, whole


@dataclass(frozen=True, slots=True)
class Routed:
    """An audio track, and the side it is heard on."""

    track: Track
    channel: Channel


@dataclass(frozen=True, slots=True)
class Selection:
    scene: Scene = NO_PICTURE
    audio: tuple[Routed, ...] = ()
    qualities: Mapping[str, VideoQuality] = field(default_factory=dict)
    """The needed quality of videos, by SID; without an entry, the best available."""
    sides: Mapping[TrackKey, Channel] = field(default_factory=dict)
    """The sides of alternating tracks, in order of appearance; a track that returns finds its side."""
    named: Mapping[str, TrackKey] = field(default_factory=dict)
    """The tracks that the request's track ids turned out to mean."""
    beside: tuple[Track, ...] = ()
    """Tracks that are received too, but neither shown nor heard."""

    @property
    def tracks(self) -> tuple[Track, ...]:
        return (*self.scene.tracks, *(routed.track for routed in self.audio), *self.beside)


NOTHING = Selection()


def select(
    source: MediaSource,
    tracks: Sequence[Track],
    before: Selection = NOTHING,
    *,
    rejoined: bool = False,
    quality: VideoQuality | None = None,
) -> Selection:
    """The selection among `tracks` (in order of publishing), given the previous one. `rejoined`: the
    connection was lost meanwhile, so a track named by an id may have another one. `quality`: needed for a
    picture; None takes the best."""
    named = dict(before.named)
    by_sid = {track.sid: track for track in tracks}
    ids = (*track_ids(source), *excluded_ids(source))
    for track_id in ids:
        if track_id in by_sid:
            named[track_id] = by_sid[track_id].key
    by_id = {track_id: by_sid[track_id] for track_id in ids if track_id in by_sid}
    if rejoined:
        by_key = {track.key: track for track in tracks}
        for track_id, key in named.items():
            if track_id not in by_id and key in by_key:
                by_id[track_id] = by_key[key]

    if source.single_track_id:
        track = by_id.get(source.single_track_id)
        match track.kind if track else None:
            case MediaKind.VIDEO:
                return Selection(whole(track), named=named)
            case MediaKind.AUDIO if track:
                return Selection(audio=(Routed(track, Channel.BOTH),), named=named)
        return Selection(named=named)

    sides = dict(before.sides)
    audible = [track for track in tracks if track.kind is MediaKind.AUDIO]
    audio = route(source.audio, audible, by_id, sides)
    if source.videos:
        seen = [track for track in tracks if track.kind is MediaKind.VIDEO]
        tiles = tuple(Tile(track.sid, track) for track in picked(source.videos, seen, by_id))
        return Selection(Scene(tiles), audio, {}, sides, named)
    if source.video is None:
        return Selection(NO_PICTURE, audio, {}, sides, named)
    video = _video(source, tracks, by_id)
    qualities = {video.sid: quality} if video is not None and quality is not None else {}
    return Selection(whole(video), audio, qualities, sides, named)


def track_ids(source: MediaSource) -> tuple[str, ...]:
    """The track ids in a request."""
    ids = [source.single_track_id]
    if isinstance(source.video, TrackVideo):
        ids.append(source.video.track_id)
    ids += [route.value for route in _routes(source) if route.match == "track" and not route.exclude]
    return tuple(dict.fromkeys(track_id for track_id in ids if track_id))


def participant_of(source: MediaSource) -> str:
    """The participant in a request; "" if none."""
    if not source.participant_identity and isinstance(source.video, ParticipantVideo):
        return source.video.identity
    return source.participant_identity


def excluded_ids(source: MediaSource) -> tuple[str, ...]:
    """The tracks that a request excludes by their ids: nobody waits for them."""
    return tuple(route.value for route in _routes(source) if route.match == "track" and route.exclude)


def _routes(source: MediaSource) -> tuple[AudioRoute | VideoRoute, ...]:
    return (*source.videos, *source.audio)


def _video(source: MediaSource, tracks: Sequence[Track], by_id: Mapping[str, Track]) -> Track | None:
    match source.video:
        case TrackVideo(track_id):
            track = by_id.get(track_id)
            return track if track is not None and track.kind is MediaKind.VIDEO else None
        case ParticipantVideo(identity, prefer_screen_share):
            wanted = [TrackSource.CAMERA, TrackSource.SCREEN_SHARE]
            if prefer_screen_share:
                wanted.reverse()
            order = [*wanted, TrackSource.UNKNOWN]
            offered = [
                (track.muted, order.index(track.source), -index, track)
                for index, track in enumerate(tracks)
                if track.kind is MediaKind.VIDEO
                and track.participant.identity == identity
                and track.source in order
            ]
            # Live before muted, the preferred source before the other, the newest publication before older
            # ones.
            return min(offered, key=lambda offer: offer[:3])[3] if offered else None
        case None:
            return None


def route(
    routes: Sequence[AudioRoute],
    tracks: Sequence[Track],
    by_id: Mapping[str, Track],
    sides: dict[TrackKey, Channel],
) -> tuple[Routed, ...]:
    """Finds the side on which each of `tracks` (audio) is heard. Adds new tracks of an alternating route to
    `sides`."""
    routed = []
    wanted = [route for route in routes if not route.exclude]
    unwanted = [route for route in routes if route.exclude]
    for track in tracks:
        if any(_takes(route, track, by_id) for route in unwanted):
            continue
        channels = {_channel(route, track, sides) for route in wanted if _takes(route, track, by_id)}
        if not channels:
            channels = {Channel(route.channel) for route in wanted if route.match == "all"}
        if channels:
            routed.append(Routed(track, channels.pop() if len(channels) == 1 else Channel.BOTH))
    return tuple(routed)


def picked(routes: Sequence[VideoRoute], tracks: Sequence[Track], by_id: Mapping[str, Track]) -> list[Track]:
    """The tracks to record among `tracks` (video)."""
    wanted = [route for route in routes if not route.exclude]
    unwanted = [route for route in routes if route.exclude]
    return [
        track
        for track in tracks
        if any(route.match == "all" or _takes(route, track, by_id) for route in wanted)
        and not any(_takes(route, track, by_id) for route in unwanted)
    ]


def _takes(route: AudioRoute | VideoRoute, track: Track, by_id: Mapping[str, Track]) -> bool:
    if route.track_name and track.name != route.track_name:
        return False
    match route.match:
        case "any":
            return True
        case "track":
            named = by_id.get(route.value)
            return named is not None and named.sid == track.sid
        case "participant":
            return track.participant.identity == route.value
        case "kind":
            return track.participant.kind == route.value
        case "not_kind":
            return track.participant.kind != route.value
        case "alternate":
            return True
        case "all":
            return False  # only if no other route took it


def _channel(route: AudioRoute, track: Track, sides: dict[TrackKey, Channel]) -> Channel:
    if route.match != "alternate":
        return Channel(route.channel)
    key = track.key
    if key not in sides:
        sides[key] = Channel.LEFT if len(sides) % 2 == 0 else Channel.RIGHT
    return sides[key]


# --- what the recording waits for, and what ends it


class Rule(Enum):
    """The thing that a recording depends on: it ends when that is gone."""

    TRACKS = auto()
    """The tracks that it names: it ends with the last of them."""
    PARTICIPANT = auto()
    """A participant: it ends when they have left and do not come back."""
    ROOM = auto()
    """The room: it ends when the room closes."""


def rule_of(source: MediaSource) -> Rule:
    if source.participant_identity:
        return Rule.PARTICIPANT
    if isinstance(source.video, ParticipantVideo) or any(
        route.match != "track" for route in _routes(source) if not route.exclude
    ):
        return Rule.ROOM
    return Rule.TRACKS


class Missing(Enum):
    """The thing that a recording still waits for before it can start."""

    NOTHING = auto()
    TRACK = auto()
    """A track that the request names."""
    PARTICIPANT = auto()
    """A participant that the request names."""
    PUBLICATION = auto()
    """The participant is there, but has published nothing to record yet."""


def missing(
    source: MediaSource, selection: Selection, tracks: Sequence[Track], participants: Sequence[Participant]
) -> tuple[Missing, str]:
    """Finds what the recording still waits for: (what, its id or identity)."""
    published = {track.sid for track in tracks}
    for track_id in track_ids(source):
        if track_id not in published and track_id not in selection.named:
            return Missing.TRACK, track_id
    identity = participant_of(source)
    if identity and not selection.tracks:
        if all(participant.identity != identity for participant in participants):
            return Missing.PARTICIPANT, identity
        return Missing.PUBLICATION, identity
    return Missing.NOTHING, ""


class Verdict(Enum):
    GO_ON = auto()
    END = auto()
    """It ends now."""
    END_UNLESS_BACK = auto()
    """It ends after a grace period, unless what it depends on returns meanwhile."""
    END_EMPTY = auto()
    """It ends, because the room has been empty for long enough."""
    END_IDLE = auto()
    """It ends, because nobody has published for long enough."""


def verdict(
    source: MediaSource, selection: Selection, participants: Sequence[Participant], *, rejoined: bool
) -> Verdict:
    """Decides whether a recording that has begun continues. `rejoined`: the recorder has only just joined
    again, and others may still be on their way back."""
    match rule_of(source):
        case Rule.TRACKS if not selection.tracks:
            return Verdict.END_UNLESS_BACK if rejoined else Verdict.END
        case Rule.PARTICIPANT if all(p.identity != source.participant_identity for p in participants):
            return Verdict.END_UNLESS_BACK
    return Verdict.GO_ON


def wrong_kind(source: MediaSource, tracks: Sequence[Track]) -> str:
    """The id of a track that is audio where the request asks for video, or vice versa; "" if there is
    none."""
    kinds = {track.sid: track.kind for track in tracks}
    if isinstance(source.video, TrackVideo):
        video_id = source.video.track_id
        if kinds.get(video_id, MediaKind.VIDEO) is not MediaKind.VIDEO:
            return video_id
    for kind, routes in ((MediaKind.VIDEO, source.videos), (MediaKind.AUDIO, source.audio)):
        for route in routes:
            is_named = route.match == "track" and not route.exclude
            if is_named and kinds.get(route.value, kind) is not kind:
                return route.value
    return ""
