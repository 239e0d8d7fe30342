"""Ids in the form that LiveKit's servers use, and a check of egress ids that come from outside: they name
folders, files, channels and keys."""

import hashlib
import re
import secrets
import string

from openegress.core.errors import missing_or_invalid
from openegress.core.text import shown

_EGRESS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""livekit-server makes "EG_" and twelve letters or digits. These characters have no special meaning in a file
system, a channel or a log."""


_ALPHABET = string.ascii_letters + string.digits
_CHARS = 12


def new_id(prefix: str) -> str:
    """A new id: the prefix and twelve random letters or digits."""
    return derived_id(prefix, secrets.token_bytes(32))


def derived_id(prefix: str, seed: bytes) -> str:
    """The same id for the same seed."""
    value = int.from_bytes(hashlib.sha256(seed).digest())
    letters = []
    for _ in range(_CHARS):
        value, letter = divmod(value, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return prefix + "".join(letters)


def is_egress_id(text: str) -> bool:
    return _EGRESS_ID.fullmatch(text) is not None


def check_egress_id(text: str) -> str:
    """Returns the id. Raises EgressError (invalid_argument)."""
    if not text:
        raise missing_or_invalid("egressID")
    if not is_egress_id(text):
        raise missing_or_invalid(f'egressID ("{shown(text, 80)}" may hold letters and digits only)')
    return text
