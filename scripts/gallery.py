"""Draws the pictures of docs/looks.md: `python -m scripts.gallery`. Letters are of this machine's fonts.

The code that records draws them, as `openegress layout preview` does. Look at them before they are committed.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from openegress.cli.layout import draw
from openegress.config.load import load
from openegress.source.room.composite.rectangles import Size

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "looks"
DRAWN, SHOWN = Size(1280, 720), (480, 270)
COLOURS = 64
"""A page with all of them is loaded at once."""

LESSON = {
    "background": "#101820",
    "regions": [
        {"x": 0, "y": 0, "w": 0.75, "h": 1, "who": "source:screen_share", "fit": "contain"},
        {"x": 0.55, "y": 0.72, "w": 0.18, "h": 0.24, "who": "speaker", "z": 1},
        {"x": 0.75, "y": 0, "w": 0.25, "h": 1, "max": 5},
    ],
}
"""As docs/looks.md has it; a test compares the two."""

PICTURES: dict[str, tuple[str, str, int, bool]] = {
    "over": ("single-speaker", "logo=acme&text=Lesson 3: light&recording_dot=true&clock=UTC", 1, False),
    "scripts": (
        "single-speaker",
        "text=Licht · ضوء · אור · प्रकाश 💡&text_corner=bottom-left&text_size=7%",
        1,
        False,
    ),
    "grid": ("grid", "names=true&speaker_border=%2300c853&background=navy", 5, False),
    "speaker": ("speaker-light", "names=true&background=stage&recorded_at=UTC", 4, False),
    "lesson": ("lesson", "names=true&speaker_border=orange&text=Part 2", 7, True),
}
"""By file: layout, options, people, whether a screen is shared."""


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        logo, stage = Path(folder) / "acme.png", Path(folder) / "stage.png"
        _logo().save(logo)
        _stage().save(stage)
        overlays = {"logos": {"acme": str(logo)}, "backgrounds": {"stage": str(stage)}}
        settings = load(body=str({"overlays": overlays, "layouts": {"lesson": LESSON}}), environ={}).settings
        for name, (layout, query, people, shares) in PICTURES.items():
            speaker = min(2, people)
            image = draw(settings, layout, DRAWN, people=people, speaker=speaker, shares=shares, query=query)
            small = image.resize(SHOWN, Image.Resampling.LANCZOS).quantize(COLOURS)
            small.save(OUT / f"{name}.png", optimize=True)
    return 0


def _logo() -> Image.Image:
    image = Image.new("RGBA", (400, 400))
    pen = ImageDraw.Draw(image)
    pen.ellipse((10, 10, 390, 390), (255, 140, 0, 255))
    pen.polygon(((200, 80), (310, 300), (90, 300)), (255, 255, 255, 255))
    return image


def _stage() -> Image.Image:
    ramp = Image.linear_gradient("L").resize((1280, 720))
    return Image.merge("RGB", (ramp.point(lambda v: 40 + v // 3), ramp.point(lambda v: 60 + v // 3), ramp))


if __name__ == "__main__":
    sys.exit(main())
