"""Arguments of every command. A command's module is imported only when it runs."""

import argparse
from collections.abc import Callable
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, NoReturn

from openegress.cli import flags
from openegress.cli.errors import STATUSES, Exit

TYPES = ("room-composite", "web", "participant", "track-composite", "track", "egress")
LEVELS = ("debug", "info", "warn", "error")
SHELLS = ("bash", "zsh", "fish")

GROUPS = {
    "services": ("serve", "worker"),
    "recording without a service": ("record", "compose", "stems"),
    "requests to a service": ("start", "list", "stop", "update-layout", "update-stream", "token"),
    "while a recording runs": ("pause", "resume", "set", "marker", "clip"),
    "layouts": ("layout", "test-template"),
    "set-up": ("doctor", "config", "completion"),
}
"""The commands as `openegress --help` lists them."""

PRESETS = "0: 1280x720 at 30 frames a second (default), 1: at 60, 2 and 3: 1920x1080, 4 to 7: upright"


class Parser(argparse.ArgumentParser):
    """Reports wrong use in one line, and lists the exit statuses below the options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(epilog=STATUSES, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.WRONG_USE, f"{self.prog}: {message}; see {self.prog} --help\n")


class ProgramParser(Parser):
    """Lists the commands in groups."""

    def format_help(self) -> str:
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        about = {
            each.dest: each
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for each in action._choices_actions
        }
        for title, names in GROUPS.items():
            formatter.start_section(title)
            formatter.add_arguments([about[name] for name in names])
            formatter.end_section()
        formatter.start_section("options")
        formatter.add_arguments([action for action in self._actions if action.option_strings])
        formatter.end_section()
        formatter.add_text("openegress COMMAND --help explains a command")
        formatter.add_text(STATUSES)
        return formatter.format_help()


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[Parser]


def build_parser() -> argparse.ArgumentParser:
    parser = ProgramParser(
        prog="openegress", description="Records and streams LiveKit rooms, tracks and web pages."
    )
    parser.add_argument("--version", action="version", version=metadata.version("openegress"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _servers(commands)
    _record(commands)
    _compose(commands)
    _stems(commands)
    _requests(commands)
    _changes(commands)
    _token(commands)
    _template(commands)
    _layout(commands)
    _checks(commands)
    completion = _add(commands, "completion", help="print a script that completes this command")
    completion.add_argument("shell", choices=SHELLS, help="the shell that the script is for")
    completion.set_defaults(run=_later("completion"))
    return parser


def _add(commands: "Commands", name: str, *, help: str) -> Parser:
    return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")


def _servers(commands: "Commands") -> None:
    serve = _add(commands, "serve", help="run the Egress API, its pages and a worker in one process")
    flags.add_config(serve)
    flags.add_livekit(serve)
    flags.add_listen(serve)
    flags.add_folders(serve)
    serve.set_defaults(run=_later("serve", "serve"))

    worker = _add(commands, "worker", help="run a worker behind a livekit-server, over Redis")
    flags.add_config(worker)
    flags.add_livekit(worker)
    flags.add_folders(worker)
    worker.set_defaults(run=_later("serve", "worker"))


def _record(commands: "Commands") -> None:
    record = _add(commands, "record", help="record a page or a room, without a service")
    record.add_argument("source", metavar="SOURCE", help="https://... or room:NAME")
    record.add_argument("file", metavar="FILE", help="out.mp4; out.ogg, out.mp3: sound; out.mkv: all tracks")
    record.add_argument("--duration", help="30s, 1m30s; by default until Ctrl-C or the room's end")
    record.add_argument(
        "--layout", default="", help="grid, speaker, single-speaker, each also -light, -dark; or tracks"
    )
    _add_preset(record)
    record.add_argument("--audio-only", action="store_true", help="record no picture")
    record.add_argument("--video-only", action="store_true", help="record no sound")
    record.add_argument("--log-level", choices=LEVELS, default="warn", help="what is logged (default warn)")
    flags.add_json(record, "the whole record at the end, as in the API")
    flags.add_config(record)
    flags.add_livekit(record)
    record.set_defaults(run=_later("record"))


def _compose(commands: "Commands") -> None:
    compose = _add(commands, "compose", help="make one film of a recording of all tracks")
    compose.add_argument("recording", metavar="RECORDING.mkv", help="as recorded with layout tracks")
    compose.add_argument("file", metavar="FILE.mp4", help="the film")
    compose.add_argument(
        "--layout", default="grid", help="grid (default), speaker, single-speaker, each also -light, -dark"
    )
    compose.add_argument("--from", dest="begin", metavar="WHERE", help="90, 10:00, 1:02:03; to the second")
    compose.add_argument("--to", dest="end", metavar="WHERE", help="as --from; by default the end")
    _add_preset(compose, default=0)
    flags.add_json(compose, '{"file", "length_s", "took_s"}')
    compose.set_defaults(run=_later("compose"))


def _stems(commands: "Commands") -> None:
    stems = _add(commands, "stems", help="write each voice of a recording of all tracks to a file of its own")
    stems.add_argument("recording", metavar="RECORDING.mkv", help="as recorded with layout tracks")
    stems.add_argument("folder", metavar="FOLDER", nargs="?", help="by default that of the recording")
    stems.add_argument(
        "--format", choices=("wav", "flac", "opus"), default="wav", help="of the files (default wav)"
    )
    stems.add_argument(
        "--loudness", type=float, metavar="LUFS", help="that each voice is brought to: -16, -23"
    )
    flags.add_json(stems, 'a list of {"identity", "file", "lufs"}')
    stems.set_defaults(run=_later("stems"))


def _requests(commands: "Commands") -> None:
    start = _add(commands, "start", help="start an egress from a JSON request")
    start.add_argument("request", metavar="REQUEST.json", help="a file, or - for standard input")
    start.add_argument(
        "--type", choices=TYPES, default="room-composite", help="of the request (default room-composite)"
    )
    start.set_defaults(run=_later("client", "start"))

    listing = _add(commands, "list", help="list egresses")
    listing.add_argument("--id", action="append", help="only this one; may be repeated")
    listing.add_argument("--room", help="only those of this room")
    listing.add_argument("-a", "--active", action="store_true", help="only running ones")
    listing.add_argument("--limit", type=int, default=0, help="at most this many (default 0: all)")
    listing.add_argument("--watch", action="store_true", help="refresh every two seconds, until Ctrl-C")
    listing.set_defaults(run=_later("client", "list_egresses"))

    stop = _add(commands, "stop", help="stop egresses")
    flags.add_egress(stop, many=True)
    stop.set_defaults(run=_later("client", "stop"))

    layout = _add(commands, "update-layout", help="change the layout of a room composite")
    flags.add_egress(layout)
    layout.add_argument("--layout", required=True, help="speaker, speaker?text=Part%%202, @pause ...")
    layout.set_defaults(run=_later("client", "update_layout"))

    stream = _add(commands, "update-stream", help="add or remove stream URLs")
    flags.add_egress(stream)
    stream.add_argument("--add-urls", action="append", metavar="URL", help="may be repeated")
    stream.add_argument("--remove-urls", action="append", metavar="URL", help="may be repeated")
    stream.set_defaults(run=_later("client", "update_stream"))

    for command in (start, listing, stop, layout, stream):
        _add_service(command)


def _changes(commands: "Commands") -> None:
    """Commands for a recording that runs."""
    pause = _add(commands, "pause", help="pause a recording: the time until resume is left out")
    flags.add_egress(pause)
    pause.set_defaults(run=_later("client", "pause"))

    resume = _add(commands, "resume", help="resume a paused recording")
    flags.add_egress(resume)
    resume.set_defaults(run=_later("client", "resume"))

    change = _add(commands, "set", help="change options of a running recording")
    change.add_argument("id", metavar="ID", help="of the egress")
    change.add_argument("options", metavar="KEY=VALUE", nargs="+", help="max_duration=2h, max_size=5GB ...")
    change.set_defaults(run=_later("client", "set_options"))

    marker = _add(commands, "marker", help="name a moment of a running recording")
    marker.add_argument("id", metavar="ID", help="of the egress")
    marker.add_argument("name", metavar="NAME", help="becomes the title of a chapter")
    marker.add_argument("--ago", default="", help="10s: how long ago the moment was")
    marker.set_defaults(run=_later("client", "marker"))

    clip = _add(commands, "clip", help="store part of a recording, even while it runs")
    clip.add_argument("id", metavar="ID", help="of the egress")
    clip.add_argument("file", metavar="FILE", help="in the storage of the egress, as {from}-{to}.mp4")
    clip.add_argument("--last", default="", help="30s, 2m: what was recorded last")
    clip.add_argument("--from", dest="begin", default="", metavar="WHERE", help="90, 10:00, 1:02:03.5")
    clip.add_argument("--to", dest="end", default="", metavar="WHERE", help="as --from")
    clip.set_defaults(run=_later("client", "clip"))

    for command in (pause, resume, change, marker, clip):
        _add_service(command)


def _token(commands: "Commands") -> None:
    token = _add(commands, "token", help="print a token for the API and the dashboard")
    token.add_argument("--valid-for", default="6h", metavar="DURATION", help="30m, 12h (default 6h)")
    flags.add_key(token.add_argument_group("key"))
    token.set_defaults(run=_later("token"))


def _template(commands: "Commands") -> None:
    template = _add(commands, "test-template", help="see what a template looks like in a recording")
    template.add_argument("--base-url", required=True, metavar="URL", help="of the template")
    template.add_argument("--layout", default="", help="what the template gets as its layout")
    template.add_argument("--publishers", type=int, required=True, metavar="N", help="participants to show")
    template.add_argument("--room", default="", help="an existing room; by default a new one")
    template.add_argument("--no-open", action="store_true", help="print the URL, and open no browser")
    flags.add_config(template)
    flags.add_livekit(template)
    template.set_defaults(run=_later("template"))


def _layout(commands: "Commands") -> None:
    layout = _add(commands, "layout", help="preview layouts")
    verbs = layout.add_subparsers(required=True, metavar="VERB")
    preview = _add(verbs, "preview", help="draw a layout with people in it, without a room")
    preview.add_argument("layout", metavar="LAYOUT", help="a JSON file, or the name of a layout")
    preview.add_argument("out", metavar="OUT.png", help="the picture")
    preview.add_argument("--people", type=int, default=4, metavar="N", help="how many there are (default 4)")
    preview.add_argument("--speaker", type=int, default=0, metavar="N", help="who speaks, from 1; 0: nobody")
    preview.add_argument("--screen", action="store_true", help="the first one shares a screen")
    preview.add_argument("--size", default="1280x720", metavar="WxH", help="of the picture (1280x720)")
    preview.add_argument(
        "--options", default="", metavar="QUERY", help="how it looks: names=true&text=Lesson%%203"
    )
    flags.add_config(preview)
    preview.set_defaults(run=_later("layout", "preview"))


def _checks(commands: "Commands") -> None:
    doctor = _add(commands, "doctor", help="check this machine and its configuration")
    flags.add_json(doctor, 'a list of {"name", "ok", "text"}')
    flags.add_config(doctor)
    flags.add_livekit(doctor)
    flags.add_folders(doctor)
    doctor.set_defaults(run=_later("doctor"))

    config = _add(commands, "config", help="check or print the configuration")
    verbs = config.add_subparsers(required=True, metavar="VERB")
    check = _add(verbs, "check", help="say what is wrong, and which keys have no effect")
    flags.add_json(check, 'a list of {"level", "path", "text"}')
    flags.add_config(check)
    check.set_defaults(run=_later("config", "check"))
    reference = _add(verbs, "reference", help="print every key with its default and its meaning")
    reference.set_defaults(run=_later("config", "reference"))


def _add_preset(parser: Parser, default: int | None = None) -> None:
    parser.add_argument("--preset", type=int, default=default, choices=range(8), metavar="0-7", help=PRESETS)


def _add_service(command: Parser) -> None:
    """Adds where the request goes, and how its answer is printed."""
    flags.add_json(command, "whole records, as in the API")
    flags.add_server(command)


def _later(module: str, function: str = "run") -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        status: int = getattr(import_module(f"openegress.cli.{module}"), function)(arguments)
        return status

    return run
