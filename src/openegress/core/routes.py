"""Which pictures and which data of a room a recording takes, as protocol v1.54.0 selects them. Pure."""

from collections.abc import Sequence
from typing import Literal

import msgspec


class VideoRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Like core.plan.AudioRoute: "all" takes every picture, "any" each track of `track_name`."""

    match: Literal["all", "any", "track", "participant"]
    value: str = ""
    track_name: str = ""
    """Narrows the match to tracks of this name."""
    exclude: bool = False
    """Tracks that match are not even subscribed to, whatever other routes say."""


class DataRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Data that participants send."""

    identity: str = ""
    """The identity of the sender; empty: anybody."""
    topic: str = ""
    """Empty: any."""
    exclude: bool = False
    """Data that matches is not kept, whatever other routes say."""

    def takes(self, identity: str, topic: str) -> bool:
        return self.identity in ("", identity) and self.topic in ("", topic)


def takes_data(routes: Sequence[DataRoute], identity: str, topic: str) -> bool:
    taking = [route for route in routes if route.takes(identity, topic)]
    return bool(taking) and not any(route.exclude for route in taking)
