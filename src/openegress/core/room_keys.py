"""Keys of a room whose media is encrypted end to end, on their way from the configuration to a handler. Pure.

They are no part of a Plan, which is written to the disk.
"""

from enum import StrEnum

import msgspec

KEY_RING = 16
"""A frame says by an index below this which key it is encrypted with."""


class KeyDerivation(StrEnum):
    """How the SDKs make an AES key of what an application gives them."""

    PBKDF2 = "pbkdf2"
    """Of a passphrase: what SDKs do with text."""
    HKDF = "hkdf"
    """Of random bytes: what client-sdk-js does with an ArrayBuffer."""


class RoomKey(msgspec.Struct, frozen=True):
    """Prints without its material."""

    index: int
    """In the key ring, from 0 to KEY_RING - 1."""
    material: bytes
    derivation: KeyDerivation = KeyDerivation.PBKDF2

    def __repr__(self) -> str:
        return f"RoomKey(index={self.index}, derivation={self.derivation.value})"
