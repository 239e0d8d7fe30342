"""Decides which messages of a handler are accepted. Its decoders read what strangers send, and an attacker
who controls it may send anything. Pure.

The size of a record is bounded here, as everything in it is copied at each change, in the process of all
recordings.
"""

import math
from collections.abc import Iterator

import msgspec

from openegress.core import ipc
from openegress.core.events import FileUpdate, Noticed, OutputFailed, StreamAdded, Thumbnail
from openegress.core.live_streams import AddedTarget

MAX_TEXT_CHARS = 64 * 1024
"""Limit for the characters of one text in a record; errors and names have some hundreds."""
MAX_LOG_CHARS = 1024 * 1024
"""Limit for the characters of one text of the log, or the bytes of a thumbnail."""
MAX_PARTS = 100_000
"""Limit for the parts of a split file; a number has five digits."""
MAX_CLAIMS = 3
"""How often a handler may claim names; a recording and a clip do it once."""
MAX_STREAMS = 10_000
MAX_NOTICE_CHARS = 1024 * 1024
"""Limit for the characters of all notices and failures together."""
MAX_NAME_CHARS = 64 * 1024 * 1024
"""Limit for the characters of the names of all parts and streams together."""


class HandlerMessageCheck:
    """Checks the messages of one handler."""

    def __init__(self, outputs: int) -> None:
        """`outputs` is the number of outputs in its plan."""
        self._outputs = outputs
        self._notice_chars = 0
        self._name_chars = 0
        self._claims = 0
        self._parts = 0

    def check(self, message: ipc.ToWorker) -> None:
        """Raises ValueError for a message that our recorder never sends."""
        most = MAX_LOG_CHARS if isinstance(message, ipc.Log | Thumbnail) else MAX_TEXT_CHARS
        values = list(_values(message))
        lengths = [len(each) for each in values if isinstance(each, str | bytes)]
        if max(lengths, default=0) > most:
            raise ValueError(f"a message with {max(lengths)} characters in a row")
        if not isinstance(message, ipc.Log) and not all(map(_is_finite, values)):
            # JSON cannot represent it, and a metric would keep it permanently.
            raise ValueError("a message with a number that is none")
        chars = sum(lengths)
        output, stream = getattr(message, "output", 0), getattr(message, "stream", 0)
        if not 0 <= output < max(1, self._outputs):
            raise ValueError(f"a message of output {output} of {self._outputs}")
        if not 0 <= stream < MAX_STREAMS:
            raise ValueError(f"a message of stream {stream}")
        match message:
            case Noticed() | OutputFailed():
                self._notice_chars += chars
            case FileUpdate(part=part):
                self._take_part(part, chars)
            case StreamAdded() | AddedTarget():
                self._name_chars += chars
            case ipc.ClaimNames() | ipc.ClaimClip():
                self._claims += 1
        if self._claims > MAX_CLAIMS:
            raise ValueError("more claims of names than any recording makes")
        if self._notice_chars > MAX_NOTICE_CHARS or self._name_chars > MAX_NAME_CHARS:
            raise ValueError("more reports than any recording has")

    def _take_part(self, part: int, chars: int) -> None:
        if not 0 <= part < MAX_PARTS:
            raise ValueError(f"a message of part {part} of a file")
        if part >= self._parts:
            self._parts = part + 1
            self._name_chars += chars


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _values(message: object) -> Iterator[object]:
    """Yields the message's own values, and those in its tables, lists and parts."""
    match message:
        case msgspec.Struct():
            for name in message.__struct_fields__:
                yield from _values(getattr(message, name))
        case dict():
            for each in (*message.keys(), *message.values()):
                yield from _values(each)
        case tuple():
            for each in message:
                yield from _values(each)
        case _:
            yield message
