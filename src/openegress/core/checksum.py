"""How an object is checked on its way into a store."""

from enum import StrEnum


class Checksum(StrEnum):
    """Of each object and part, sent with it, so that the store refuses what arrived damaged. Object Lock
    buckets take nothing without one."""

    SHA256 = "sha256"
    CRC64NVME = "crc64nvme"
    NONE = "none"
