"""Keys of a room whose media is encrypted end to end, on their way to a handler: from the configuration, or
from a user's key service. Pure.

They are not part of a Plan, which is written to disk.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

KEY_RING = 16
"""A frame names the key it is encrypted with by an index below this."""


class KeyDerivation(StrEnum):
    """How the SDKs derive an AES key from what an application gives them."""

    PBKDF2 = "pbkdf2"
    """From a passphrase: what SDKs do with text."""
    HKDF = "hkdf"
    """From random bytes: what client-sdk-js does with an ArrayBuffer."""


class RoomKey(msgspec.Struct, frozen=True):
    """Prints without its key material."""

    index: int
    """In the key ring, from 0 to KEY_RING - 1."""
    material: bytes
    derivation: KeyDerivation = KeyDerivation.PBKDF2
    identities: tuple[str, ...] = ()
    """Patterns of the participants who encrypt with it (core.room_patterns); empty: everybody."""

    def __repr__(self) -> str:
        of = f", identities={self.identities}" if self.identities else ""
        return f"RoomKey(index={self.index}, derivation={self.derivation.value}{of})"


class KeyQuestion(msgspec.Struct, frozen=True):
    """What a recording asks a key service."""

    identities: tuple[str, ...]
    """Whose keys are wanted: participants who encrypt, in order."""
    index: int | None = None
    """The index of a key that is missing or does not fit; None: all keys."""


class KeyAnswer(msgspec.Struct, frozen=True):
    """The answer of a key service. A key replaces an earlier one for the same people and index."""

    keys: tuple[RoomKey, ...] = ()
    refresh_s: float | None = None
    """When to ask again although nothing is missing; None: never."""


class KeyService(Protocol):
    """The key service of one room."""

    async def ask(self, question: KeyQuestion) -> KeyAnswer:
        """Raises EgressError where there is no answer; its message says why."""


@dataclass(frozen=True, slots=True)
class KeySupply:
    """All keys that a recording may use."""

    keys: tuple[RoomKey, ...] = ()
    """The keys from the configuration."""
    service: KeyService | None = None
    """Asked for missing keys."""


NO_KEYS = KeySupply()
