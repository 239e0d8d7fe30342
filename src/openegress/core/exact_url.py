"""URLs sent byte for byte: receivers may sign or compare what they see."""

from ipaddress import IPv4Address

from yarl import URL


def verbatim(url: str) -> URL:
    """yarl would rewrite its path and query ("%7E" as "~", "%3D" as "="). It may do so only where the URL
    cannot be sent in a request line as it is. Raises ValueError for an invalid URL, and for a host that
    aiohttp does not connect to: an address of numbers in another form than 192.0.2.1."""
    found = URL(url, encoded=url.isascii() and not any(c.isspace() for c in url))
    if found.host is not None and found.host.replace(".", "").isdigit():
        IPv4Address(found.host)
    return found


def can_be_sent(url: str) -> bool:
    """Whether verbatim() takes it."""
    try:
        verbatim(url)
    except ValueError:
        return False
    return True
