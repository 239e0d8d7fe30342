"""How an object is checked on its way into a store."""

from enum import StrEnum


class Checksum(StrEnum):
    """Of each object and part, sent with it, so that the store refuses what arrived damaged. Object Lock
    buckets take nothing without one."""

    CRC32 = "crc32"
    SHA256 = "sha256"
    MD5 = "md5"
    """Content-MD5, for stores that know nothing newer."""
    NONE = "none"
