"""Names the enum numbers that a server sends. Pure."""

from typing import Protocol


class NumberedNames(Protocol):
    """An enum of protobuf."""

    def Name(self, number: int) -> str:
        """Raises ValueError for an unknown number."""


def name_of(enum: NumberedNames, number: int) -> str:
    """The name in lower case. An unknown number becomes a name too, because a server may be newer than we
    are."""
    try:
        return enum.Name(number).lower().replace("_", " ")
    except ValueError:
        return f"reason {number}"
