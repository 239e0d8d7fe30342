"""An operator's own layout: regions of the picture, and who is in each. Part of the plan. Pure."""

from enum import StrEnum

import msgspec

from openegress.core.selectors import Selector


class Who(StrEnum):
    """Whom a region shows, unless selectors say so."""

    SPEAKER = "speaker"
    """The active speaker; a camera, not a screen."""
    ANYONE = "anyone"


class RegionFit(StrEnum):
    AUTO = "auto"
    """Cameras fill the region, except portrait ones; screens are shown whole."""
    COVER = "cover"
    CONTAIN = "contain"


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Lengths are fractions of the picture's width and height."""

    x: float
    y: float
    w: float
    h: float
    who: Who = Who.ANYONE
    selectors: tuple[Selector, ...] = ()
    """Instead of `who`: everybody who matches one of them."""
    nth: int = 0
    """The position among those whom the region may show, in order of arrival and regardless of other regions;
    0: the first ones that no earlier region shows."""
    max: int = 1
    """Several people share the region in a grid."""
    fit: RegionFit = RegionFit.AUTO
    z: int = 0
    """Regions with a higher value cover those with a lower one."""


class LayoutSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    regions: tuple[Region, ...]
    """The regions in the order in which they are filled."""
    background: str = ""
    """Like Looks.background."""
