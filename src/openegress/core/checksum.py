"""How a store checks an object that arrives."""

from enum import StrEnum


class Checksum(StrEnum):
    """The checksum is sent with each object and part, so that the store refuses damaged ones. Object Lock
    buckets accept nothing without one."""

    CRC32 = "crc32"
    SHA256 = "sha256"
    MD5 = "md5"
    """Content-MD5, for stores that support nothing newer."""
    NONE = "none"
