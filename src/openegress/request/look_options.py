"""Reads options for the look of a recording: what is drawn over its pictures, and what lies behind them.
Pure."""

from typing import Any, TypeVar

import msgspec

from openegress.core import plan as parts
from openegress.core.block import Block
from openegress.core.decode import near
from openegress.core.errors import EgressError, invalid, unimplemented
from openegress.core.looks import (
    Backdrop,
    Caption,
    Corner,
    CssColour,
    HeightShare,
    Looks,
    Margin,
    PictureFiles,
    PictureName,
    Share,
    Zone,
)


class LookOptions(Block, frozen=True, forbid_unknown_fields=True):
    """The options of one layer. None: the layer leaves it open. An empty text: none, whatever an earlier
    layer says."""

    logo: PictureName | None = None
    """The name of a logo, one of overlays.logos in the configuration."""
    logo_corner: Corner | None = None
    logo_size: HeightShare | None = None
    logo_opacity: Share | None = None
    text: Caption | None = None
    text_corner: Corner | None = None
    text_size: HeightShare | None = None
    clock: Zone | None = None
    recorded_at: Zone | None = None
    recording_dot: bool | None = None
    names: bool | None = None
    """Whether tiles show the names of their participants."""
    speaker_border: CssColour | None = None
    background: Backdrop | None = None
    """The background where there is no tile: a colour, or one of overlays.backgrounds in the
    configuration."""
    safe_margin: Margin | None = None


LOOK_KEYS = LookOptions.__struct_fields__
L = TypeVar("L", bound=LookOptions)
TILE_OPTIONS = ("names", "speaker_border", "background")
"""Options that need to know where people are in the picture."""
STORED_UNCHANGED = "tracks are stored as they come"
NO_PICTURE = "this egress has no picture"


def changed(looks: Looks, options: LookOptions) -> Looks:
    """`looks` with the options applied."""
    said: dict[str, Any] = {key: getattr(options, key) for key in LOOK_KEYS}
    plain = {key: _plain(value) for key, value in said.items() if value is not None}
    return msgspec.structs.replace(looks, **plain)


def refuse_unknown_pictures(options: LookOptions, pictures: PictureFiles) -> None:
    """Raises EgressError for a name that is not configured."""
    for fault in _unknown_pictures(options, pictures).values():
        raise fault


def without_unknown_pictures(options: L, pictures: PictureFiles) -> tuple[L, tuple[str, ...]]:
    """The options without unknown pictures, and a sentence for each name that is not configured."""
    faults = _unknown_pictures(options, pictures)
    told = tuple(f"{fault.message} (ignored)" for fault in faults.values())
    return msgspec.structs.replace(options, **dict.fromkeys(faults)), told


def _unknown_pictures(options: LookOptions, pictures: PictureFiles) -> dict[str, EgressError]:
    """The errors by key."""
    faults = {}
    if options.logo and options.logo not in pictures.logos:
        faults["logo"] = _unknown("logo", options.logo, pictures.logos)
    background = options.background
    if background and not background.startswith("#") and background not in pictures.backgrounds:
        faults["background"] = _unknown("background", background, pictures.backgrounds)
    return faults


def looks_of(
    every: LookOptions, asked: LookOptions, source: parts.Source, pictures: PictureFiles, *, is_drawn: bool
) -> Looks:
    """The looks of a recording of `source`, whose pictures are drawn here or not. `asked` is the request's
    part of `every`. Raises EgressError for what the request asks for and cannot have. What only the
    configuration asks for is left out."""
    refuse_unknown_pictures(every, pictures)
    looks = changed(Looks(), every)
    has_tiles = isinstance(source, parts.LayoutSource)
    if not is_drawn:
        refuse_undrawn(asked, STORED_UNCHANGED if _is_stored(source) else NO_PICTURE)
        return Looks()
    refuse_of_tiles(asked, source)
    if has_tiles:
        return looks
    return msgspec.structs.replace(looks, names=False, speaker_border="", background="")


def refuse_undrawn(asked: LookOptions, why: str) -> None:
    """Raises EgressError for the first requested option: nothing can be drawn."""
    for key in LOOK_KEYS:
        if getattr(asked, key):
            raise invalid(f"{key}: {why}, so nothing can be drawn")


def refuse_of_tiles(asked: LookOptions, source: parts.Source) -> None:
    """Raises EgressError for options that need to know where people are, if `source` is not a room that is
    laid out here."""
    for key in TILE_OPTIONS:
        if getattr(asked, key) and not isinstance(source, parts.LayoutSource):
            raise unimplemented(f"{key} of anything but a room in one of this server's layouts")


def _is_stored(source: parts.Source) -> bool:
    """Whether tracks are stored as they are."""
    is_track = isinstance(source, parts.MediaSource) and bool(source.single_track_id)
    return is_track or isinstance(source, parts.TracksSource)


def _unknown(key: str, name: str, configured: dict[str, str]) -> EgressError:
    there = ", ".join(configured) or "none"
    return invalid(
        f'{key}: "{name}" is not one of overlays.{key}s in this server\'s configuration ({there})'
        f"{near(name, configured)}"
    )


def _plain(value: object) -> object:
    """Converts a value to the type that a plan has."""
    match value:
        case bool() | Corner():
            return value
        case float():
            return float(value)
        case _:
            return "".join(str(value))
