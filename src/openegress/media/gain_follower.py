"""Finds the gain that brings sound to a target loudness, moment by moment. Pure.

It follows speech, and keeps the gain constant in pauses, so that they do not get louder.
"""

import math

MAX_DB, MIN_DB = 24.0, -30.0
"""Limits for the gain. A higher one would drown a distant speaker in the noise of the room."""
_SPEECH_LUFS = -50.0
"""Loudness of the quietest speech: a calm speaker far from a microphone reaches -45."""
_LOUD_LU = -10.0
"""The gate of EBU R 128, relative to recent speech. Quieter sound does not count towards the loudness."""
_PAUSE_LU = -20.0
"""Level relative to recent speech, below which there is a pause. Between _PAUSE_LU and _LOUD_LU is a quieter
speaker, or the end of a word."""
_QUIETER_LU = 0.03
"""Decrease of the loudness for each step in between: it follows a quieter speaker within some seconds, and
ends of words do no harm."""
_BURST_LU = 6.0
"""Limit by which a step counts above recent speech, as a slamming door is not speech."""
_MEMORY_STEPS = 60
"""Steps that the loudness is averaged over: 6 s of speech."""
_SETTLING_STEPS = 50
"""The first 5 s of speech, in which the gain settles."""
_SETTLING_DB, _UP_DB, _DOWN_DB = 0.6, 0.15, 0.3
"""Limits for the change of the gain per step: while it settles, up, and down."""
_TRUSTED_STEPS = 50
"""Steps with speech after which the measured output corrects the gain."""
_MAX_TRIM_DB = 4.0


class GainFollower:
    """Follows the loudness of speech in steps of 100 ms."""

    def __init__(self, target_lufs: float) -> None:
        self._target = target_lufs
        self._heard_lufs = -math.inf
        """Loudness of recent speech."""
        self._steps = 0
        """Steps with speech so far."""
        self.gain_db = 0.0

    def step(self, momentary_lufs: float, made_lufs: float) -> None:
        """Updates the gain. `momentary_lufs`: loudness of the last 400 ms of input. `made_lufs`: loudness of
        all output."""
        if momentary_lufs < max(_SPEECH_LUFS, self._heard_lufs + _PAUSE_LU):
            return
        if momentary_lufs < self._heard_lufs + _LOUD_LU:
            self._heard_lufs -= _QUIETER_LU
        else:
            self._hear(momentary_lufs)
        self._follow(made_lufs)

    def _hear(self, momentary_lufs: float) -> None:
        self._steps += 1
        if self._steps == 1:
            self._heard_lufs = momentary_lufs
            return
        share = 1 / min(self._steps, _MEMORY_STEPS)
        counted = _power(min(momentary_lufs, self._heard_lufs + _BURST_LU))
        self._heard_lufs = 10 * math.log10(_power(self._heard_lufs) * (1 - share) + counted * share)

    def _follow(self, made_lufs: float) -> None:
        trim = 0.0
        if self._steps >= _TRUSTED_STEPS and math.isfinite(made_lufs):
            trim = min(max(2 * (self._target - made_lufs), -_MAX_TRIM_DB), _MAX_TRIM_DB)
        wanted = min(max(self._target - self._heard_lufs + trim, MIN_DB), MAX_DB)
        is_settling = self._steps <= _SETTLING_STEPS
        up, down = (_SETTLING_DB, _SETTLING_DB) if is_settling else (_UP_DB, _DOWN_DB)
        self.gain_db += min(max(wanted - self.gain_db, -down), up)


def _power(lufs: float) -> float:
    return float(10 ** (lufs / 10))
