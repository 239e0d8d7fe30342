"""Draws what recordings hold, for the pictures of the documentation: pictures, sound, streams, terminals."""

import html
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from testkit.browser_tab import Tab, open_tab
from testkit.probe import frames

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = 256
"""Of a picture, which is a PNG with a palette, so that the documentation loads quickly."""
WAVE_HEIGHT = 90
WAVES = ((31, 78, 121), (194, 69, 45))
GAP = 6
MARGIN = 16
TERMINAL = """<body style="background: #17191d"><pre style="display: inline-block; color: #d8dce2;
font: 13px/1.5 monospace">{}</pre></body>"""

Pixels = npt.NDArray[np.uint8]


def frame_at(path: Path, at_s: float, width: int) -> Pixels:
    """The picture at this time, or the last one."""
    found = None
    for time_s, frame in frames(path):
        if found is not None and time_s > at_s:
            break
        found = frame
    if found is None:
        raise SystemExit(f"{path} has no picture")
    height = round(found.height * width / found.width / 2) * 2
    return found.reformat(width=width, height=height, format="rgb24").to_ndarray().astype(np.uint8)


def wave(path: Path, width: int) -> Pixels:
    """The sound of a file, a row for each channel: how loud it is, from left to right."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo")
        blocks = [
            block.to_ndarray() for frame in container.decode(audio=0) for block in resampler.resample(frame)
        ]
    samples = np.concatenate(blocks, axis=1)
    drawn = np.full((2 * WAVE_HEIGHT, width, 3), 250, np.uint8)
    edges = np.linspace(0, samples.shape[1], width + 1, dtype=int)
    loudest = max(0.05, float(np.abs(samples).max()))
    for row, channel in enumerate(samples):
        middle = row * WAVE_HEIGHT + WAVE_HEIGHT // 2
        for x, (begin, end) in enumerate(pairwise(edges)):
            half = int(
                float(np.abs(channel[begin : max(end, begin + 1)]).max()) / loudest * (WAVE_HEIGHT // 2 - 6)
            )
            drawn[middle - half : middle + half + 1, x] = WAVES[row]
    return drawn


def side_by_side(pictures: Sequence[Pixels]) -> Pixels:
    height = max(each.shape[0] for each in pictures)
    between = np.full((height, GAP, 3), 255, np.uint8)
    row: list[Pixels] = []
    for each in pictures:
        below = np.full((height - each.shape[0], each.shape[1], 3), 255, np.uint8)
        row += [between, np.concatenate([each, below])] if row else [np.concatenate([each, below])]
    return np.concatenate(row, axis=1)


def save(name: str, pixels: Pixels) -> None:
    Image.fromarray(pixels).quantize(COLOURS).save(IMAGES / f"{name}.png", optimize=True)
    print(f"docs/images/{name}.png")


def film_strip(path: Path, begin_s: float, length_s: float, width: int, cells: int) -> Pixels:
    """A row of `cells` pictures for `length_s` of time, in which the file begins at `begin_s`. Cells without
    a picture are blank."""
    cell_width = width // cells
    cell_height = cell_width * 9 // 16
    row = np.full((cell_height, width, 3), 238, np.uint8)
    cell_s = length_s / cells
    for time_s, frame in frames(path):
        cell = int((begin_s + time_s) / cell_s)
        if cell < cells and row[0, cell * cell_width, 0] == 238:
            small = frame.reformat(width=cell_width, height=cell_height, format="rgb24").to_ndarray()
            row[:, cell * cell_width : (cell + 1) * cell_width] = small
    return row


def stacked(rows: Sequence[Pixels]) -> Pixels:
    between = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    parts = [rows[0]]
    for row in rows[1:]:
        parts += [between, row]
    return np.concatenate(parts)


async def terminal(lines: Sequence[str]) -> Pixels:
    """Lines of text as a terminal shows them."""
    text = "\n".join(map(html.escape, lines))
    async with open_tab(2000, 600) as tab:
        await tab.open("data:text/html," + quote(TERMINAL.format(text)))
        await tab.becomes("document.querySelectorAll('pre').length", 1)
        return await element(tab, "pre")


async def element(tab: Tab, first: str, last: str = "") -> Pixels:
    """What the tab shows of one element, or from the element `first` to the element `last`, with a margin."""
    left, top, right, bottom = await tab.run(
        f"""[document.querySelector({first!r}), document.querySelector({(last or first)!r})]
        .map((each) => each.getBoundingClientRect())
        .reduce((from, to) => [from.left, from.top, to.right, to.bottom].map(Math.round))"""
    )
    top, left = max(0, top - MARGIN), max(0, left - MARGIN)
    return (await photograph(tab))[top : bottom + MARGIN, left : right + MARGIN]


async def photograph(tab: Tab) -> Pixels:
    """All that the tab shows."""
    await tab.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tab.png"
        await tab.photograph(path)
        return np.asarray(Image.open(path).convert("RGB"))
