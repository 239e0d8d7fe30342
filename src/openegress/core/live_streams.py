"""The URLs that a recording sends to, for the worker that takes it over."""

from itertools import count, takewhile
from typing import TypeVar

import msgspec

from openegress.core.events import StreamUpdate
from openegress.core.plan import StreamTarget


class AddedTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="added_target"):
    """A URL that was added to a stream output. A handler reports it, as events have no secrets."""

    output: int
    stream: int
    """As in a StreamUpdate."""
    target: StreamTarget


_Numbered = TypeVar("_Numbered", StreamUpdate, AddedTarget)


class LiveStreams(msgspec.Struct, frozen=True):
    """At one moment. An output is either one of streams or one of websockets."""

    told: tuple[StreamUpdate, ...] = ()
    """The last update of each URL."""
    added: tuple[AddedTarget, ...] = ()

    def with_update(self, update: StreamUpdate) -> "LiveStreams":
        return LiveStreams((*_without(self.told, update), update), self.added)

    def with_target(self, added: AddedTarget) -> "LiveStreams":
        return LiveStreams(self.told, (*_without(self.added, added), added))

    def changed(self, later: "LiveStreams") -> "LiveStreams":
        """With everything that another worker has reported since."""
        whole = self
        for update in later.told:
            whole = whole.with_update(update)
        for added in later.added:
            whole = whole.with_target(added)
        return whole

    def targets(self, output: int, planned: tuple[StreamTarget, ...]) -> tuple[StreamTarget, ...]:
        """All URLs of an output by their number, where `planned` are those of the request."""
        known = dict(enumerate(planned))
        known |= {each.stream: each.target for each in self.added if each.output == output}
        return tuple(known[number] for number in takewhile(known.__contains__, count()))


NO_STREAMS = LiveStreams()


def _without(known: tuple[_Numbered, ...], other: _Numbered) -> tuple[_Numbered, ...]:
    """All but that of the same URL."""
    place = other.output, other.stream
    return tuple(each for each in known if (each.output, each.stream) != place)
