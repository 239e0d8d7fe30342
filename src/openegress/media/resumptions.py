"""Removes pauses from a recording's timeline, packet by packet. Pure."""

from dataclasses import dataclass, replace

from openegress.media import Packet


@dataclass(frozen=True, slots=True)
class Resumption:
    pts_ns: int
    """Time of the first media after the pause."""
    paused_ns: int
    """Total length of all pauses so far."""


class Resumptions:
    """The pauses of one recording, in order."""

    def __init__(self) -> None:
        self._each: list[Resumption] = []

    def note(self, resumption: Resumption) -> None:
        self._each.append(resumption)

    def stamped(self, packets: list[Packet]) -> list[Packet]:
        """Removes the pauses from the packets' times. An encoder may return packets from before a pause only
        after it."""
        return [self.stamped_one(packet) for packet in packets] if self._each else packets

    def stamped_one(self, packet: Packet) -> Packet:
        for each in reversed(self._each):
            if each.pts_ns <= packet.pts_ns:
                return replace(packet, paused_ns=each.paused_ns)
        return packet
