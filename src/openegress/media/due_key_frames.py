"""Collects the key frames that outputs request: a part of a split file and an added stream begin with one.
Pure."""

from openegress.core.units import S

AGAIN_NS = S
"""Interval between requests to a publisher, as a request or its answer may be lost."""


class DueKeyFrames:
    """Requested key frames of our encoder. Call ask() from any thread, due() from one."""

    def __init__(self) -> None:
        self._at_ns: list[int] = []

    def ask(self, at_ns: int) -> None:
        """Requests a key frame at that time of the recording, or the first one after it."""
        self._at_ns.append(at_ns)

    def due(self, pts_ns: int) -> int | None:
        """Returns the latest of the requested times up to `pts_ns`; None: there is none. Each is due once."""
        due = [at_ns for at_ns in tuple(self._at_ns) if pts_ns >= at_ns]
        for at_ns in due:
            self._at_ns.remove(at_ns)
        return max(due, default=None)


class PublishersKeyFrames:
    """Key frames that a publisher is asked for repeatedly until one has come. Call ask() from any thread,
    asks() from one."""

    def __init__(self) -> None:
        self._due = DueKeyFrames()
        self._since_ns: int | None = None
        """The time for which no key frame has come yet."""
        self._again_ns = 0

    def ask(self, at_ns: int) -> None:
        self._due.ask(at_ns)

    def asks(self, pts_ns: int, *, is_key: bool) -> bool:
        """Whether the publisher is to be asked when this packet comes."""
        if (at_ns := self._due.due(pts_ns)) is not None:
            self._since_ns, self._again_ns = at_ns, pts_ns
        if self._since_ns is None:
            return False
        if is_key and pts_ns >= self._since_ns:
            self._since_ns = None
            return False
        if pts_ns < self._again_ns:
            return False
        self._again_ns = pts_ns + AGAIN_NS
        return True
