"""`openegress layout preview`: a picture of a layout, or what is wrong with it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from openegress.cli import main

LAYOUT = {
    "background": "#101820",
    "regions": [
        {"x": 0.02, "y": 0.04, "w": 0.7, "h": 0.92, "who": "source:screen_share"},
        {"x": 0.74, "y": 0.04, "w": 0.24, "h": 0.3, "who": "speaker"},
        {"x": 0.74, "y": 0.36, "w": 0.24, "h": 0.6, "max": 6},
    ],
}


def preview(*arguments: object) -> int:
    return main(["layout", "preview", *map(str, arguments)])


def test_a_file_with_people(tmp_path: Path) -> None:
    (tmp_path / "lesson.json").write_text(json.dumps(LAYOUT))
    out = tmp_path / "out.png"
    flags = ("--people", 4, "--speaker", 2, "--screen", "--size", "640x360")
    looks = "speaker_border=%23ff0000&text=Part 2&names=true"
    assert preview(tmp_path / "lesson.json", out, *flags, "--options", looks) == 0
    image = read(out)
    assert image.size == (640, 360)
    seen = {at: image.getpixel(at) for at in ((2, 2), (474, 60), (200, 60), (500, 300))}
    assert near(seen[2, 2], (0x10, 0x18, 0x20))
    assert near(seen[474, 60], (255, 0, 0))
    assert not near(seen[200, 60], (0x10, 0x18, 0x20)) and not near(seen[500, 300], (0x10, 0x18, 0x20))


def test_a_background_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be in another configuration: the rest is drawn."""
    (tmp_path / "lesson.json").write_text(json.dumps({**LAYOUT, "background": "blu"}))
    assert preview(tmp_path / "lesson.json", tmp_path / "out.png", "--size", "320x180") == 0
    assert '"blu" is neither a colour nor one of overlays.backgrounds' in capsys.readouterr().err
    assert near(read(tmp_path / "out.png").getpixel((1, 1)), (0x11, 0x11, 0x11))


def read(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")


def near(found: object, expected: tuple[int, int, int]) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= 4 for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("people", [0, 1, 3, 30])
@pytest.mark.parametrize("name", ["grid", "speaker-light", "single-speaker"])
def test_a_built_in_layout(name: str, people: int, tmp_path: Path) -> None:
    assert preview(name, tmp_path / "out.png", "--people", people, "--size", "320x180") == 0
    assert read(tmp_path / "out.png").size == (320, 180)


def test_one_that_is_configured(tmp_path: Path) -> None:
    config = json.dumps({"layouts": {"lesson": LAYOUT}, "options": {"recording_dot": True}})
    out = tmp_path / "out.png"
    assert preview("lesson", out, "--config-body", config, "--size", "320x180") == 0
    assert near(read(out).getpixel((8, 8)), (0xE0, 0x20, 0x20))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("unknown",), '"unknown" is neither a file nor a layout; there are grid'),
        (("none.json",), "none.json: /: none.json cannot be read"),
        (("bad.json",), "bad.json: /regions/0/w: is missing; "),
        (("grid", "--size", "641x360"), "--size 641x360: write WIDTHxHEIGHT"),
        (("grid", "--people", "99"), "--people 99: choose 0 to 50"),
        (("grid", "--speaker", "9"), "--speaker 9: there are people 1 to 4"),
        (("grid", "--options", "txet=1"), "--options.txet: unknown key; did you mean text?"),
        (("grid", "--options", "logo=acme"), 'logo: "acme" is not one of overlays.logos'),
    ],
)
def test_what_is_wrong(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text(json.dumps({"regions": [{"x": 0, "y": 0, "h": 3}]}))
    assert main(["layout", "preview", arguments[0], "out.png", *arguments[1:]]) == 1
    assert words in capsys.readouterr().err
    assert not Path("out.png").exists()
