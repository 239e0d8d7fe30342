"""JSON from outside (RFC 8259). Pure."""

import json
from collections.abc import Callable
from typing import Any


def loads(text: str | bytes, of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Decodes it. Raises ValueError for invalid JSON, and for JSON that is nested too deeply, for which
    Python raises RecursionError. `of_pairs` makes the objects; a dict keeps only the last of several equal
    keys."""
    try:
        return json.loads(text, object_pairs_hook=of_pairs)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
