"""Schedules the requests for one missing packet: when to repeat them, and when to stop. Pure.

A recorder can wait: a packet that arrives a second late is as good as one in time. LiveKit answers at most
three times for a packet, and not sooner than min(100 ms, two round trips) after it was sent, first or again,
so the pauses between requests grow. RequestWindow decides when to send the first one.
"""

from dataclasses import dataclass

from openegress.core.units import MS


@dataclass(frozen=True, slots=True)
class NackPolicy:
    repeat_ns: int = 40 * MS
    """The pause between the first request and the second."""
    growth: float = 1.5
    longest_ns: int = 250 * MS
    patience_ns: int = 1_500 * MS
    """The time from when a packet is found missing until it is given up."""
    most_patience_ns: int = 4_000 * MS
    """Like `patience_ns`, for a packet with fewer than ENOUGH_REQUESTS requests: on a path whose queue is
    full each request takes half a second, and giving up would lose what has already come."""
    outage_packets: int = 25
    """This many missing packets in a row, half a second of sound, mean an outage. After one, retransmissions
    queue up with everything else, so the patience counts only up to the last packet that has come."""
    outage_patience_ns: int = 1_500 * MS
    """Like `patience_ns`, after an outage, while nothing comes."""

    def wait_ns(self, requests: int, answer_ns: int) -> int:
        """The time until the next request, after `requests` have been sent. An answer may take `answer_ns`.
        Each wait is longer than the one before, because livekit-server answers at most three."""
        grown_ns = min(self.longest_ns, int(self.repeat_ns * self.growth ** (requests - 1)))
        return max(grown_ns, answer_ns * (2 + requests) // 3)


ENOUGH_REQUESTS = 4
"""If this many requests do not bring a packet, none will: livekit-server answers three."""
VIDEO = NackPolicy()
AUDIO = NackPolicy(patience_ns=700 * MS, most_patience_ns=700 * MS)
"""The patience is short because a publisher's own network loses packets too. Nobody has those: the server
passes the gaps on, and the packets behind a gap wait for it. Sound that waits for longer than a transcoded
recording waits for a track becomes silence there (source.room.compositor.AUDIO_PATIENCE_NS, less the time of
the way here). This leaves time for six requests, and for round trips of 0.58 s."""


@dataclass(slots=True)
class MissingPacket:
    since_ns: int
    due_ns: int
    """The time of the next request."""
    after_outage: bool = False
    """It is one of NackPolicy.outage_packets or more in a row."""
    requests: int = 0
    asked_ns: int = 0
    """When it was first requested."""
    answer_ns: int = 0
    """Latest time of an answer to the last request."""
