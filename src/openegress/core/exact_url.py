"""URLs sent byte for byte: receivers may sign or compare what they see."""

from yarl import URL


def verbatim(url: str) -> URL:
    """yarl would rewrite its path and query ("%7E" as "~", "%3D" as "="). It may do so only where the URL
    cannot be sent in a request line as it is. Raises ValueError for an invalid URL."""
    return URL(url, encoded=url.isascii() and not any(c.isspace() for c in url))
