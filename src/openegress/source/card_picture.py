"""Draws the card of a held pause as rooms show it, for sources that lay out nothing themselves."""

from av.video.frame import VideoFrame

from openegress.media.canvas import Canvas
from openegress.source.room.pause_card import CARD
from openegress.source.room.scene_picture import ScenePicture


def card_picture(width: int, height: int) -> VideoFrame:
    drawn = ScenePicture(Canvas(width, height))
    drawn.show(CARD.scene, 0)
    drawn.draw(lambda tile: drawn.view(tile).draw(drawn.canvas, 0, None))
    return drawn.picture(0)
