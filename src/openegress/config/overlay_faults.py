"""Checks the pictures that options may name."""

from collections.abc import Iterator

from openegress.config.finding import Finding, Level
from openegress.config.settings import Settings
from openegress.core.errors import EgressError
from openegress.core.looks import COLOURS, PictureFiles, PictureName
from openegress.core.picture_file import read_picture
from openegress.request.look_options import refuse_unknown_pictures
from openegress.request.options import Options


def overlay_faults(settings: Settings) -> Iterator[Finding]:
    overlays = settings.overlays
    for kind, paths in (("logos", overlays.logos), ("backgrounds", overlays.backgrounds)):
        for name, path in paths.items():
            if why := _why_not(name, path):
                yield Finding(Level.ERROR, f"overlays.{kind}.{name}", why)
    files = PictureFiles(overlays.logos, overlays.backgrounds)
    places: list[tuple[str, Options]] = [("options", settings.options)]
    places += [(f"options.by_room[{number}]", each) for number, each in enumerate(settings.options.by_room)]
    for place, options in places:
        try:
            refuse_unknown_pictures(options, files)
        except EgressError as error:
            yield Finding(Level.ERROR, place, error.message)


def _why_not(name: str, path: str) -> str:
    """The reason why a picture cannot be used; "": it can."""
    try:
        PictureName.parse(name)
    except ValueError as error:
        return f'"{name}" is not {error}'
    if name.lower() in COLOURS:
        return f'"{name}" is the name of a colour: choose another'
    if not path:
        return "needs the path of a picture"
    try:
        read_picture(path)
    except ValueError as error:
        return f"{path} {error}"
    return ""
