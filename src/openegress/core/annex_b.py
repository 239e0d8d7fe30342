"""NAL units in a byte stream (ITU-T H.264 and H.265, annex B)."""

import re

START_CODE = b"\0\0\0\1"
BEGIN = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
"""A start code and the byte that follows it."""


def units(data: bytes) -> list[bytes]:
    """The NAL units of a stream. A zero in front of a start code belongs to the start code."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:] if unit.rstrip(b"\0")]
