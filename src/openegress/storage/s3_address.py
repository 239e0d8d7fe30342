"""Finds the address of a bucket in an S3-compatible service, and the form of locations there. Pure."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from openegress.core.errors import invalid
from openegress.core.shown_url import redact_endpoint

DEFAULT_REGION = "us-east-1"
HOST = re.compile(r"[^\x00-\x20\x7f/\\@<>\"`{}|^%]+")

VIRTUAL_HOST_ONLY = ("aliyuncs.com", "myqcloud.com", "volces.com")
"""Services that refuse the bucket's name in the path."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a bucket."""

    endpoint: str
    """URL without trailing slash. Its host contains the bucket if `virtual_host` is set."""
    virtual_host: bool
    location_base: str
    """The beginning of locations: "/" and the key follow."""


def address(bucket: str, endpoint: str = "", region: str = "", force_path_style: bool = False) -> Address:
    """The address of a bucket. On AWS it is a virtual host, except for a bucket with dots, which AWS'
    certificate does not cover. Other endpoints get path style, unless the host already begins with the bucket
    or the service supports only virtual hosts. Raises EgressError for an empty bucket or an invalid
    endpoint."""
    if not bucket:
        raise invalid("S3 bucket is empty; set `bucket`")
    region = region or DEFAULT_REGION
    if not endpoint:
        host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
        service = f"https://{host}"
        if force_path_style:
            return Address(service, False, f"https://s3.amazonaws.com/{bucket}")
        location = f"https://{bucket}.s3.amazonaws.com"
        if "." in bucket:
            return Address(service, False, location)
        return Address(f"https://{bucket}.{host}", True, location)
    url = endpoint_url(endpoint)
    scheme, _, rest = url.partition("://")
    host = urlsplit(url).hostname or ""
    by_path = Address(url, False, f"{url}/{bucket}")
    if force_path_style:
        return by_path
    if host.startswith(f"{bucket}."):
        return Address(url, True, url)
    if is_virtual_host_only(host) or (is_aws(host) and "." not in bucket):
        by_host = f"{scheme}://{bucket}.{rest}"
        return Address(by_host, True, by_host)
    return by_path


def endpoint_url(endpoint: str) -> str:
    """The endpoint with a scheme (https unless given) and without trailing slash. Raises EgressError."""
    url = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
    parts = urlsplit(url)
    try:
        is_address = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:  # a port that is not a number, or too large
        is_address = False
    if not is_address or not HOST.fullmatch(parts.hostname or "") or parts.query or parts.fragment:
        raise invalid(
            f"storage endpoint {redact_endpoint(endpoint)!r} is not an address; write https://host or http://host:port"
        )
    return url


def is_aws(host: str) -> bool:
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def is_virtual_host_only(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.endswith(tuple(f".{domain}" for domain in VIRTUAL_HOST_ONLY))
    return False
