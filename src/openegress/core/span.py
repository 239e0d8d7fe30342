"""A part of a recording, in its media time: what a caller asks for, and what that resolves to. Pure."""

import math
from dataclasses import dataclass

from openegress.core.errors import EgressError, invalid
from openegress.core.units import MS, S

SHORTEST_NS = 40 * MS
"""One picture at 25 a second."""
LONGEST_NS = 3600 * S
"""The most that one clip may take of the machine's time and disk."""
END_SLACK_NS = 100 * MS
"""How far an end that comes from EgressInfo's rounded length may lie behind the last packet."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin_ns` up to but excluding `end_ns`."""

    begin_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True)
class RequestedSpan:
    """Either the last part of some length, or a begin and an end. None: not given."""

    last_ns: int | None = None
    begin_ns: int | None = None
    end_ns: int | None = None

    def check(self) -> None:
        """Raises EgressError for a wish that no recording could fulfil."""
        if self.last_ns is not None and (self.begin_ns is not None or self.end_ns is not None):
            raise invalid("last: give either last, or from and to")
        if self.last_ns is None and self.begin_ns is None and self.end_ns is None:
            raise invalid('no span: give last ("30s"), or from and to')
        for field, value in (("last", self.last_ns), ("from", self.begin_ns), ("to", self.end_ns)):
            if value is not None and value < 0:
                raise invalid(f"{field}: {shown_s(value)} lies before the start of the recording")
        if self.last_ns is not None:
            _check_length(self.last_ns)
        elif self.end_ns is not None:
            begin_ns = self.begin_ns or 0
            if begin_ns >= self.end_ns:
                raise invalid(f"from: {shown_s(begin_ns)} is not before to, which is {shown_s(self.end_ns)}")
            _check_length(self.end_ns - begin_ns)

    def of(self, length_ns: int) -> Span:
        """The span in a recording of `length_ns`. Raises EgressError."""
        self.check()
        recorded = f"{shown_s(length_ns)} are recorded"
        if self.last_ns is not None:
            if self.last_ns > length_ns + END_SLACK_NS:
                raise invalid(f"last: {shown_s(self.last_ns)} begin before the start; {recorded}")
            span = Span(max(0, length_ns - self.last_ns), length_ns)
        else:
            end_ns = length_ns if self.end_ns is None else self.end_ns
            if end_ns > length_ns + END_SLACK_NS:
                raise invalid(f"to: {shown_s(end_ns)} is beyond the end; {recorded}")
            span = Span(self.begin_ns or 0, min(end_ns, length_ns))
            if span.begin_ns >= length_ns:
                raise invalid(f"from: {shown_s(span.begin_ns)} is beyond the end; {recorded}")
        _check_length(span.length_ns)
        return span


def _check_length(length_ns: int) -> None:
    if length_ns < SHORTEST_NS:
        raise invalid(f"span: {shown_s(length_ns)} hold no picture; {shown_s(SHORTEST_NS)} is the least")
    if length_ns > LONGEST_NS:
        raise invalid(f"span: {shown_s(length_ns)} is longer than a clip may be, {shown_s(LONGEST_NS)}")


_MAX_PARTS = 3


def position_ns(text: str, field: str) -> int:
    """A position in a recording: 90, 90.5, 10:00 or 1:02:03.5. Raises EgressError whose text begins with
    `field`."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not 0 < len(numbers) <= _MAX_PARTS or not all(map(math.isfinite, numbers)):
        raise _no_place(text, field)
    if text.startswith("-") or any(number < 0 for number in numbers):
        raise invalid(f"{field}: {text[:64]} lies before the start of the recording")
    seconds = 0.0
    for number in numbers:
        seconds = seconds * 60 + number
    if seconds > _LATEST_S:
        raise _no_place(text, field)
    return round(seconds * S)


_LATEST_S = 10_000_000.0
"""Four months: no recording is longer, and calculations with it stay exact."""


def _no_place(text: str, field: str) -> EgressError:
    return invalid(f'{field}: "{text[:64]}" is not a place in a recording: write 90, 10:00 or 1:02:03.5')


def shown_s(ns: int) -> str:
    return f"{ns / S:.3f}".rstrip("0").rstrip(".") + " s"
