"""Measures the memory that the processes of a page use."""

from openegress.source.memory import process_bytes
from openegress.source.web.process import descendants


def used_bytes(root: int) -> int:
    """The memory of a process and all its descendants. Memory that two of them share counts for both."""
    return sum(process_bytes(pid) for pid in (root, *descendants(root)))
