"""A layout of the operator's own: regions of the picture, and who is in each. A part of the plan. Pure."""

from enum import StrEnum

import msgspec

from openegress.core.selectors import Selector


class Who(StrEnum):
    """Whom a region shows, where no selectors say it."""

    SPEAKER = "speaker"
    """The active speaker; a camera, not a screen."""
    ANYONE = "anyone"


class RegionFit(StrEnum):
    AUTO = "auto"
    """Cameras fill the region, except upright ones; screens are shown whole."""
    COVER = "cover"
    CONTAIN = "contain"


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Lengths are parts of the picture's width and height, within it."""

    x: float
    y: float
    w: float
    h: float
    who: Who = Who.ANYONE
    selectors: tuple[Selector, ...] = ()
    """In place of `who`: whoever fits one of them."""
    nth: int = 0
    """Of those whom it may show, in the order in which they came, and whether or not another region has them;
    0: the first ones whom no region before it has."""
    max: int = 1
    """More than one lie in a grid."""
    fit: RegionFit = RegionFit.AUTO
    z: int = 0
    """Regions with more lie over those with less."""


class LayoutSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    regions: tuple[Region, ...]
    """In the order in which they take people."""
    background: str = ""
    """As Looks.background."""
