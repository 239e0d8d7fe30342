"""Stems of a meeting: turns a recording of all tracks into a file for each voice."""

from dataclasses import dataclass
from pathlib import Path

from openegress.core.errors import invalid
from openegress.core.loudness_target import LoudnessTarget
from openegress.core.stems import StemFormat, ending
from openegress.media.meeting_file import MeetingFile
from openegress.output.spool_file import disk_error
from openegress.request.name_length import cut
from openegress.source.room.stem_files import gains_db, measured_lufs, write_stems
from openegress.source.room.stem_mixer import voices

_MAX_NAME_BYTES = 200
"""Limit for a file's name, without its ending."""


@dataclass(frozen=True, slots=True)
class Stem:
    identity: str
    path: Path
    lufs: float
    """The loudness as recorded; minus infinity for a participant who said nothing."""


def make_stems(source: Path, folder: Path, form: StemFormat, target_lufs: float | None) -> list[Stem]:
    """All stems are as long as the recording, and begin with it. Makes the folder, but none above it.
    Blocking. Raises EgressError."""
    _check(source, folder, target_lufs)
    file = MeetingFile(source)
    file.refuse_without_tracks()
    identities = voices(file)
    if not identities:
        raise invalid(f'"{source.name}" has no sound')
    paths = {identity: folder / name_of(source.stem, identity, form) for identity in identities}
    drafts = {identity: path.with_name(f".{path.name}.part") for identity, path in paths.items()}
    try:
        folder.mkdir(exist_ok=True)
        measured = measured_lufs(file, file.end_ns)
        gains = gains_db(measured, target_lufs) if target_lufs else {}
        write_stems(file, drafts, form, file.end_ns, gains)
        for identity, draft in drafts.items():
            draft.replace(paths[identity])
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return [Stem(identity, paths[identity], lufs) for identity, lufs in measured.items()]


def name_of(recording: str, identity: str, form: StemFormat) -> str:
    """As in meeting.ada.wav."""
    extension = f".{form.value}"
    whole = f"{recording}{ending(identity, form)}".removesuffix(extension)
    return cut(whole, _MAX_NAME_BYTES) + extension


def _check(source: Path, folder: Path, target_lufs: float | None) -> None:
    """Raises EgressError for a file that cannot be read or written, or a loudness that cannot be reached."""
    if not source.is_file():
        raise invalid(f'"{source}" is not a file')
    above = folder if folder.exists() else folder.parent
    if not above.is_dir():
        raise invalid(f'"{above}" is not a folder')
    if target_lufs is None:
        return
    try:
        LoudnessTarget.parse(f"{target_lufs:g}")
    except ValueError as error:
        raise invalid(f"--loudness {target_lufs:g} is not {error}") from None
