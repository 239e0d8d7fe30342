"""Lays transparent pictures over others: each is converted to the recording's format once, and blended only
where it lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openegress.media.canvas import yuv_of
from openegress.media.geometry import Rect

_OPAQUE = 256
_MATRIX = np.array(
    [
        [0.2126 * 219, 0.7152 * 219, 0.0722 * 219],
        [-0.2126 / 1.8556 * 224, -0.7152 / 1.8556 * 224, 0.9278 / 1.8556 * 224],
        [0.7874 / 1.5748 * 224, -0.7152 / 1.5748 * 224, -0.0722 / 1.5748 * 224],
    ],
    np.float32,
) / np.float32(255)
"""Matrix from RGB (0 to 255) to BT.709 limited range (ITU-R BT.709-6, item 3), without offsets."""
_OFFSETS = np.array([16, 128, 128], np.float32)

Plane = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Layer:
    """A transparent picture. Any thread may use it, because nobody writes to it."""

    rect: Rect
    """Where it lies within the picture; numbers are even."""
    added: tuple[Plane, ...]
    """What is added to Y, U and V: the colour times its opacity, 0 to 255 * 256."""
    kept: tuple[Plane, ...]
    """The share that the picture below keeps, 0 to 256."""

    def blend(self, planes: Sequence[NDArray[np.uint8]]) -> None:
        """Blends the layer onto a picture in yuv420p, BT.709, limited range."""
        rect = self.rect
        for number, (plane, added, kept) in enumerate(zip(planes, self.added, self.kept, strict=True)):
            shift = 1 if number else 0
            rows = slice(rect.y >> shift, (rect.y + rect.height) >> shift)
            part = plane[rows, rect.x >> shift : (rect.x + rect.width) >> shift]
            part[:] = (part * kept + added) >> 8


def layer_of(image: Image.Image, x: int, y: int, width: int, height: int) -> Layer | None:
    """Places the RGBA `image` with its upper left corner at (x, y) of a picture of (width, height), even
    numbers. Cuts off what lies outside; returns None if nothing is left."""
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + image.width), min(height, y + image.height)
    if left >= right or top >= bottom:
        return None
    rect = Rect(left & ~1, top & ~1, ((right + 1) & ~1) - (left & ~1), ((bottom + 1) & ~1) - (top & ~1))
    padded = Image.new("RGBA", (rect.width, rect.height))
    padded.paste(image.crop((left - x, top - y, right - x, bottom - y)), (left - rect.x, top - rect.y))
    pixels = np.asarray(padded, np.float32)
    alpha = np.rint(pixels[..., 3] * (_OPAQUE / 255))
    yuv = (pixels[..., :3] @ _MATRIX.T + _OFFSETS) * alpha[..., None]
    added = [yuv[..., 0], *(_halved(yuv[..., plane]) for plane in (1, 2))]
    kept = [_OPAQUE - alpha, *[_OPAQUE - np.rint(_halved(alpha))] * 2]
    return Layer(
        rect,
        # Half a unit, because blending truncates.
        tuple(np.minimum(np.rint(each) + _OPAQUE // 2, 0xFFFF).astype(np.uint16) for each in added),
        tuple(each.astype(np.uint16) for each in kept),
    )


def plain_layer(rect: Rect, colour: tuple[int, int, int]) -> Layer:
    """A layer of one opaque colour; `rect` has even numbers."""
    sizes = [(rect.height, rect.width), *[(rect.height // 2, rect.width // 2)] * 2]
    values = yuv_of(*colour)
    return Layer(
        rect,
        tuple(np.full(size, value * _OPAQUE, np.uint16) for size, value in zip(sizes, values, strict=True)),
        tuple(np.zeros(size, np.uint16) for size in sizes),
    )


def _halved(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Averages four values for each 4:2:0 sample."""
    rows, columns = plane.shape
    found: NDArray[np.float32] = plane.reshape(rows // 2, 2, columns // 2, 2).mean((1, 3))
    return found
