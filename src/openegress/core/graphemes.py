"""Finds where text may be cut without splitting what readers see as one character. Pure.

It follows the boundaries of grapheme clusters in UAX #29. Where the standard needs tables that Python does
not have, it keeps more together than the standard does: whatever a zero width joiner or a virama joins.
"""

import unicodedata

_JOINER = "\u200d"
_VIRAMA = 9
"""The canonical combining class of signs that join two consonants."""
_EXTENDING = ("Mn", "Me", "Mc")
"""Categories of marks, which belong to the letter before them. Variation selectors are among them."""


def is_boundary(text: str, at: int) -> bool:
    """Whether a cluster ends before the character `at`, which is 0 to len(text)."""
    if at in (0, len(text)):
        return True
    before, after = text[at - 1], text[at]
    if _extends(after) or before == _JOINER:
        return False
    if after.isalpha() and _ends_in_virama(text, at):
        return False
    if _is_regional(before) and _is_regional(after):
        return _flags_before(text, at) % 2 == 0
    return not _is_one_syllable(before, after)


def _extends(char: str) -> bool:
    """Marks, joiners, skin tones, the tags of regional flags, and the letters that the standard counts among
    marks."""
    return (
        unicodedata.category(char) in _EXTENDING
        or char in (_JOINER, "\u200c", "\u0e33", "\u0eb3", "\uff9e", "\uff9f")
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _ends_in_virama(text: str, at: int) -> bool:
    """Whether a virama is among the marks right before `at`."""
    while at and _extends(text[at - 1]):
        at -= 1
        if unicodedata.combining(text[at]) == _VIRAMA:
            return True
    return False


def _is_regional(char: str) -> bool:
    """Whether it is one of the letters of which two make a flag."""
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> int:
    """Number of letters of flags that end at `at`."""
    begin = at
    while begin and _is_regional(text[begin - 1]):
        begin -= 1
    return at - begin


def _is_one_syllable(before: str, after: str) -> bool:
    """Whether two characters belong to one Korean syllable."""
    if not _is_jamo(before) and not "가" <= before <= "힣":
        return False
    if "\u1160" <= after <= "\u11ff" or "\ud7b0" <= after <= "\ud7fb":  # vowels and finals
        return True
    return _is_initial(before) and (_is_initial(after) or "가" <= after <= "힣")


def _is_jamo(char: str) -> bool:
    return _is_initial(char) or "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7fb"


def _is_initial(char: str) -> bool:
    return "\u1100" <= char <= "\u115f" or "\ua960" <= char <= "\ua97c"
