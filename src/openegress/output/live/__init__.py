"""Live outputs: RTMP and SRT streams, and sound over websockets."""

from openegress.output.manifest import Records


class StoresNothing:
    """What live outputs have in common: they send what they make, and nothing of it waits."""

    def waiting_uploads(self) -> int:
        return 0

    def records(self) -> Records:
        return Records()

    def is_settled(self) -> bool:
        return True
