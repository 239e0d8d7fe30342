"""The picture and sound a test participant publishes, and how they are read back.

Picture: the participant's colour as background; a row of cells of side W/40, the first at (W/40, W/40):
white, black, then a 20-bit frame counter most significant bit first (white is 1), then one even-parity
cell; once a second, for 100 ms, a white rectangle in the lower half (x from W/4 to 3W/4, y from 0.6 H to
0.9 H). Sound: a 100 ms beep of 1 kHz exactly with the rectangle, else a quiet tone of the participant.

testkit/pages/pattern.html draws the same in a browser. Planes are limited range: BT.601 as cameras and
browsers send them, or BT.709 as recordings have them.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

COUNTER_BITS = 20
CELLS = 2 + COUNTER_BITS + 1
CELLS_PER_WIDTH = 40
BEEP_HZ = 1000.0
FLASH_MS = 100
BLOCK_MS = 10
SAMPLE_RATE = 48_000
WHITE, BLACK = 235, 16
NOISE_CELL_PX = 8
NOISE_STEPS = 30

Plane = NDArray[np.uint8]
Rgb = tuple[int, int, int]

COLOURS: tuple[Rgb, ...] = (
    (40, 90, 170),
    (150, 50, 60),
    (40, 130, 70),
    (130, 100, 30),
    (110, 60, 140),
    (30, 120, 130),
)
"""For participants that do not choose one; none is near black or white."""


class Matrix(Enum):
    """Weights of red and blue in luma (ITU-R BT.601-7, BT.709-6)."""

    BT601 = (0.299, 0.114)
    BT709 = (0.2126, 0.0722)


def yuv_of(rgb: Rgb, matrix: Matrix = Matrix.BT709) -> tuple[int, int, int]:
    """8 bit, limited range."""
    kr, kb = matrix.value
    r, g, b = (v / 255 for v in rgb)
    y = kr * r + (1 - kr - kb) * g + kb * b
    return (
        round(16 + 219 * y),
        round(128 + 112 * (b - y) / (1 - kb)),
        round(128 + 112 * (r - y) / (1 - kr)),
    )


def rgb_of(y: float, u: float, v: float) -> tuple[float, float, float]:
    """The inverse of yuv_of for BT.709; linear, so it may be fed means."""
    luma, cb, cr = (y - 16) / 219, (u - 128) / 224 * 1.8556, (v - 128) / 224 * 1.5748
    r, b = luma + cr, luma + cb
    g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152
    return r * 255, g * 255, b * 255


def counter_cells(counter: int) -> list[bool]:
    """White or not, for all cells of the row."""
    bits = [bool(counter >> (COUNTER_BITS - 1 - i) & 1) for i in range(COUNTER_BITS)]
    return [True, False, *bits, sum(bits) % 2 == 1]


def counter_of(cells: list[bool]) -> int | None:
    """The counter of a row of cells; None if sync cells or parity do not fit."""
    if len(cells) != CELLS or not cells[0] or cells[1]:
        return None
    bits = cells[2:-1]
    if (sum(bits) + cells[-1]) % 2:
        return None
    return sum(1 << (COUNTER_BITS - 1 - i) for i, bit in enumerate(bits) if bit)


def read_counter(luma: Plane) -> int | None:
    """The counter of a picture, from its luma plane (height, width); None if it shows no pattern."""
    width = luma.shape[1]
    side = width / CELLS_PER_WIDTH
    top, bottom = int(side * 1.3), max(int(side * 1.7), int(side * 1.3) + 1)
    if bottom > luma.shape[0]:
        return None
    row = luma[top:bottom]
    means = []
    for i in range(CELLS):
        left = int(side * (1.3 + i))
        means.append(float(row[:, left : max(int(side * (1.7 + i)), left + 1)].mean()))
    white, black = means[0], means[1]
    if white - black < 60:
        return None
    threshold = (white + black) / 2
    return counter_of([mean > threshold for mean in means])


def read_flash(luma: Plane) -> bool:
    """Whether the white rectangle is on, judged by its middle."""
    height, width = luma.shape
    middle = luma[int(height * 0.68) : int(height * 0.82), int(width * 0.35) : int(width * 0.65)]
    return float(middle.mean()) > 200


def flash_frame(counter: int, fps: int) -> bool:
    """Whether the picture `counter` shows the white rectangle: the first tenth of each second."""
    return (counter % fps) * 1000 < FLASH_MS * fps


@dataclass(frozen=True, slots=True)
class PictureSpec:
    width: int
    height: int
    fps: int
    colour: Rgb
    busy: bool = False
    matrix: Matrix = Matrix.BT709


class Picture:
    """Draws the picture of a counter into one I420 buffer, which it reuses for the next."""

    def __init__(self, spec: PictureSpec) -> None:
        self.spec = spec
        width, height = spec.width, spec.height
        self._y, u, v = yuv_of(spec.colour, spec.matrix)
        luma, chroma = width * height, (width // 2) * (height // 2)
        self.buffer = bytearray(luma + 2 * chroma)
        whole = np.frombuffer(self.buffer, np.uint8)
        self._luma = whole[:luma].reshape(height, width)
        self._u = whole[luma : luma + chroma].reshape(height // 2, width // 2)
        self._v = whole[luma + chroma :].reshape(height // 2, width // 2)
        self._luma[:], self._u[:], self._v[:] = self._y, u, v
        self._noise = self._make_noise() if spec.busy else None
        self._flash = (slice(int(height * 0.6), int(height * 0.9)), slice(width // 4, width * 3 // 4))
        self._flashing = False
        side = width / CELLS_PER_WIDTH
        edges = [round(side * (1 + i)) for i in range(CELLS + 1)]
        self._rows = slice(round(side), round(2 * side))
        self._cells = [slice(a, b) for a, b in pairwise(edges)]
        self._grey(self._rows, slice(edges[0], edges[-1]))

    def draw(self, counter: int) -> bytearray:
        """The I420 planes (Y, U, V; no padding) of one picture, valid until the next call."""
        flash = flash_frame(counter, self.spec.fps)
        if self._noise is not None:
            left = counter % NOISE_STEPS * NOISE_CELL_PX
            self._luma[:] = self._noise[:, left : left + self.spec.width]
        elif self._flashing and not flash:
            self._luma[self._flash] = self._y
        if flash:
            self._luma[self._flash] = WHITE
        self._flashing = flash
        for columns, white in zip(self._cells, counter_cells(counter), strict=True):
            self._luma[self._rows, columns] = WHITE if white else BLACK
        return self.buffer

    def _make_noise(self) -> Plane:
        cell = NOISE_CELL_PX
        rows, columns = -(-self.spec.height // cell), -(-self.spec.width // cell) + NOISE_STEPS
        cells = np.random.default_rng(1).integers(-50, 51, (rows, columns)) + self._y
        noise = np.clip(cells, BLACK, WHITE).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
        return np.ascontiguousarray(noise[: self.spec.height])

    def _grey(self, rows: slice, columns: slice) -> None:
        half = (slice(rows.start // 2, -(-rows.stop // 2)), slice(columns.start // 2, -(-columns.stop // 2)))
        self._u[half] = self._v[half] = 128


class Sound:
    """Blocks of 10 ms, s16 mono at 48 kHz; block `n` belongs to time n * 10 ms."""

    def __init__(self, tone_hz: float, level: float = 0.05, beep_level: float = 0.5) -> None:
        """`level` 0 leaves silence between the beeps."""
        samples = SAMPLE_RATE  # one second, in which whole Hz are periodic
        time_s = np.arange(samples) / SAMPLE_RATE
        wave = np.sin(2 * np.pi * tone_hz * time_s) * level
        beep = samples * FLASH_MS // 1000
        wave[:beep] = np.sin(2 * np.pi * BEEP_HZ * time_s[:beep]) * beep_level
        data = (wave * 32767).astype("<i2").tobytes()
        size = SAMPLE_RATE * BLOCK_MS // 1000 * 2
        self._blocks = [data[i : i + size] for i in range(0, len(data), size)]

    def block(self, index: int) -> bytes:
        return self._blocks[index % len(self._blocks)]
