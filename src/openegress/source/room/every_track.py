"""Everything that is published in a room, each track for itself. Pure."""

from openegress.core.codecs import MediaKind
from openegress.core.plan import TracksSource
from openegress.media.mixer import Channel
from openegress.room import Track
from openegress.source.room.scene import Scene, Tile
from openegress.source.room.selection import Routed, Selection
from openegress.source.room.track_policy import RoomState
from openegress.source.room.whole_room import WholeRoom


class EveryTrack(WholeRoom):
    """Implements source.room.track_policy.TrackPolicy."""

    def __init__(self, source: TracksSource) -> None:
        super().__init__()
        self._kinds = {
            kind
            for kind, is_wanted in ((MediaKind.AUDIO, source.audio), (MediaKind.VIDEO, source.video))
            if is_wanted
        }

    def select(self, room: RoomState, before: Selection) -> Selection:
        tracks = [track for track in self._bounds.within(room.tracks) if track.kind in self._kinds]
        pictures = (Tile(track.sid, track) for track in tracks if track.kind is MediaKind.VIDEO)
        sounds = (Routed(track, Channel.BOTH) for track in tracks if track.kind is MediaKind.AUDIO)
        return Selection(Scene(tuple(pictures)), tuple(sounds))

    def wants(self, track: Track, selection: Selection) -> bool:
        return track.kind in self._kinds
