"""Reads orders to a recorder in its room: from the metadata or an attribute of its participant. Pure."""

from dataclasses import dataclass

from openegress.request import orders
from openegress.request.orders import PauseOrder
from openegress.room.events import OwnMetadataChanged, PauseAttributeChanged
from openegress.source import Notice, OrderRequested

OwnParticipantChange = OwnMetadataChanged | PauseAttributeChanged


@dataclass(frozen=True, slots=True)
class RoomOrders:
    events: tuple[OrderRequested | Notice, ...]
    changes_picture: bool = False
    """Whether the layout or its look has changed."""


def room_orders(told: OwnParticipantChange, *, has_layout: bool = True, of_page: bool = False) -> RoomOrders:
    """Reads the orders in a change of the participant. Nobody gets an answer: an order that cannot be carried
    out becomes a Notice. `has_layout`: the metadata set the look of a picture in one of this server's
    layouts; for others they are orders. `of_page`: see orders.in_layout()."""
    if isinstance(told, PauseAttributeChanged):
        return RoomOrders((OrderRequested(PauseOrder.PAUSE if told.paused else PauseOrder.RESUME),))
    layout = orders.layout_in(told.metadata)
    asked, wrong = orders.in_metadata(layout or "", of_page=of_page)
    if not has_layout:
        asked = asked.with_looks_ordered()
    found: list[OrderRequested | Notice] = []
    if wrong is not None:
        found.append(Notice("what the recorder's metadata ask for cannot be done", {"error": wrong.text}))
    if asked.order is not None:
        found.append(OrderRequested(asked.order))
    return RoomOrders(tuple(found), layout is not None and asked.changes_picture)
