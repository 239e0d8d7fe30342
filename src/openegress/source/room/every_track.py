"""Everything that is published in a room, each track for itself. Pure."""

from openegress.core.codecs import MediaKind
from openegress.core.plan import TracksSource
from openegress.media.mixer import Channel
from openegress.room import Track
from openegress.source.room.scene import Scene, Tile
from openegress.source.room.selection import Missing, Routed, Selection, Verdict
from openegress.source.room.track_policy import RoomState
from openegress.source.room.whole_room import RoomEnd, TrackBounds


class EveryTrack:
    """Implements source.room.track_policy.TrackPolicy."""

    single_track_id = ""
    recheck_at_s = None

    def __init__(self, source: TracksSource) -> None:
        self._kinds = {
            kind
            for kind, is_wanted in ((MediaKind.AUDIO, source.audio), (MediaKind.VIDEO, source.video))
            if is_wanted
        }
        self._bounds = TrackBounds()
        self._end = RoomEnd()

    def select(self, room: RoomState, before: Selection) -> Selection:
        tracks = [track for track in self._bounds.within(room.tracks) if track.kind in self._kinds]
        pictures = (Tile(track.sid, track) for track in tracks if track.kind is MediaKind.VIDEO)
        sounds = (Routed(track, Channel.BOTH) for track in tracks if track.kind is MediaKind.AUDIO)
        return Selection(Scene(tuple(pictures)), tuple(sounds))

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        return Missing.NOTHING, ""  # whoever comes later is recorded from then on

    def refusal(self, track: Track, what: Missing) -> str:
        return ""

    def wrong_kind(self, room: RoomState) -> str:
        return ""

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        return self._end.verdict(room)

    def needs(self, sid: str, selection: Selection) -> bool:
        return False

    def names(self, track: Track, selection: Selection) -> bool:
        return False
