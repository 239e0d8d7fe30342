"""JSON that others wrote (RFC 8259). Pure."""

import json
from collections.abc import Callable
from typing import Any


def loads(text: str | bytes, of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value. Raises ValueError for what is no JSON, and for what lies so deep in itself that it cannot be
    read: Python raises RecursionError for that, which is no error of a value. `of_pairs` makes objects; a
    dict by itself keeps the last of those that have one name."""
    try:
        return json.loads(text, object_pairs_hook=of_pairs)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
