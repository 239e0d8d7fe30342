"""JSON that others wrote (RFC 8259). Pure."""

import json
from typing import Any


def loads(text: str | bytes, *, names_once: bool = False) -> Any:
    """The value. Raises ValueError for what is no JSON, and for what lies so deep in itself that it cannot be
    read: Python raises RecursionError for that, which is no error of a value. `names_once`: for an object
    with a name that comes twice, too, as nobody could tell which of the two was meant."""
    try:
        return json.loads(text, object_pairs_hook=_object if names_once else None)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return found
