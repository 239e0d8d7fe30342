"""Arranges a room in an operator's own layout: who is in which region, and where it lies. Pure."""

from collections.abc import Sequence

from openegress.core.layout_spec import LayoutSpec, Region, RegionFit, Who
from openegress.media.geometry import Fit, Rect
from openegress.source.room.composite.arrange import ArrangedRoom, choose, keep_places
from openegress.source.room.composite.rectangles import Size, grid_rects
from openegress.source.room.composite.tiles import Seat
from openegress.source.room.selecting import fits_any


def arrange_regions(
    spec: LayoutSpec,
    seats: Sequence[Seat],
    *,
    speaker: str | None,
    recent: Sequence[str],
    canvas: Size,
    before: ArrangedRoom,
) -> ArrangedRoom:
    """Like arrange(). Rectangles are in drawing order, because they may overlap."""
    placed: list[tuple[int, str, Rect]] = []
    fits: dict[str, Fit] = {}
    taken: set[str] = set()
    focus: str | None = None
    others: list[str] = []
    for region in spec.regions:
        shown = _shown_in(region, seats, taken, speaker, recent, before.others)
        taken |= {seat.key for seat in shown}
        others += [seat.key for seat in shown]
        if region.who is Who.SPEAKER and not region.selectors and shown:
            focus = shown[0].key
        for seat, rect in zip(shown, _rects(region, len(shown), canvas), strict=True):
            placed.append((region.z, seat.key, rect))
            if region.fit is not RegionFit.AUTO:
                fits[seat.key] = Fit(region.fit.value)
    placed.sort(key=lambda each: each[0])
    return ArrangedRoom({key: rect for _, key, rect in placed}, focus, tuple(others), fits)


def _shown_in(
    region: Region,
    seats: Sequence[Seat],
    taken: set[str],
    speaker: str | None,
    recent: Sequence[str],
    before: Sequence[str],
) -> Sequence[Seat]:
    if region.selectors:
        fitting = [seat for seat in seats if fits_any(region.selectors, seat.participant, seat.track)]
    elif region.who is Who.SPEAKER:
        fitting = [seat for seat in seats if not seat.screen and seat.participant.identity == speaker]
    else:
        fitting = list(seats)
    if region.nth:
        return [seat for seat in fitting[region.nth - 1 : region.nth] if seat.key not in taken]
    free = [seat for seat in fitting if seat.key not in taken]
    if len(free) <= region.max:
        return free
    chosen = choose(free, region.max, recent)
    places = [key for key in before if any(seat.key == key for seat in free)][: region.max]
    return keep_places(chosen, places)[: region.max]


def _rects(region: Region, count: int, canvas: Size) -> Sequence[Rect]:
    whole = rect_of(region, canvas)
    cells = grid_rects(count, Size(whole.width, whole.height))
    return [_within(whole, cell) for cell in cells]


def _within(whole: Rect, cell: Rect) -> Rect:
    """The cell, kept within its region: a tiny region has no room for gaps."""
    width, height = min(cell.width, whole.width), min(cell.height, whole.height)
    x, y = min(cell.x, whole.width - width), min(cell.y, whole.height - height)
    return Rect(whole.x + x, whole.y + y, width, height)


def rect_of(region: Region, canvas: Size) -> Rect:
    """The rectangle of a region, in even numbers and within the canvas. Regions that touch still do."""
    left, right = _edges(region.x, region.x + region.w, canvas.width)
    top, bottom = _edges(region.y, region.y + region.h, canvas.height)
    return Rect(left, top, right - left, bottom - top)


def _edges(begin: float, end: float, length: int) -> tuple[int, int]:
    last = length // 2 * 2
    first = min(2 * round(begin * length / 2), last - 2)
    return first, min(max(2 * round(end * length / 2), first + 2), last)
