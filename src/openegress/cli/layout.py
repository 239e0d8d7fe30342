"""`openegress layout preview`: shows what a layout does with people, without a room."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from PIL import Image, ImageDraw

from openegress.cli.errors import say
from openegress.cli.flags import settings_of
from openegress.config.layouts import layouts_of, read_layout_file
from openegress.config.settings import Settings
from openegress.core.codecs import MediaKind
from openegress.core.errors import invalid
from openegress.core.looks import Looks, PictureFiles
from openegress.media.canvas import Canvas
from openegress.media.images import to_rgb, to_yuv
from openegress.media.overlays import Overlays
from openegress.request import layouts, look_options, options
from openegress.request.layout_file import LayoutFaults
from openegress.request.layouts import Layout
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.composite.layout_policy import LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.scene import Tile
from openegress.source.room.scene_picture import ScenePicture
from openegress.source.room.selection import NOTHING
from openegress.source.room.tile_view import Picture
from openegress.source.room.track_policy import RoomState

MAX_PEOPLE = 50
_NAMES = ("Ann", "Ben", "Chloé", "דנה", "Emre", "فاطمة", "Grace", "健太", "Ирина", "José", "सीता", "Max 😀")
_SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})", re.ASCII)
_LARGEST = 8192
_FRAMERATE = 30
_CAMERA, _SCREEN = (1280, 720), (1920, 1080)


def preview(arguments: argparse.Namespace) -> int:
    settings, _ = settings_of(arguments)
    if not 0 <= arguments.people <= MAX_PEOPLE:
        raise invalid(f"--people {arguments.people}: choose 0 to {MAX_PEOPLE}")
    if not 0 <= arguments.speaker <= arguments.people:
        raise invalid(f"--speaker {arguments.speaker}: there are people 1 to {arguments.people}")
    image = draw(
        settings,
        arguments.layout,
        _size(arguments.size),
        people=arguments.people,
        speaker=arguments.speaker,
        shares=arguments.screen,
        query=arguments.options,
    )
    try:
        image.save(arguments.out)
    except (OSError, ValueError) as error:
        raise invalid(f"{arguments.out} cannot be written: {error}") from None
    return 0


def draw(
    settings: Settings, name: str, size: Size, *, people: int, speaker: int, shares: bool, query: str
) -> Image.Image:
    """Raises EgressError for an invalid layout or invalid options."""
    files = PictureFiles(settings.overlays.logos, settings.overlays.backgrounds)
    asked = options.of_query(query, "--options")
    look_options.refuse_unknown_pictures(asked, files)
    looks = look_options.changed(look_options.changed(Looks(), settings.options), asked)
    policy = LayoutPolicy(_layout(settings, name), size, _FRAMERATE, looks=looks, pictures=files)
    room = _room(people, speaker, shares=shares)
    scene = policy.select(room, NOTHING).scene
    drawn = ScenePicture(Canvas(size.width, size.height), Overlays(size.width, size.height, looks, files))
    drawn.show(scene, 0)
    drawn.draw(lambda tile: drawn.view(tile).draw(drawn.canvas, 0, _picture(tile)))
    return to_rgb(drawn.picture(0))


def _layout(settings: Settings, name: str) -> Layout:
    own = layouts_of(settings)
    if name in layouts.LAYOUTS or any(spec.name == name for spec in own):
        return layouts.parse(name, own)
    if not (name.endswith(".json") or Path(name).exists()):
        known = ", ".join([*layouts.LAYOUTS, *(spec.name for spec in own)])
        raise invalid(f'"{name}" is neither a file nor a layout; there are {known}')
    try:
        spec = read_layout_file(name, "preview")
    except LayoutFaults as error:
        raise invalid("\n".join(f"{name}: {fault}" for fault in error.faults)) from None
    background = spec.background
    if background and not background.startswith("#") and background not in settings.overlays.backgrounds:
        say(f'{name}: "{background}" is neither a colour nor one of overlays.backgrounds, and is not drawn')
        spec = msgspec.structs.replace(spec, background="")
    return Layout(spec=spec)


def _size(text: str) -> Size:
    found = _SIZE.fullmatch(text)
    size = Size(int(found[1]), int(found[2])) if found else Size(0, 0)
    if not found or size.width % 2 or size.height % 2 or max(size.width, size.height) > _LARGEST:
        raise invalid(f"--size {text}: write WIDTHxHEIGHT in even numbers of pixels, like 1280x720")
    return size


def _room(people: int, speaker: int, *, shares: bool) -> RoomState:
    persons = [
        Participant(f"PA_{n}", f"person-{n}", _NAMES[(n - 1) % len(_NAMES)], "standard", n)
        for n in range(1, people + 1)
    ]
    tracks = [_track(person, n, TrackSource.CAMERA, _CAMERA) for n, person in enumerate(persons)]
    if shares and persons:
        tracks.append(_track(persons[0], people, TrackSource.SCREEN_SHARE, _SCREEN))
    speakers = (persons[speaker - 1].identity,) if speaker else ()
    return RoomState(tracks, persons, speakers)


def _track(person: Participant, number: int, source: TrackSource, size: tuple[int, int]) -> Track:
    return Track(f"TR_{number}", "", MediaKind.VIDEO, source, "video/vp8", person, False, *size)


def _picture(tile: Tile) -> Picture | None:
    if tile.track is None:
        return None
    number = int(tile.track.sid.removeprefix("TR_"))
    is_screen = tile.track.source is TrackSource.SCREEN_SHARE
    image = Image.new("RGB", _SCREEN, (0xF4, 0xF4, 0xF0)) if is_screen else _person(number)
    if is_screen:
        pen = ImageDraw.Draw(image)
        for box, colour in _slide():
            pen.rectangle(box, colour)
    return Picture(to_yuv(image), 0)


def _person(number: int) -> Image.Image:
    """Head and shoulders, in a different colour for each person."""
    image = Image.new("HSV", _CAMERA, ((number * 97) % 256, 110, 150)).convert("RGB")
    pen, skin = ImageDraw.Draw(image), (0xD8, 0xB0, 0x90)
    pen.ellipse((340, 470, 940, 1070), (0x30, 0x38, 0x48))
    pen.ellipse((500, 170, 780, 530), skin)
    return image


def _slide() -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int, int]]]:
    yield (160, 140, 1200, 240), (0x30, 0x50, 0x90)
    for line in range(4):
        yield (160, 360 + 140 * line, 1500 - 150 * line, 420 + 140 * line), (0x90, 0x90, 0x90)
