"""Keys of a room whose media is encrypted end to end, on their way to a handler: from the configuration, or
from a key service of the user's. Pure.

They are no part of a Plan, which is written to the disk.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

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
    identities: tuple[str, ...] = ()
    """Patterns of those who encrypt with it (core.room_patterns); (): everybody."""

    def __repr__(self) -> str:
        of = f", identities={self.identities}" if self.identities else ""
        return f"RoomKey(index={self.index}, derivation={self.derivation.value}{of})"


class KeyQuestion(msgspec.Struct, frozen=True):
    """What a recording wants to know of a key service."""

    identities: tuple[str, ...]
    """Whose keys are wanted: people who encrypt, in order."""
    index: int | None = None
    """Of the key that is missing or does not fit; None: all of them."""


class KeyAnswer(msgspec.Struct, frozen=True):
    """What a key service says. A key takes the place of an earlier one of the same people and index."""

    keys: tuple[RoomKey, ...] = ()
    refresh_s: float | None = None
    """When to ask again though nothing is missing; None: there is no need to."""


class KeyService(Protocol):
    """Of one room."""

    async def ask(self, question: KeyQuestion) -> KeyAnswer:
        """Raises EgressError where there is no answer; its message says why."""


@dataclass(frozen=True, slots=True)
class KeySupply:
    """All the keys that a recording can have."""

    keys: tuple[RoomKey, ...] = ()
    """Of the configuration."""
    service: KeyService | None = None
    """Asked for what is missing."""


NO_KEYS = KeySupply()
