"""URLs sent byte for byte: receivers may sign or compare what they see."""

from yarl import URL


def as_written(url: str) -> URL:
    """yarl would write its path and query anew ("%7E" as "~", "%3D" as "="). That is left to it only where
    the URL cannot stand in a request line as it is. Raises ValueError for what is no URL."""
    return URL(url, encoded=url.isascii() and not any(c.isspace() for c in url))
