"""Names of a server's enum numbers. Pure."""

from typing import Protocol


class NumberedNames(Protocol):
    """An enum of protobuf."""

    def Name(self, number: int) -> str:
        """Raises ValueError for an unknown number."""


def name_of(enum: NumberedNames, number: int) -> str:
    """In lower case. An unknown number becomes a name too, as a server may be newer than we are."""
    try:
        return enum.Name(number).lower().replace("_", " ")
    except ValueError:
        return f"reason {number}"
