"""Limits the length of names in each storage, and cuts names to fit.

Values of placeholders are shortened, evenly and between what readers see as characters, and end in a hash of
the full value, so that different names stay different.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from openegress.core.errors import invalid
from openegress.core.graphemes import is_boundary
from openegress.core.storages import AliOSSStorage, Backend, LocalStorage, StoragePlan

T = TypeVar("T")

_HASH_CHARS = 8
_SHORTEST_BYTES = 2 + _HASH_CHARS
"""Minimum length of a value that was cut: "~" and the hash, and a byte to spare."""


@dataclass(frozen=True, slots=True)
class NameLimit:
    """The limits of a storage, in bytes of UTF-8."""

    part_bytes: int
    """Limit for each part between two "/"."""
    path_bytes: int

    def takes(self, path: str) -> bool:
        return len(path.encode()) <= self.path_bytes and all(
            len(part.encode()) <= self.part_bytes for part in path.split("/")
        )


_FILE_SYSTEM = NameLimit(255, 4095)
"""Limits of Linux: NAME_MAX and PATH_MAX without the closing zero."""
_OBJECTS = NameLimit(1024, 1024)
"""Limits for keys of S3 and GCS, and for blob names of Azure (in characters)."""
_OSS_OBJECTS = NameLimit(1023, 1023)


def limit_of(storage: StoragePlan) -> NameLimit:
    """The limits that hold for both the storage, below its prefix, and its backup."""
    limits = [_limit(storage.backend, storage.prefix)]
    if storage.backup is not None:
        limits.append(_limit(storage.backup, storage.backup_prefix))
    return NameLimit(min(each.part_bytes for each in limits), min(each.path_bytes for each in limits))


def _limit(backend: Backend, prefix: str) -> NameLimit:
    match backend:
        case LocalStorage(root):
            limit, above = _FILE_SYSTEM, f"{root}/{prefix}"
        case AliOSSStorage():
            limit, above = _OSS_OBJECTS, prefix
        case _:
            limit, above = _OBJECTS, prefix
    return NameLimit(limit.part_bytes, limit.path_bytes - len(above.encode()) - 1)


@dataclass(frozen=True, slots=True)
class Cut:
    """Shortens text to `longest_bytes`; None: leaves it as it is."""

    longest_bytes: int | None = None

    def text(self, text: str) -> str:
        if self.longest_bytes is None:
            return text
        return "/".join(cut(part, self.longest_bytes) for part in text.split("/"))

    def values(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self.text(value) for name, value in values.items()}


def cut(text: str, longest_bytes: int) -> str:
    """`text`, or at most this many bytes of UTF-8, cut between grapheme clusters and followed by a hash of
    the whole."""
    encoded = text.encode()
    if len(encoded) <= longest_bytes:
        return text
    mark = mark_of(text)
    end = len(encoded[: max(0, longest_bytes - len(mark))].decode(errors="ignore"))
    while not is_boundary(text, end):
        end -= 1
    return text[:end] + mark


def mark_of(text: str) -> str:
    """The suffix of a value that had to change, so that two different values stay different."""
    return "~" + hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]


def fitted(make: Callable[[Cut], T], paths: Callable[[T], Iterable[str]], limit: NameLimit, field: str) -> T:
    """Returns the result of `make` with values that are as long as fits. `paths` are the longest that will be
    written for it. Raises EgressError invalid_argument if the request's own text is too long."""
    whole = make(Cut())
    if all(map(limit.takes, paths(whole))):
        return whole
    shortest, longest = _SHORTEST_BYTES, limit.part_bytes
    best: T | None = None
    while shortest <= longest:
        middle = (shortest + longest) // 2
        made = make(Cut(middle))
        if all(map(limit.takes, paths(made))):
            best, shortest = made, middle + 1
        else:
            longest = middle - 1
    if best is None:
        path = next(path for path in paths(whole) if not limit.takes(path))
        raise invalid(
            f"request has missing or invalid field: {field} ({path[:64]!r}... is too long: the storage takes "
            f"{limit.path_bytes} bytes, and {limit.part_bytes} between two slashes)"
        )
    return best


def squeezed(path: str, limit: NameLimit, ending_bytes: int) -> str:
    """`path` with each part cut that is too long, and the last one so that the whole fits; `ending_bytes` are
    reserved for what follows it."""
    *folders, name = path.split("/")
    above = "".join(f"{cut(part, limit.part_bytes)}/" for part in folders)
    longest_bytes = min(limit.part_bytes, limit.path_bytes - len(above.encode()))
    return above + cut(name, longest_bytes - ending_bytes)
