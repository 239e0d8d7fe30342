"""Names of what a server says in numbers. Pure."""

from typing import Protocol


class NumberedNames(Protocol):
    """An enum of protobuf."""

    def Name(self, number: int) -> str:
        """Raises ValueError for a number that it does not know."""


def name_of(enum: NumberedNames, number: int) -> str:
    """In lower case, in words. A server that is newer than we are may have more of them."""
    try:
        return enum.Name(number).lower().replace("_", " ")
    except ValueError:
        return f"reason {number}"
