"""Frames encrypted end to end as client-sdk-js does it, step by step."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SALT = b"LKFrameEncryptionKey"
IV = bytes(range(12))


P = ParamSpec("P")
T = TypeVar("T")


class AtOnce(Executor):
    """Submitted work is done at once."""

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(call(*args, **kwargs))
        return done


def derived(material: bytes, size: int = 16) -> bytes:
    """Derived from a passphrase, or from the previous key material."""
    return hashlib.pbkdf2_hmac("sha256", material, SALT, 100_000, size)


def escaped(data: bytes) -> bytes:
    """writeRbsp, byte by byte."""
    out, zeros = bytearray(), 0
    for byte in data:
        if byte <= 3 and zeros >= 2:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def sealed(
    frame: bytes, clear: int, key: bytes, *, index: int = 0, iv: bytes = IV, nal: bool = False
) -> bytes:
    """`nal`: with emulation prevention after the clear bytes."""
    head = frame[:clear]
    rest = AESGCM(key).encrypt(iv, frame[clear:], head) + iv + bytes((len(iv), index))
    return head + (escaped(rest) if nal else rest)


def sealed_h265(unit: bytes, key: bytes, number: int) -> bytes:
    """An Annex B access unit, in which every start code becomes four bytes long. The key's index is 1."""
    frame = re.sub(rb"(?<!\x00)\x00\x00\x01", b"\0\0\0\1", unit)
    units = re.finditer(rb"\x00\x00\x01(.)", frame, re.DOTALL)
    first = next(each for each in units if each[1][0] >> 1 & 0x3F < 32)
    return sealed(frame, first.end() + 1, key, index=1, iv=number.to_bytes(12), nal=True)
