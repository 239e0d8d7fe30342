"""Judges by what arrives whether a connection to a room is alive. Pure; times are loop seconds."""

from collections.abc import Callable
from dataclasses import dataclass

SILENCE_S = 7
"""While media flows, packets are so frequent that the path counts as lost after this long without any."""
IDLE_SILENCE_S = 20
"""Without subscriptions, the server answers only our own checks, about every 5 s, and one answer may be lost
(RFC 7675)."""
RENEWAL_AFTER_S = 1
"""Time without any RTP or RTCP after which a NAT on the way may have forgotten us. While nobody speaks, a
server's reports come every three seconds, and an unneeded check costs nothing."""
ADDRESS_AFTER_S = 2
"""Time without any datagram after which our own address may have disappeared."""
MEDIA_SILENCE_S = 20
"""Limit for the time without any RTP or RTCP, although tracks that are not muted flowed before."""
DEFAULT_PING_INTERVAL_S = 10
DEFAULT_PING_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class PathCounts:
    """The counts of one media path so far."""

    datagrams: int
    packets: int
    """RTP and RTCP."""


class Liveness:
    """Judges one connection. Call look() once a second while the media path is up."""

    def __init__(self, ping_interval_s: float, ping_timeout_s: float) -> None:
        """Takes the times in the server's answer to the join; 0: unknown."""
        self._ping_interval_s = ping_interval_s or DEFAULT_PING_INTERVAL_S
        self._ping_timeout_s = ping_timeout_s or DEFAULT_PING_TIMEOUT_S
        self._heard_at = self._pinged_at = 0.0
        self._counts = PathCounts(-1, -1)
        self._quiet_s = self._media_quiet_s = 0

    def begin(self, now_s: float) -> None:
        """Call it when the media path is up."""
        self._heard_at = self._pinged_at = now_s

    def heard(self, now_s: float) -> None:
        """Call it when a signalling message has arrived."""
        self._heard_at = now_s

    def takes_ping(self, now_s: float) -> bool:
        """Whether to send a ping now; it counts as sent."""
        if now_s - self._pinged_at < self._ping_interval_s:
            return False
        self._pinged_at = now_s
        return True

    def look(
        self, now_s: float, counts: PathCounts, *, expects_media: bool, is_address_gone: Callable[[], bool]
    ) -> str | None:
        """Why the connection is lost; None: it is not. `is_address_gone` is expensive, so it is called only
        when it may be true."""
        self._quiet_s = self._quiet_s + 1 if counts.datagrams == self._counts.datagrams else 0
        is_quiet = counts.packets == self._counts.packets and expects_media
        self._media_quiet_s = self._media_quiet_s + 1 if is_quiet else 0
        self._counts = counts
        if now_s - self._heard_at > self._ping_interval_s + self._ping_timeout_s:
            return f"no signalling message for {now_s - self._heard_at:.0f} s"
        if self._quiet_s >= ADDRESS_AFTER_S and is_address_gone():
            return "this host has lost the address that media came to"
        if self._quiet_s >= (SILENCE_S if expects_media else IDLE_SILENCE_S):
            return f"no packet from the server for {self._quiet_s} s"
        if self._media_quiet_s >= MEDIA_SILENCE_S:
            return f"no media from the server for {self._media_quiet_s} s"
        return None

    @property
    def needs_renewal(self) -> bool:
        """Whether a NAT on the way may have forgotten us, as of the last look()."""
        return self._media_quiet_s >= RENEWAL_AFTER_S
