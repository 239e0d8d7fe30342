"""Keys that frames are encrypted with end to end, as LiveKit's SDKs derive and ratchet them. Pure.

16 bytes are derived from key material by PBKDF2-HMAC-SHA256 (100,000 rounds) or HKDF-SHA256, with LiveKit's
salt: the AES-128-GCM key. 32 bytes derived in the same way are the material of the next ratchet step
(client-sdk-js, src/e2ee/utils.ts). Both functions begin with the same bytes however many are asked for: one
derivation gives the key and what follows it. Times are monotonic ns.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, Future

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
MATERIAL_BYTES = 32
RATCHET_WINDOW = 8
"""Steps that a sender may be ahead of the last key that fitted."""
RATCHETS = RefillRate(1, 2 * RATCHET_WINDOW)
"""Steps that are derived: one takes some 50 ms of a processor, and any frame can ask for one."""


class Undecryptable(Exception):
    """A frame that no key fits. The text says why, and reveals nothing of keys."""

    def __init__(self, text: str, *, is_certain: bool = True) -> None:
        """False: a key that fits may be among those that are derived now."""
        super().__init__(text)
        self.is_certain = is_certain


class KeyChain:
    """One key and its ratchet steps, derived as they are needed. All participants share it."""

    def __init__(self, key: RoomKey, executor: Executor) -> None:
        """`executor` derives the steps behind the first; it is its owner's."""
        self._derivation = key.derivation
        self._executor = executor
        self._ratchets = TokenBucket(RATCHETS)
        self._following: Future[bytes] | None = None
        self._derived = _derive(key.derivation, key.material)
        """Of the last step."""
        self.steps = [AESGCM(self._derived[:KEY_BYTES])]

    def has(self, step: int, now_ns: int) -> bool:
        """Whether all steps are known up to this one. If not, the next one is derived meanwhile."""
        if len(self.steps) > step:
            return True
        if self._following is not None and self._following.done():
            self._derived = self._following.result()
            self._following = None
            self.steps.append(AESGCM(self._derived[:KEY_BYTES]))
            return self.has(step, now_ns)
        if self._following is None and self._ratchets.left(now_ns) >= 1:
            self._ratchets.spend(1, now_ns)
            self._following = self._executor.submit(_derive, self._derivation, self._derived)
        return False


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
        first = self._steps[index]
        chain.has(first + 1, now_ns)  # so that nothing is lost when a sender goes on by one step
        last = first + RATCHET_WINDOW
        for step, cipher in enumerate(chain.steps[first : last + 1], first):
            try:
                plain = cipher.decrypt(iv, sealed, clear)
            except InvalidTag:
                continue
            self._steps[index] = step
            self.has_opened = True
            return plain
        is_certain = chain.has(last, now_ns)
        raise Undecryptable(f"the key of index {index} does not fit", is_certain=is_certain)


def _derive(derivation: KeyDerivation, material: bytes) -> bytes:
    """The key of a step, and the material of the next one, which begins with it."""
    match derivation:
        case KeyDerivation.PBKDF2:
            return hashlib.pbkdf2_hmac("sha256", material, SALT, ROUNDS, MATERIAL_BYTES)
        case KeyDerivation.HKDF:
            return HKDF(SHA256(), MATERIAL_BYTES, SALT, HKDF_INFO).derive(material)
