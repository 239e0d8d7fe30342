"""Keys that frames are encrypted with end to end, as LiveKit's SDKs derive and ratchet them. Pure.

An AES-128-GCM key is derived from key material by PBKDF2-HMAC-SHA256 (100,000 rounds) or HKDF-SHA256, with
LiveKit's salt; the material of the next ratchet step is derived from that of the last one in the same way
(client-sdk-js, src/e2ee/utils.ts). Times are monotonic ns.
"""

import hashlib
from collections.abc import Iterator, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from openegress.core.room_keys import KeyDerivation, RoomKey
from openegress.room.budget import RefillRate, TokenBucket

Buffer = bytes | memoryview

SALT = b"LKFrameEncryptionKey"
ROUNDS = 100_000
HKDF_INFO = bytes(128)
KEY_BYTES = 16
RATCHETED_BYTES = 32
RATCHET_WINDOW = 8
"""Steps that a sender may be ahead of the last key that fitted."""
RATCHETS = RefillRate(1, 2 * RATCHET_WINDOW)
"""Steps that are derived: one takes some 50 ms, and any sender can ask for one with any frame."""


class Undecryptable(Exception):
    """A frame that no key fits; the text says why, and tells nothing of keys."""


class KeyChain:
    """One key and its ratchet steps, derived as they are needed. All participants share it."""

    def __init__(self, key: RoomKey) -> None:
        self._derivation = key.derivation
        self._material = key.material
        """Of the last step."""
        self._steps = [self._cipher()]
        self._ratchets = TokenBucket(RATCHETS)

    def window(self, first: int, now_ns: int) -> Iterator[tuple[int, AESGCM]]:
        """Steps from `first` on, with their numbers. One that is not known yet is derived, if there is time
        for it: the others are with the frames that follow."""
        end = first + RATCHET_WINDOW + 1
        yield from enumerate(self._steps[first:end], first)
        if len(self._steps) < end and self._ratchets.left(now_ns) >= 1:
            self._ratchets.spend(1, now_ns)
            self._material = _derive(self._derivation, self._material, RATCHETED_BYTES)
            self._steps.append(self._cipher())
            yield len(self._steps) - 1, self._steps[-1]

    def _cipher(self) -> AESGCM:
        return AESGCM(_derive(self._derivation, self._material, KEY_BYTES))


class KeyRing:
    """The keys of one participant, who ratchets them apart from all others."""

    def __init__(self, chains: Mapping[int, KeyChain]) -> None:
        self._chains = chains
        self._steps = dict.fromkeys(chains, 0)
        """The last step of each key that fitted."""
        self.has_opened = False
        """Some frame of the participant could be decrypted."""

    def decrypt(self, index: int, iv: Buffer, sealed: Buffer, clear: Buffer, now_ns: int) -> bytes:
        """`sealed` ends with its tag, and `clear` is authenticated with it. Raises Undecryptable."""
        chain = self._chains.get(index)
        if chain is None:
            raise Undecryptable(f"there is no key of index {index}")
        for step, cipher in chain.window(self._steps[index], now_ns):
            try:
                plain = cipher.decrypt(iv, sealed, clear)
            except InvalidTag:
                continue
            self._steps[index] = step
            self.has_opened = True
            return plain
        raise Undecryptable(f"the key of index {index} does not fit")


def _derive(derivation: KeyDerivation, material: bytes, size: int) -> bytes:
    match derivation:
        case KeyDerivation.PBKDF2:
            return hashlib.pbkdf2_hmac("sha256", material, SALT, ROUNDS, size)
        case KeyDerivation.HKDF:
            return HKDF(SHA256(), size, SALT, HKDF_INFO).derive(material)
