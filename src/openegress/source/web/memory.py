"""What the processes of a page hold of the machine's memory."""

from openegress.source.memory import own_bytes
from openegress.source.web.process import descendants


def used_bytes(root: int) -> int:
    """Of a process and all below it. What two of them share counts for both."""
    return sum(own_bytes(pid) for pid in (root, *descendants(root)))
