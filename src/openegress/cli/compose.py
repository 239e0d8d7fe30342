"""`openegress compose meeting.mkv film.mp4`: one picture and one sound of a recording of all tracks."""

import argparse
import asyncio
import json
import math
import sys
import time
from pathlib import Path

from openegress.app.compose import ComposeRequest, compose
from openegress.cli import core_files, interrupts
from openegress.cli.errors import Exit
from openegress.cli.quantities import duration_text
from openegress.core.errors import invalid

_MAX_PARTS = 3


def run(arguments: argparse.Namespace) -> int:
    core_files.forbid()
    interrupts.install()
    wish = ComposeRequest(
        source=Path(arguments.recording).absolute(),
        target=Path(arguments.file).absolute(),
        layout=arguments.layout,
        from_s=math.floor(position_s(arguments.begin)) if arguments.begin else 0,
        to_s=position_s(arguments.end) if arguments.end else math.inf,
        preset=arguments.preset,
    )
    shows = sys.stderr.isatty() and not arguments.json
    began_s = time.monotonic()

    def show(done_s: int, all_s: int) -> None:
        if shows:
            print(
                f"\r{duration_text(done_s)} of {duration_text(all_s)} ", end="", file=sys.stderr, flush=True
            )

    try:
        length_s = asyncio.run(compose(wish, show))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    took_s = time.monotonic() - began_s
    if shows:
        print(file=sys.stderr)
    if arguments.json:
        print(
            json.dumps({"file": str(wish.target), "length_s": round(length_s, 3), "took_s": round(took_s, 3)})
        )
    else:
        print(f"{wish.target}: {duration_text(length_s)}, composed in {duration_text(took_s)}")
    return Exit.DONE


def position_s(text: str) -> float:
    """A place in a recording: 90, 10:00 or 1:02:03.5. Raises EgressError."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not 0 < len(numbers) <= _MAX_PARTS or any(not 0 <= number < math.inf for number in numbers):
        raise invalid(f'"{text}" is not a place in a recording: write 90, 10:00 or 1:02:03')
    seconds = 0.0
    for number in numbers:
        seconds = seconds * 60 + number
    return seconds
