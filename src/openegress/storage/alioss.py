"""Alibaba Cloud OSS through its S3-compatible endpoints (https://<bucket>.s3.oss-<region>.aliyuncs.com)."""

import re
from dataclasses import dataclass

from openegress.core.checksum import Checksum
from openegress.core.errors import invalid
from openegress.core.storages import AliOSSStorage
from openegress.storage.failures import FailureKind
from openegress.storage.s3 import static
from openegress.storage.s3_address import Address, address, endpoint_url
from openegress.storage.s3_bucket import S3Access, S3Bucket, S3Traits
from openegress.storage.s3_client import S3Client
from openegress.storage.traits import StoreTraits

OSS_HOST = re.compile(r"(?:s3\.)?oss-(?P<place>[a-z0-9-]+)\.aliyuncs\.com", re.ASCII)
INTERNAL = "-internal"
"""Suffix of endpoints that can be reached only inside Alibaba's network."""


@dataclass(frozen=True, slots=True)
class OSSAddress:
    """The address of an OSS bucket, the region of the signature, and the location in upstream's form."""

    address: Address
    region: str
    location_base: str


def oss_address(bucket: str, endpoint: str, region: str) -> OSSAddress:
    """The address of a bucket. `endpoint` is written as OSS users do (oss-cn-hangzhou.aliyuncs.com, with or
    without scheme); empty: the region's. `region` is with or without "oss-"; empty: the endpoint's."""
    region = region.removeprefix("oss-")
    if not endpoint:
        if not region:
            raise invalid("AliOSS needs an endpoint or a region; set `endpoint: oss-<region>.aliyuncs.com`")
        endpoint = f"oss-{region}.aliyuncs.com"
    url = endpoint_url(endpoint)
    scheme, _, host = url.partition("://")
    known = OSS_HOST.fullmatch(host)
    if known is None:
        at = address(bucket, endpoint)
        return OSSAddress(at, region or "oss", at.location_base)
    place = known["place"]
    at = address(bucket, f"{scheme}://s3.oss-{place}.aliyuncs.com")
    location = f"https://{bucket}.{host.removeprefix('s3.')}"
    return OSSAddress(at, region or place.removesuffix(INTERNAL), location)


def connect(backend: AliOSSStorage) -> S3Bucket:
    """Makes the client and sends nothing yet. Raises EgressError if the backend's fields do not suffice."""
    if not (backend.access_key and backend.secret):
        raise invalid("AliOSS needs access_key and secret")
    at = oss_address(backend.bucket, backend.endpoint, backend.region)

    identity = static(backend.access_key, backend.secret)
    client = S3Client(at.address, backend.bucket, at.region, backend.proxy, identity)
    traits = S3Traits(
        StoreTraits(
            kind=FailureKind.ALIOSS,
            where=f"bucket {backend.bucket!r} at {at.address.endpoint}",
            location=lambda key: f"{at.location_base}/{key}",
            secrets=(backend.secret,),
        )
    )
    return S3Bucket(S3Access(client, Checksum.NONE), traits)
