"""Checks the parts of a request that become headers of an object in S3: metadata, tags and disposition. Pure.

The header fields' grammar is RFC 9110, section 5; limits are those of S3 (User Guide, "Working with object
metadata" and "Categorizing your storage using tags").
"""

import base64
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from openegress.core.errors import EgressError, missing_or_invalid

MAX_METADATA_BYTES = 2048
"""Limit for all names and values together."""
MAX_TAGS = 10
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
MAX_TAGGING = MAX_TAGS * ((MAX_TAG_KEY + MAX_TAG_VALUE) * len("%F0%9F%90%88") + len("=&"))
"""Characters of the longest query string with this many tags."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def metadata(asked: Mapping[str, str]) -> dict[str, str]:
    """Metadata as it is sent in x-amz-meta- headers: names in lower case, as S3 keeps them, and values that
    are not ASCII encoded as S3 wants them (RFC 2047). Raises EgressError invalid_argument, which names the
    key."""
    found: dict[str, str] = {}
    for key, value in asked.items():
        name = key.lower()
        if not _TOKEN.fullmatch(key):
            raise _metadata(key, "a name has letters, digits and -_. only")
        if name in found:
            raise _metadata(key, "given twice, as names are the same in any case")
        if _CONTROL.search(value) or value != value.strip():
            raise _metadata(key, "a value has no line breaks, control characters, or spaces at its ends")
        found[name] = value if value.isascii() else _encoded_word(value)
    size_bytes = sum(len(name) + len(value) for name, value in found.items())
    if size_bytes > MAX_METADATA_BYTES:
        raise missing_or_invalid(f"metadata ({size_bytes} bytes; S3 takes {MAX_METADATA_BYTES})")
    return found


def tags(tagging: str) -> dict[str, str]:
    """Tags from the query string form of the API ("k=v&k2=v2"). Raises EgressError invalid_argument."""
    if not tagging:
        return {}
    if len(tagging) > MAX_TAGGING:
        raise missing_or_invalid(f"tagging ({len(tagging)} characters; S3 takes {MAX_TAGS} tags)")
    try:
        pairs = parse_qsl(tagging, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise missing_or_invalid(
            f"tagging ({tagging[:64]!r} is not a query string; write key=value&key2=value2)"
        ) from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise missing_or_invalid("tagging (a key is given twice)")
    if len(found) > MAX_TAGS:
        raise missing_or_invalid(f"tagging ({len(found)} tags; S3 takes {MAX_TAGS})")
    for key, value in found.items():
        if not 0 < len(key) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE or _CONTROL.search(key + value):
            bounds = f"keys have 1 to {MAX_TAG_KEY} characters, values up to {MAX_TAG_VALUE}"
            raise missing_or_invalid(f"tagging ({key[:64]!r}: {bounds})")
    return found


def tagging_header(tags: Mapping[str, str]) -> str:
    return urlencode(tags, quote_via=quote, safe="")


def disposition(asked: str) -> str:
    """Content-Disposition; "inline" by default. Raises EgressError invalid_argument."""
    if not _FIELD_VALUE.fullmatch(asked):
        raise missing_or_invalid(
            f"content_disposition ({asked[:64]!r} is not ASCII without line breaks; write other characters "
            "percent-encoded, as filename*=UTF-8''...)"
        )
    return asked or "inline"


def _encoded_word(value: str) -> str:
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def _metadata(key: str, why: str) -> EgressError:
    return missing_or_invalid(f"metadata {key[:64]!r} ({why})")
