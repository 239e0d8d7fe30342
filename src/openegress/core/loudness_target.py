"""A target loudness in LUFS (EBU R 128), as options and commands write it: -16. Pure."""

LOUDEST_LUFS, QUIETEST_LUFS = -5.0, -50.0
RANGE = f"a loudness between {QUIETEST_LUFS:g} (quiet) and {LOUDEST_LUFS:g} LUFS, as -16 and -23 are"


class LoudnessTarget(float):
    """0: the loudness does not change."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "LoudnessTarget":
        """Raises ValueError, whose text says what it should be, as the end of a sentence."""
        try:
            target = cls(text)
        except ValueError:
            raise ValueError(RANGE) from None
        if target and not QUIETEST_LUFS <= target <= LOUDEST_LUFS:
            raise ValueError(RANGE)
        return target

    def __str__(self) -> str:
        return f"{float(self):.9g}"
