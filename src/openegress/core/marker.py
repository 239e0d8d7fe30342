"""A named point of a recording, set while it runs. Pure."""

import msgspec


class Marker(msgspec.Struct, frozen=True):
    name: str
    at_ns: int
    """On the recording's timeline, which pauses are not on."""
    unix_ns: int

    def earlier(self, by_ns: int) -> "Marker":
        """In a file that begins at `by_ns` of the timeline."""
        return msgspec.structs.replace(self, at_ns=self.at_ns - by_ns)


def in_order(markers: "tuple[Marker, ...]") -> "tuple[Marker, ...]":
    return tuple(sorted(markers, key=lambda each: each.at_ns))
