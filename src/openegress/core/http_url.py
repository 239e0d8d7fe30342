"""Whether a URL can be that of a web page or a webhook. Pure."""

import re
from urllib.parse import urlsplit

_NOT_IN_HOSTS = re.compile(r"[\x00-\x20\x7f/\\<>\"`{}|^%]")


def is_http(url: str) -> bool:
    """http or https, with a host that DNS could resolve and a valid port."""
    try:
        parts = urlsplit(url)
        # Raises for an invalid port.
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https")
    return is_web and has_place and not _NOT_IN_HOSTS.search(parts.hostname or "")
