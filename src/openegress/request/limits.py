"""Chooses the server's limits for the outputs of a request. Pure."""

from openegress.core import plan as parts
from openegress.core.plan import Limits
from openegress.request.context import SessionLimits


def limits_of(found: tuple[parts.Output, ...], limits: SessionLimits) -> Limits:
    """The shortest limit among the kinds of output in use."""
    durations: list[float] = []
    file_bytes = 0
    for output in found:
        match output:
            case parts.FileOutput():
                durations.append(limits.file_s)
                file_bytes = limits.file_bytes
            case parts.SegmentOutput():
                durations.append(limits.segments_s)
            case parts.ImageOutput():
                durations.append(limits.images_s)
            case parts.StreamOutput() | parts.WebsocketOutput():
                durations.append(limits.stream_s)
    return Limits(
        duration_s=min((seconds for seconds in durations if seconds > 0), default=0.0),
        file_bytes=file_bytes,
    )
