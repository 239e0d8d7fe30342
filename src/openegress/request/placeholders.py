"""Tells of placeholders that stay in the names of files, because nothing is known for them. Pure."""

import re
from collections.abc import Iterator

from openegress.core.plan import FileOutput, ImageOutput, MediaSource, Plan, SegmentOutput
from openegress.core.text import shown
from openegress.request import naming

_PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
"""Matches more than what is ever filled: {roomName} is meant as one too."""
_OF_TRACKS = ("{publisher_identity}", "{track_id}", "{track_type}", "{track_source}")
"""Placeholders that only the room fills, if tracks are recorded as they are."""
_OF_RETRIES = "{retry}"
"""Stays in the name of a first attempt, as in upstream."""
_MAX = 8
"""Limit for the placeholders that are told."""


def unknown(plan: Plan) -> tuple[str, ...]:
    """The notices about placeholders in the names of `plan`. As in upstream, they stay as they are."""
    late = (_OF_RETRIES, *(_OF_TRACKS if isinstance(plan.source, MediaSource) else ()))
    found = dict.fromkeys(each for each in _left(plan) if each not in late)
    return tuple(
        f"{shown(each, 64)} is not known for this request and stays in the file's name"
        for each in list(found)[:_MAX]
    )


def _left(plan: Plan) -> Iterator[str]:
    """Yields the placeholders that the request has not filled."""
    for output in plan.outputs:
        match output:
            case FileOutput():
                left = _PLACEHOLDER.findall(output.filepath)
                yield from (each for each in left if output.split is None or each != naming.PART)
            case SegmentOutput():
                names = (output.directory, output.prefix, output.playlist, output.live_playlist)
                yield from (each for name in names for each in _PLACEHOLDER.findall(name))
            case ImageOutput():
                yield from _PLACEHOLDER.findall(output.directory + output.prefix)
