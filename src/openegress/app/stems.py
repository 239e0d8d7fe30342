"""Stems of a meeting: from a recording of all tracks to a file for each voice."""

import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from openegress.core.errors import invalid
from openegress.media.meeting_file import MeetingFile
from openegress.media.stem_file import SILENT_LUFS, LoudnessMeter, StemFile, StemFormat
from openegress.output.spool_file import disk_error
from openegress.request.name_length import cut
from openegress.source.room.stem_mixer import stems, voices

_MOST_NAME_BYTES = 200
"""Of a file's name, before its ending."""
LOUDEST_LUFS, QUIETEST_LUFS = -5.0, -50.0


@dataclass(frozen=True, slots=True)
class Stem:
    identity: str
    path: Path
    lufs: float
    """As it was; minus infinity for one who said nothing."""


def make_stems(source: Path, folder: Path, form: StemFormat, target_lufs: float | None) -> list[Stem]:
    """All are as long as the recording, and begin with it. Blocking. Raises EgressError."""
    check(source, folder, target_lufs)
    file = MeetingFile(source)
    file.refuse_without_tracks()
    if not voices(file):
        raise invalid(f'"{source.name}" has no sound')
    measured = measure(file)
    gains = {
        identity: target_lufs - lufs if target_lufs is not None and lufs > SILENT_LUFS else 0.0
        for identity, lufs in measured.items()
    }
    paths = {identity: folder / name_of(source.stem, identity, form) for identity in measured}
    drafts = {identity: path.with_name(f".{path.name}.part") for identity, path in paths.items()}
    try:
        written = {each: StemFile(drafts[each], form, gains[each]) for each in measured}
        for blocks in stems(file):
            for identity, samples in blocks.items():
                written[identity].write(samples)
        for each in written.values():
            each.close()
        for identity, draft in drafts.items():
            draft.replace(paths[identity])
    except OSError as error:  # FFmpeg's errors of a disk are among them
        raise disk_error(error, folder) from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return [Stem(identity, paths[identity], lufs) for identity, lufs in measured.items()]


def measure(file: MeetingFile) -> dict[str, float]:
    """How loud each voice is, in LUFS."""
    meters = {identity: LoudnessMeter() for identity in voices(file)}
    for blocks in stems(file):
        for identity, samples in blocks.items():
            meters[identity].write(samples)
    for meter in meters.values():
        meter.close()
    return {
        identity: meter.lufs if meter.lufs > SILENT_LUFS else -math.inf for identity, meter in meters.items()
    }


def name_of(recording: str, identity: str, form: StemFormat) -> str:
    """As in meeting.ada.wav; whatever an identity is, the name is one name, and no other's."""
    return cut(f"{recording}.{quote(identity, safe=' @+()')}", _MOST_NAME_BYTES) + f".{form.value}"


def check(source: Path, folder: Path, target_lufs: float | None) -> None:
    """Raises EgressError for what cannot be read, written to or reached."""
    if not source.is_file():
        raise invalid(f'"{source}" is not a file')
    if not folder.is_dir():
        raise invalid(f'"{folder}" is not a folder')
    if target_lufs is not None and not QUIETEST_LUFS <= target_lufs <= LOUDEST_LUFS:
        raise invalid(
            f"--loudness {target_lufs:g} is not a loudness: it lies between {QUIETEST_LUFS:g} (quiet) and "
            f"{LOUDEST_LUFS:g} LUFS, as -16 and -23 do"
        )
