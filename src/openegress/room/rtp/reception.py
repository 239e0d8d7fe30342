"""Computes a receiver's reports about an SSRC to its sender (RFC 3550 sections 6.4.1, A.3, A.8). Pure."""

from openegress.core.units import S
from openegress.room.rtp.rtcp import ReportBlock, SenderReport


class Reception:
    """The reception of one SSRC. Times are monotonic ns."""

    def __init__(self) -> None:
        self.counted = 0
        """Packets of the SSRC itself, and its retransmissions that filled a gap."""
        self._last: SenderReport | None = None
        self._last_at_ns = 0
        self._reported_expected = 0
        self._reported_received = 0
        self._jitter = 0.0
        self._transit: int | None = None

    def arrived(self, timestamp: int, arrival_ns: int, clock_rate: int) -> None:
        self.counted += 1
        transit = arrival_ns * clock_rate // S - timestamp
        if self._transit is not None:
            change = abs((transit - self._transit + 0x80000000 & 0xFFFFFFFF) - 0x80000000)
            self._jitter += (change - self._jitter) / 16
        self._transit = transit

    def sender_report(self, report: SenderReport, arrival_ns: int) -> None:
        """Takes a sender report. The sender subtracts the time since then from the round trip it measures, so
        it must be the time of arrival, not that of reading the socket."""
        self._last, self._last_at_ns = report, arrival_ns

    def block(self, ssrc: int, expected: int, highest: int, now_ns: int) -> ReportBlock:
        """The report block for the time since the last one. `expected`: packets so far; `highest`: the
        extended sequence number."""
        interval_expected = expected - self._reported_expected
        interval_lost = interval_expected - (self.counted - self._reported_received)
        self._reported_expected, self._reported_received = expected, self.counted
        fraction = 0
        if interval_expected > 0 and interval_lost > 0:
            fraction = min(255, (interval_lost << 8) // interval_expected)
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=fraction,
            packets_lost=expected - self.counted,
            highest_sequence=highest,
            jitter=int(self._jitter),
            last_report=self._last.ntp_middle if self._last else 0,
            delay=(now_ns - self._last_at_ns) * 65536 // S if self._last else 0,
        )
