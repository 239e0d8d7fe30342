"""Makes the checksums that are sent to S3 with each object and part. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping

from openegress.core.checksum import Checksum


def of(body: bytes | bytearray, checksum: Checksum) -> dict[str, str]:
    """The checksum of `body` as a parameter for botocore; empty for NONE. botocore sends a given checksum as
    a header. It would send one that it computes itself as a trailer, which many other stores refuse."""
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
    """The parameter for create_multipart_upload; empty for checksums that it does not know."""
    return {"ChecksumAlgorithm": algorithm} if (algorithm := _algorithm(checksum)) else {}


def of_part(sent: Mapping[str, str], checksum: Checksum) -> dict[str, str]:
    """The parameter for one part in complete_multipart_upload."""
    return dict(sent) if _algorithm(checksum) else {}


def _algorithm(checksum: Checksum) -> str:
    """S3's name of a checksum that it stores with the object; "" for others."""
    return "" if checksum in (Checksum.NONE, Checksum.MD5) else checksum.name
