"""Sends live: RTMP and SRT streams, and sound over websockets."""

from openegress.output.manifest import Records


class StoresNothing:
    """Base of live outputs, which send at once, so that nothing waits."""

    def waiting_uploads(self) -> int:
        return 0

    def records(self) -> Records:
        return Records()

    def is_settled(self) -> bool:
        return True
