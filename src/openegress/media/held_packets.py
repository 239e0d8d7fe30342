"""Holds packets that arrive before the outputs are open."""

from collections.abc import Sequence

from openegress.media import Packet, PacketSink


class HeldPackets:
    """A PacketSink in front of others. One thread feeds it, another opens it once."""

    def __init__(self) -> None:
        self._held: list[Packet] | None = []
        """The packets that arrived so far; None: the outputs are open."""
        self._sinks: Sequence[PacketSink] = ()

    def write(self, packet: Packet) -> None:
        if self._held is not None:
            self._held.append(packet)
            return
        for sink in self._sinks:
            sink.write(packet)

    def open(self, sinks: Sequence[PacketSink]) -> None:
        """Passes on the packets that came before, and all later ones."""
        self._sinks = sinks
        held, self._held = self._held or [], None
        for packet in held:
            self.write(packet)
