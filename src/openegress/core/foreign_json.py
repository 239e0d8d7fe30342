"""JSON that others wrote (RFC 8259). Pure."""

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """The value. Raises ValueError for what is no JSON, and for what lies so deep in itself that it cannot be
    read: Python raises RecursionError for that, which is no error of a value."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
