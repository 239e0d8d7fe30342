"""Reads the operator's own layouts, which the configuration has inline or in files."""

import re
from collections.abc import Iterator
from pathlib import Path

from openegress.config.finding import Finding, Level
from openegress.config.settings import Settings
from openegress.core.errors import invalid
from openegress.core.layout_spec import LayoutSpec
from openegress.request import layouts
from openegress.request.layout_file import LayoutFault, LayoutFaults, parse_layout, read_layout

MAX_BYTES = 1_000_000
MAX_LAYOUTS = 50
"""Limit for layouts. Each recording of a room carries all of them, as any of them may be requested while it
runs."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def layouts_of(settings: Settings) -> tuple[LayoutSpec, ...]:
    """Reads all layouts. Raises EgressError for an invalid one."""
    try:
        return tuple(_read(name, tree) for name, tree in settings.layouts.items())
    except LayoutFaults as error:
        raise invalid(f"layouts: {error}") from None


def layout_faults(settings: Settings) -> Iterator[Finding]:
    if len(settings.layouts) > MAX_LAYOUTS:
        yield Finding(
            Level.ERROR, "layouts", f"{len(settings.layouts)} of them; at most {MAX_LAYOUTS} are taken"
        )
    for name, tree in settings.layouts.items():
        path = f"layouts.{name}"
        if not _NAME.fullmatch(name):
            yield Finding(Level.ERROR, path, "is not a name of letters, digits, _, . and -")
        elif name in layouts.LAYOUTS or name == layouts.TRACKS:
            yield Finding(Level.ERROR, path, "is the name of a built-in layout: choose another")
        try:
            spec = _read(name, tree)
        except LayoutFaults as error:
            for fault in error.faults:
                yield Finding(Level.ERROR, path, str(fault))
            continue
        background = spec.background
        if background and not background.startswith("#") and background not in settings.overlays.backgrounds:
            text = f'/background: "{background}" is not one of overlays.backgrounds'
            yield Finding(Level.ERROR, path, text)


def _read(name: str, tree: object) -> LayoutSpec:
    """Reads a layout. Raises LayoutFaults."""
    if not isinstance(tree, str):
        return read_layout(tree, name)
    return read_layout_file(tree, name)


def read_layout_file(path: str, name: str) -> LayoutSpec:
    """Reads a layout from a JSON file. Raises LayoutFaults."""
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise LayoutFaults([LayoutFault("", f"{path} cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise LayoutFaults([LayoutFault("", f"{path} is not UTF-8")]) from None
    if len(data) > MAX_BYTES:
        raise LayoutFaults([LayoutFault("", f"{path} is larger than {MAX_BYTES // 10**6} MB")])
    return parse_layout(text, name)
