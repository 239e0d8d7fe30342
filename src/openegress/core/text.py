"""Text from outside, made safe to show: on one line, and of bounded length. Pure."""

import re

MAX_CHARS = 200

_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""Control characters, line ends, marks that reverse the direction of text, lone surrogates: whatever could
make one line of a log look like two, or like another one."""


def shown(text: str, max_chars: int = MAX_CHARS) -> str:
    """`text` with invisible characters escaped, cut to `max_chars`."""
    cut = text if len(text) <= max_chars else text[: max_chars - 1] + "…"
    return _INVISIBLE.sub(_escaped, cut)


def shown_lines(text: str, max_chars: int) -> str:
    """Like shown(), for text that keeps its lines."""
    cut = text if len(text) <= max_chars else text[: max_chars - 1] + "…"
    return "\n".join(shown(line, max_chars) for line in cut.split("\n"))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
