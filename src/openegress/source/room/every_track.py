"""Records several tracks of a room separately into one file: all of them, or chosen ones. Pure."""

from dataclasses import replace

from openegress.core.codecs import MediaKind
from openegress.core.plan import MediaSource, TracksSource
from openegress.media.mixer import Channel
from openegress.room import Track
from openegress.source.room.scene import Scene, Tile
from openegress.source.room.selection import Routed, Rule, Selection, Verdict, rule_of, track_ids
from openegress.source.room.track_policy import DelegatingPolicy, RequestedTracks, RoomState, TrackPolicy
from openegress.source.room.whole_room import TrackBounds, WholeRoom


class EveryTrack(WholeRoom):
    """Implements source.room.track_policy.TrackPolicy: all tracks of the room."""

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


class WithEveryTrack(DelegatingPolicy):
    """Implements TrackPolicy around a composing one, for a recording that also keeps the tracks: all are
    received in their best quality."""

    def __init__(self, policy: TrackPolicy) -> None:
        super().__init__(policy)
        self._bounds = TrackBounds()

    def select(self, room: RoomState, before: Selection) -> Selection:
        composed = super().select(room, before)
        known = {track.sid for track in composed.tracks}
        others = tuple(track for track in self._bounds.within(room.tracks) if track.sid not in known)
        return replace(composed, qualities={}, beside=others)

    def wants(self, track: Track, selection: Selection) -> bool:
        return True


class ChosenTracks(DelegatingPolicy):
    """Implements TrackPolicy around the request's choice. If later tracks may match it, the recording ends
    with the room's last participant; a choice of track ids ends with these tracks."""

    def __init__(self, chosen: MediaSource) -> None:
        super().__init__(RequestedTracks(chosen, None))
        self._bounds = TrackBounds()
        self._whole_room = WholeRoom()
        self._ends_with_tracks = rule_of(chosen) is Rule.TRACKS and bool(track_ids(chosen))

    def select(self, room: RoomState, before: Selection) -> Selection:
        return super().select(replace(room, tracks=self._bounds.within(room.tracks)), before)

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        if self._ends_with_tracks:
            return super().verdict(room, selection)
        return self._whole_room.verdict(room, selection)
