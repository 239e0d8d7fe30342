"""Turns seats, layout and focus into rectangles: the whole picture as a value. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openegress.media.geometry import Fit, Rect
from openegress.request.layouts import Arrangement
from openegress.source.room.composite.rectangles import (
    GRID_CAPACITY,
    Size,
    focus_rects,
    grid_rects,
    side_capacity,
)
from openegress.source.room.composite.tiles import Seat


@dataclass(frozen=True, slots=True)
class ArrangedRoom:
    """The picture, and the state that keeps tiles in place in the next one."""

    rects: Mapping[str, Rect] = field(default_factory=dict)
    """Rectangles of the shown seats by key, in seat order; a seat without one is hidden."""
    focus: str | None = None
    """Key of the seat in focus; None in a grid."""
    others: tuple[str, ...] = ()
    """Keys of the other seats, in order."""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    """Fits of seats that differ from their default."""


EMPTY = ArrangedRoom()


def arrange(
    arrangement: Arrangement,
    seats: Sequence[Seat],
    *,
    speaker: str | None,
    recent: Sequence[str],
    canvas: Size,
    before: ArrangedRoom = EMPTY,
) -> ArrangedRoom:
    """Arranges the seats on the canvas. `speaker`: an identity. `recent`: identities by when they last spoke,
    the latest first; they are preferred if there is no room for all."""
    focus = focus_of(seats, speaker)
    if focus is None:
        return EMPTY
    sharing = focus.screen and not focus.muted
    if arrangement is Arrangement.GRID and not sharing:
        return _grid(seats, recent, canvas, before)
    if arrangement is Arrangement.SINGLE_SPEAKER:
        return ArrangedRoom({focus.key: grid_rects(1, canvas)[0]}, focus.key)
    return _beside(focus, seats, recent, canvas, before)


def focus_of(seats: Sequence[Seat], speaker: str | None) -> Seat | None:
    """The seat in focus. A screen share replaces the active speaker, and the first of several keeps the
    focus."""
    for seat in seats:
        if seat.screen and not seat.muted:
            return seat
    for seat in seats:
        if seat.participant.identity == speaker and not seat.screen:
            return seat
    return seats[0] if seats else None


def by_recency(seats: Sequence[Seat], recent: Sequence[str]) -> list[Seat]:
    """The latest speakers first, then the others in order of arrival."""
    rank = {identity: index for index, identity in reversed(list(enumerate(recent)))}
    return sorted(seats, key=lambda seat: rank.get(seat.participant.identity, len(recent)))


def choose(seats: Sequence[Seat], capacity: int, recent: Sequence[str]) -> Sequence[Seat]:
    """The seats to show if there is no room for all, in order."""
    if len(seats) <= capacity:
        return seats
    chosen = {seat.key for seat in by_recency(seats, recent)[:capacity]}
    return [seat for seat in seats if seat.key in chosen]


def keep_places(seats: Sequence[Seat], before: Sequence[str]) -> list[Seat]:
    """Seats that were there keep their places (`before`, keys in order); newcomers fill the gaps, then the
    end."""
    staying = {seat.key: seat for seat in seats if seat.key in before}
    coming = [seat for seat in seats if seat.key not in staying]
    placed = []
    for key in before:
        if key in staying:
            placed.append(staying[key])
        elif coming:
            placed.append(coming.pop(0))
    return placed + coming


def _grid(seats: Sequence[Seat], recent: Sequence[str], canvas: Size, before: ArrangedRoom) -> ArrangedRoom:
    shown = seats
    if len(seats) > GRID_CAPACITY:
        shown = keep_places(choose(seats, GRID_CAPACITY, recent), before.others)
    rects = {seat.key: rect for seat, rect in zip(shown, grid_rects(len(shown), canvas), strict=True)}
    return ArrangedRoom(rects, None, tuple(rects))


def _beside(
    focus: Seat, seats: Sequence[Seat], recent: Sequence[str], canvas: Size, before: ArrangedRoom
) -> ArrangedRoom:
    beside = [seat for seat in seats if seat.key != focus.key]
    # The seat that loses the focus takes the place of the one that gets it.
    places = [before.focus if key == focus.key else key for key in before.others]
    shown = choose(beside, side_capacity(canvas), recent)
    others = keep_places(shown, [key for key in places if key is not None])
    rects = focus_rects(len(others), canvas)
    placed = {focus.key: rects.focus, **{seat.key: rects.others[i] for i, seat in enumerate(others)}}
    return ArrangedRoom(placed, focus.key, tuple(seat.key for seat in others))
