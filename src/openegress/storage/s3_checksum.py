"""Checksums that S3 is sent with each object and part. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping

from openegress.core.checksum import Checksum


def of(body: bytes | bytearray, checksum: Checksum) -> dict[str, str]:
    """As a parameter of botocore; nothing for none. Of what is given, botocore makes a header; of what it
    computes by itself, a trailer, which other stores than AWS' often do not know."""
    match checksum:
        case Checksum.CRC32:
            name, raw = "ChecksumCRC32", zlib.crc32(body).to_bytes(4, "big")
        case Checksum.SHA256:
            name, raw = "ChecksumSHA256", hashlib.sha256(body).digest()
        case Checksum.MD5:
            name, raw = "ContentMD5", hashlib.md5(body, usedforsecurity=False).digest()
        case Checksum.NONE:
            return {}
    return {name: base64.b64encode(raw).decode()}


def announced(checksum: Checksum) -> dict[str, str]:
    """As a parameter of what begins an upload in parts."""
    return {"ChecksumAlgorithm": algorithm} if (algorithm := _algorithm(checksum)) else {}


def of_part(sent: Mapping[str, str], checksum: Checksum) -> dict[str, str]:
    """What the end of an upload in parts says of one."""
    return dict(sent) if _algorithm(checksum) else {}


def _algorithm(checksum: Checksum) -> str:
    """As S3 names those that it keeps."""
    return "" if checksum in (Checksum.NONE, Checksum.MD5) else checksum.name
