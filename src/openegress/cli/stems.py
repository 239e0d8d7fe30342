"""`openegress stems meeting.mkv`: writes each voice of a recording of all tracks to a file of its own."""

import argparse
import json
import math
from pathlib import Path

from openegress.app.stems import make_stems
from openegress.cli import core_files, interrupts
from openegress.cli.errors import Exit
from openegress.core.stems import StemFormat


def run(arguments: argparse.Namespace) -> int:
    core_files.forbid()
    interrupts.install()
    source = Path(arguments.recording).absolute()
    folder = Path(arguments.folder).absolute() if arguments.folder else source.parent
    try:
        made = make_stems(source, folder, StemFormat(arguments.format), arguments.loudness)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    if arguments.json:
        told = [
            {
                "identity": stem.identity,
                "file": str(stem.path),
                "lufs": None if math.isinf(stem.lufs) else round(stem.lufs, 1),
            }
            for stem in made
        ]
        print(json.dumps(told))
        return Exit.DONE
    for stem in made:
        loud = "silent" if math.isinf(stem.lufs) else f"was {stem.lufs:.1f} LUFS"
        print(f"{stem.path}: {loud}")
    return Exit.DONE
