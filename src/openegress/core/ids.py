"""Ids of egresses. They name folders, files, channels and keys: each is looked at where it comes in."""

import re

from openegress.core.errors import missing_or_invalid
from openegress.core.text import shown

_EGRESS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""livekit-server makes "EG_" and twelve letters or digits; nothing but these characters means anything to a
file system, a channel or a log."""


def is_egress_id(text: str) -> bool:
    return _EGRESS_ID.fullmatch(text) is not None


def check_egress_id(text: str) -> str:
    """The same. Raises EgressError (invalid_argument)."""
    if not text:
        raise missing_or_invalid("egressID")
    if not is_egress_id(text):
        raise missing_or_invalid(f'egressID ("{shown(text, 80)}" may hold letters and digits only)')
    return text
