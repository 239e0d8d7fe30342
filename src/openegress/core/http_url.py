"""Whether a URL can be that of a web page or a webhook. Pure."""

import re
from urllib.parse import urlsplit

_NOT_IN_URLS = re.compile(r"[\x00-\x1f\x7f]|\A\s|\s\Z")
"""urlsplit() leaves these out, and what connects later does not."""
_NOT_IN_HOSTS = re.compile(r"[\x00-\x20\x7f/\\<>\"`{}|^%]")


def is_http(url: str) -> bool:
    """http or https, with a host that DNS could resolve and a valid port."""
    if _NOT_IN_URLS.search(url):
        return False
    try:
        parts = urlsplit(url)
        # Raises for an invalid port. Browsers read a backslash as the slash after the host.
        has_place = bool(parts.hostname) and parts.port != 0 and "\\" not in parts.netloc
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https")
    return is_web and has_place and _is_host(parts.hostname or "")


def _is_host(host: str) -> bool:
    """Lengths are those of DNS (RFC 1035, section 2.3.4)."""
    if _NOT_IN_HOSTS.search(host):
        return False
    labels = host.removesuffix(".").split(".")
    return len(host) <= 254 and all(0 < len(label) <= 63 for label in labels)
