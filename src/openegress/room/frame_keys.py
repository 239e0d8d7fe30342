"""Derives and ratchets the keys of end-to-end encrypted frames, as LiveKit's SDKs do. Pure.

16 bytes are derived from key material by PBKDF2-HMAC-SHA256 (100,000 rounds) or HKDF-SHA256, with LiveKit's
salt: the AES-128-GCM key. 32 bytes derived in the same way are the material of the next ratchet step
(client-sdk-js, src/e2ee/utils.ts). Both functions begin with the same bytes, whatever the length: one
derivation gives the key and the material of the next step. Times are monotonic ns.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import Executor, Future

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from openegress.core.room_keys import KeyDerivation, RoomKey
from openegress.core.token_bucket import RefillRate, TokenBucket

Buffer = bytes | memoryview

SALT = b"LKFrameEncryptionKey"
ROUNDS = 100_000
HKDF_INFO = bytes(128)
KEY_BYTES = 16
MATERIAL_BYTES = 32
RATCHET_WINDOW = 8
"""The number of steps that a sender may be ahead of the last key that fitted."""
MAX_KEYS_PER_INDEX = 3
"""Keys of one index that are tried: the participant's, the room's, and earlier ones."""
RATCHETS = RefillRate(1, 2 * RATCHET_WINDOW)
"""Limit for derived steps: one takes some 50 ms of CPU time, and any frame can cause one."""


class Undecryptable(Exception):
    """A frame that no key fits. The text says why, and reveals nothing about keys."""

    def __init__(
        self, text: str, *, index: int | None = None, is_certain: bool = True, is_likely: bool = True
    ) -> None:
        """`index` is that of the key that is missing or does not fit. Not `is_certain`: a fitting key may be
        among those that are being derived or requested. Not `is_likely`: none of those fits, unless the
        sender has skipped several steps at once."""
        super().__init__(text)
        self.index = index
        self.is_certain = is_certain
        self.is_likely = is_likely


class KeyChain:
    """One key and its ratchet steps, derived as needed. Everybody with the key shares it."""

    def __init__(self, key: RoomKey, executor: Executor) -> None:
        """`executor` derives keys; its owner closes it."""
        self.key = key
        self.steps: list[AESGCM] = []
        self._executor = executor
        self._ratchets = TokenBucket(RATCHETS)
        self._following: Future[bytes] | None = None
        self._derived = key.material
        """The material that the next step is derived from."""

    def has(self, step: int, now_ns: int) -> bool:
        """Whether all steps up to this one are known. If not, the derivation of the next one begins."""
        while len(self.steps) <= step:
            if self._following is None:
                if self.steps and self._ratchets.left(now_ns) < 1:
                    return False
                if self.steps:
                    self._ratchets.spend(1, now_ns)
                self._following = self._executor.submit(_derive, self.key.derivation, self._derived)
            if not self._following.done():
                return False
            self._derived = self._following.result()
            self._following = None
            self.steps.append(AESGCM(self._derived[:KEY_BYTES]))
        return True


class KeyRing:
    """The keys of one participant, who ratchets them independently of all others."""

    def __init__(self) -> None:
        self._chains: dict[int, tuple[KeyChain, ...]] = {}
        """The keys, by index; the one that fitted last is tried first."""
        self._steps: dict[KeyChain, int] = {}
        """The last step of each key that fitted."""
        self.has_opened = False
        """Whether any frame of the participant could be decrypted."""

    @property
    def is_empty(self) -> bool:
        return not self._chains

    def hold(self, chains: Iterable[KeyChain]) -> None:
        """Replaces the keys, given in the order of their likelihood. Keys that stay continue at their
        step."""
        by_index: dict[int, tuple[KeyChain, ...]] = {}
        for chain in chains:
            known = by_index.get(chain.key.index, ())
            by_index[chain.key.index] = (*known, chain)[:MAX_KEYS_PER_INDEX]
        held = {chain for each in by_index.values() for chain in each}
        self._chains = by_index
        self._steps = {chain: step for chain, step in self._steps.items() if chain in held}

    def prepare(self, now_ns: int) -> None:
        """Begins to derive keys for frames that are about to arrive."""
        for chains in self._chains.values():
            for chain in chains:
                chain.has(0, now_ns)

    def decrypt(self, index: int, iv: Buffer, sealed: Buffer, clear: Buffer, now_ns: int) -> bytes:
        """Decrypts `sealed`, which ends with its tag; `clear` is authenticated with it. Raises
        Undecryptable."""
        chains = self._chains.get(index, ())
        if not chains:
            raise Undecryptable(f"there is no key of index {index}", index=index)
        for chain in chains:
            first = self._steps.get(chain, 0)
            chain.has(first + 1, now_ns)  # nothing is lost when a sender advances by one step
            for step, cipher in enumerate(chain.steps[first : first + RATCHET_WINDOW + 1], first):
                try:
                    plain = cipher.decrypt(iv, sealed, clear)
                except InvalidTag:
                    continue
                self._steps[chain] = step
                self.has_opened = True
                if chain is not chains[0]:
                    self._chains[index] = (chain, *(each for each in chains if each is not chain))
                return plain
        all_tried = [chain.has(self._steps.get(chain, 0) + RATCHET_WINDOW, now_ns) for chain in chains]
        next_tried = [len(chain.steps) > self._steps.get(chain, 0) + 1 for chain in chains]
        derived = all(chain.steps for chain in chains)
        text = f"the key of index {index} {'does not fit' if derived else 'is being derived'}"
        raise Undecryptable(text, index=index, is_certain=all(all_tried), is_likely=all(next_tried))


def _derive(derivation: KeyDerivation, material: bytes) -> bytes:
    """The key of a step, and the material of the next one, which begins with it."""
    match derivation:
        case KeyDerivation.PBKDF2:
            return hashlib.pbkdf2_hmac("sha256", material, SALT, ROUNDS, MATERIAL_BYTES)
        case KeyDerivation.HKDF:
            return HKDF(SHA256(), MATERIAL_BYTES, SALT, HKDF_INFO).derive(material)
