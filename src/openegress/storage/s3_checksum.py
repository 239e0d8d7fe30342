"""Checksums that S3 is sent with each object and part. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

import base64
import hashlib
import zlib
from dataclasses import dataclass

from openegress.core.plan import Checksum


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one body. `value`: in the header's form; "" for none."""

    sha256: str
    value: str


def of(body: bytes | memoryview, checksum: Checksum) -> Sums:
    digest = hashlib.sha256(body)
    match checksum:
        case Checksum.CRC32:
            raw = zlib.crc32(body).to_bytes(4, "big")
        case Checksum.SHA256:
            raw = digest.digest()
        case Checksum.MD5:
            raw = hashlib.md5(body, usedforsecurity=False).digest()
        case Checksum.NONE:
            raw = b""
    return Sums(digest.hexdigest(), base64.b64encode(raw).decode())


def headers(sums: Sums, checksum: Checksum) -> dict[str, str]:
    """Of a request with that body."""
    match checksum:
        case Checksum.NONE:
            return {}
        case Checksum.MD5:
            return {"content-md5": sums.value}
        case _:
            return {f"x-amz-checksum-{checksum}": sums.value}


def announced(checksum: Checksum) -> dict[str, str]:
    """Headers that begin an upload in parts."""
    return {"x-amz-checksum-algorithm": algorithm} if (algorithm := _algorithm(checksum)) else {}


def of_part(value: str, checksum: Checksum) -> str:
    """What the end of an upload in parts says of one."""
    return (
        f"<Checksum{algorithm}>{value}</Checksum{algorithm}>" if (algorithm := _algorithm(checksum)) else ""
    )


def _algorithm(checksum: Checksum) -> str:
    """As S3 names those that it keeps."""
    return "" if checksum in (Checksum.NONE, Checksum.MD5) else checksum.name
