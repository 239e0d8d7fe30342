"""Makes a file for each voice of a recording of tracks: as long as the recording, and in step with it."""

import math
from collections.abc import Mapping
from pathlib import Path

from openegress.core.stems import StemFormat
from openegress.media.gain_follower import MAX_DB, MIN_DB
from openegress.media.loudness_meter import SILENT_LUFS, LoudnessMeter
from openegress.media.meeting_file import MeetingFile
from openegress.media.stem_file import StemFile
from openegress.output.spool_file import disk_error
from openegress.source.room.stem_mixer import stems, voices


def write_stems(
    file: MeetingFile,
    paths: Mapping[str, Path],
    form: StemFormat,
    length_ns: int,
    gains_db: Mapping[str, float],
) -> None:
    """Writes a file for each voice. `paths`: the files by identity, which are overwritten. Voices missing
    from `gains_db` keep their loudness. Blocking. Raises EgressError."""
    try:
        written = {
            identity: StemFile(path, form, gains_db.get(identity, 0.0)) for identity, path in paths.items()
        }
        for blocks in stems(file, length_ns):
            for identity, samples in blocks.items():
                written[identity].write(samples)
        for each in written.values():
            each.close()
    except OSError as error:  # this includes FFmpeg's disk errors
        raise disk_error(error, next(iter(paths.values()))) from error


def measured_lufs(file: MeetingFile, length_ns: int) -> dict[str, float]:
    """The loudness of each voice, by identity; minus infinity for silent ones. Blocking. Raises
    EgressError."""
    meters = {identity: LoudnessMeter() for identity in voices(file)}
    for blocks in stems(file, length_ns):
        for identity, samples in blocks.items():
            meters[identity].write(samples)
    for meter in meters.values():
        meter.close()
    return {
        identity: meter.lufs if meter.lufs > SILENT_LUFS else -math.inf for identity, meter in meters.items()
    }


def gains_db(measured: Mapping[str, float], target_lufs: float) -> dict[str, float]:
    """The gain that brings each voice to `target_lufs`, within a live gain's limits; silence stays silent."""
    return {
        identity: min(max(target_lufs - lufs, MIN_DB), MAX_DB)
        for identity, lufs in measured.items()
        if not math.isinf(lufs)
    }
