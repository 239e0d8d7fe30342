"""Defines the card that a held pause shows, with silence. Pure."""

from openegress.source.room.composite.layout_policy import DARK
from openegress.source.room.scene import Scene, Tile
from openegress.source.room.selection import Selection

CARD = Selection(Scene((Tile("paused", None, name="Paused"),), (), DARK))
