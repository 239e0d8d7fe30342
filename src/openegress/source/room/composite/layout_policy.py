"""Shows a room in one picture: everybody who publishes, and all their sound."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from openegress.core.codecs import MediaKind
from openegress.core.errors import EgressError
from openegress.core.layout_spec import LayoutSpec
from openegress.core.looks import Looks, PictureFiles, rgb_of
from openegress.core.plan import AudioRoute
from openegress.media.geometry import Rect, drawn_size
from openegress.request import layouts, look_options, orders
from openegress.request.layouts import Layout
from openegress.room import Track, VideoQuality
from openegress.source.room.composite.active_speaker import ActiveSpeaker, step
from openegress.source.room.composite.arrange import EMPTY, ArrangedRoom, arrange, by_recency
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.composite.regions import arrange_regions
from openegress.source.room.composite.tiles import Seat, seats_of
from openegress.source.room.scene import Look, Scene, Tile
from openegress.source.room.selection import Selection, route
from openegress.source.room.track_policy import RoomState
from openegress.source.room.whole_room import WholeRoom

WARM_HIDDEN = 6
"""Limit for hidden videos that keep running, in their smallest layer, so that they can be shown at once."""
DARK = Look((0x11,) * 3, (0x22,) * 3, (0x4A,) * 3, (0xFF,) * 3, (0xEE,) * 3)
LIGHT = Look((0xFF,) * 3, (0xE4,) * 3, (0x8A,) * 3, (0xFF,) * 3, (0x22,) * 3)

_log = logging.getLogger(__name__)


class LayoutPolicy(WholeRoom):
    """Implements source.room.track_policy.TrackPolicy.

    Remembers who was in focus and where tiles lay, so that nothing moves needlessly.
    """

    def __init__(
        self,
        layout: Layout,
        canvas: Size,
        framerate: int,
        routes: Sequence[AudioRoute] = (),
        *,
        looks: Looks = Looks(),  # noqa: B008 - it is frozen
        pictures: PictureFiles = PictureFiles(),  # noqa: B008
        specs: Sequence[LayoutSpec] = (),
    ) -> None:
        """`routes`: which sound goes where; empty: a picture without sound. `pictures` and `specs`: may be
        requested while it runs."""
        super().__init__()
        self._looks = looks
        self._pictures = pictures
        self._specs = specs
        self._layout = layout
        self._canvas = canvas
        self._framerate = framerate
        self._routes = routes
        self._metadata = ""
        self._speaker = ActiveSpeaker()
        self._recent: tuple[str, ...] = ()
        self._staging = EMPTY

    @property
    def recheck_at_s(self) -> float | None:
        return self._speaker.recheck_at_s

    def select(self, room: RoomState, before: Selection) -> Selection:
        self._read_layout(room.metadata)
        tracks = self._bounds.within(room.tracks)
        seats = seats_of(room.participants, tracks, room.name_only)
        present = {each.identity for each in room.participants}
        spoken = dict.fromkeys((*room.speakers, *self._recent))
        self._recent = tuple(identity for identity in spoken if identity in present)
        self._speaker = step(self._speaker, room.speakers, _eligible(seats), room.now_s)
        self._staging = self._arranged(seats)
        scene = self._scene(seats)
        audible = [track for track in tracks if track.kind is MediaKind.AUDIO]
        sides = dict(before.sides)
        return Selection(scene, route(self._routes, audible, {}, sides), self._qualities(scene), sides)

    def wants(self, track: Track, selection: Selection) -> bool:
        return track.kind is MediaKind.VIDEO or bool(route(self._routes, [track], {}, {}))

    def _read_layout(self, metadata: str) -> None:
        if metadata == self._metadata:
            return
        self._metadata = metadata
        asked = orders.layout_in(metadata)
        if asked is None:
            return
        # The order's recipient reports what is wrong with it.
        change, _ = orders.in_metadata(asked)
        try:
            look_options.refuse_unknown_pictures(change.looks, self._pictures)
            self._looks = look_options.changed(self._looks, change.looks)
        except EgressError as error:
            _log.warning("the look stays unchanged: %s", error.text)
        if change.layout is None:
            return
        self._layout = layouts.parse(change.layout, self._specs)
        if change.layout and self._layout.spec is None and change.layout not in layouts.LAYOUTS:
            _log.warning(layouts.taken_for(change.layout))

    def _arranged(self, seats: Sequence[Seat]) -> ArrangedRoom:
        how = partial(arrange, self._layout.arrangement)
        if self._layout.spec is not None:
            how = partial(arrange_regions, self._layout.spec)
        return how(
            seats,
            speaker=self._speaker.focus,
            recent=self._recent,
            canvas=self._canvas,
            before=self._staging,
        )

    def _scene(self, seats: Sequence[Seat]) -> Scene:
        rects = self._staging.rects
        hidden = [seat for seat in seats if seat.key not in rects and not seat.muted]
        warm = by_recency(hidden, self._recent)[:WARM_HIDDEN]
        return Scene(
            tuple(self._tile(seat, rects[seat.key]) for seat in self._from_below(seats)),
            tuple(seat.track for seat in warm if seat.track is not None),
            self._look(),
            self._looks,
        )

    def _from_below(self, seats: Sequence[Seat]) -> list[Seat]:
        """The seats shown, from bottom to top; regions may overlap."""
        rects = self._staging.rects
        shown = [seat for seat in seats if seat.key in rects]
        if self._layout.spec is None:
            return shown
        places = list(rects)
        return sorted(shown, key=lambda seat: places.index(seat.key))

    def _tile(self, seat: Seat, rect: Rect) -> Tile:
        speaks = self._speaker.spoken and not seat.screen and seat.participant.identity == self._speaker.focus
        return Tile(
            seat.key,
            seat.track,
            rect,
            self._staging.fits.get(seat.key, seat.fit),
            seat.name,
            seat.name if self._looks.names else "",
            self._looks.speaker_border if speaks else "",
        )

    def _look(self) -> Look:
        look = LIGHT if self._layout.light else DARK
        spec = self._layout.spec
        background = self._looks.background or (spec.background if spec is not None else "")
        if not background:
            return look
        if background.startswith("#"):
            return replace(look, background=rgb_of(background))
        return replace(look, background_picture=self._pictures.backgrounds.get(background, ""))

    def _qualities(self, scene: Scene) -> dict[str, VideoQuality]:
        """The quality at which each picture is drawn."""
        smallest = VideoQuality(2, 2, self._framerate)
        return {track.sid: smallest for track in scene.hidden} | {
            tile.track.sid: VideoQuality(
                *drawn_size(tile.track.width, tile.track.height, tile.rect, tile.fit), self._framerate
            )
            for tile in scene.tiles
            if tile.track is not None and tile.rect is not None
        }


def _eligible(seats: Sequence[Seat]) -> list[str]:
    """Who may be in focus, participants with a picture first."""
    cameras = [seat for seat in seats if not seat.screen]
    return [seat.participant.identity for seat in sorted(cameras, key=lambda seat: seat.muted)]
