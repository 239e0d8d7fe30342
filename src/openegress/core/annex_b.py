"""NAL units in a byte stream (ITU-T H.264 and H.265, annex B)."""

import re

START_CODE = b"\0\0\0\1"
BEGIN = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
"""A start code and the first byte behind it."""


def units(data: bytes) -> list[bytes]:
    """Those of a stream. A zero before a start code belongs to that."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:] if unit.rstrip(b"\0")]
