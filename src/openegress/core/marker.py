"""A named moment of a recording, set while it runs. Pure."""

from collections.abc import Iterable

import msgspec


class Marker(msgspec.Struct, frozen=True):
    name: str
    at_ns: int
    """On the recording's timeline, pauses excluded."""
    unix_ns: int

    def earlier(self, by_ns: int) -> "Marker":
        """The marker in a file that begins at `by_ns` of the timeline."""
        return msgspec.structs.replace(self, at_ns=self.at_ns - by_ns)


def within(markers: Iterable[Marker], begin_ns: int, end_ns: int | None) -> tuple[Marker, ...]:
    """The markers of one part of the recording, in the part's own time; `end_ns` None: to the end."""
    return tuple(
        each.earlier(begin_ns)
        for each in markers
        if begin_ns <= each.at_ns and (end_ns is None or each.at_ns < end_ns)
    )


def sorted_markers(markers: "tuple[Marker, ...]") -> "tuple[Marker, ...]":
    return tuple(sorted(markers, key=lambda each: each.at_ns))


def spaced(markers: "tuple[Marker, ...]", by_ns: int) -> "tuple[Marker, ...]":
    """Sorted, and at least `by_ns` apart: readers drop a chapter that begins at the same time as another."""
    found: list[Marker] = []
    for each in sorted_markers(markers):
        least_ns = found[-1].at_ns + by_ns if found else 0
        found.append(msgspec.structs.replace(each, at_ns=max(each.at_ns, least_ns)))
    return tuple(found)
