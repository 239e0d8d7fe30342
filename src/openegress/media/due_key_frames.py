"""Key frames that outputs request: a part of a split file and an added stream begin with one."""


class DueKeyFrames:
    """Call ask() from any thread, due() from one."""

    def __init__(self) -> None:
        self._at_ns: list[int] = []

    def ask(self, at_ns: int) -> None:
        """Requests a key frame at that time of the recording, or the first one after it."""
        self._at_ns.append(at_ns)

    def due(self, pts_ns: int) -> bool:
        """Whether one is requested by that time. Each request is due once."""
        due = [at_ns for at_ns in tuple(self._at_ns) if pts_ns >= at_ns]
        for at_ns in due:
            self._at_ns.remove(at_ns)
        return bool(due)
