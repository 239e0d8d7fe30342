"""`openegress completion bash | zsh | fish`: scripts made from the parser, so they know every option."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from openegress.cli.parser import build_parser


class Value(Enum):
    """What completes an option's value, or a positional argument."""

    NONE = auto()
    TEXT = auto()
    FILE = auto()
    FOLDER = auto()


@dataclass(frozen=True, slots=True)
class Argument:
    names: tuple[str, ...]
    """Empty: a positional argument."""
    help: str
    value: Value
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    path: str
    """"" for the program itself, then "config", "config check"."""
    help: str
    arguments: tuple[Argument, ...]
    verbs: tuple[tuple[str, str], ...]
    """Names of what may follow, with their help texts."""

    @property
    def options(self) -> list[str]:
        return [name for argument in self.arguments for name in argument.names]

    @property
    def positionals(self) -> list[Argument]:
        return [argument for argument in self.arguments if not argument.names]


def run(arguments: argparse.Namespace) -> int:
    commands = list(walk(build_parser()))
    sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[arguments.shell](commands))
    return 0


def walk(parser: argparse.ArgumentParser, path: str = "", about: str = "") -> Iterator[Command]:
    """The parser's command and all below it."""
    arguments: list[Argument] = []
    verbs: list[tuple[str, str]] = []
    below: list[tuple[argparse.ArgumentParser, str, str]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, child in action.choices.items():
                verbs.append((name, helps.get(name, "")))
                below.append((child, f"{path} {name}".strip(), helps.get(name, "")))
        else:
            arguments.append(_argument(action))
    yield Command(path, about, tuple(arguments), tuple(verbs))
    for child, name, child_about in below:
        yield from walk(child, name, child_about)


def _argument(action: argparse.Action) -> Argument:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.nargs == 0:
        value = Value.NONE
    elif metavar == "DIR":
        value = Value.FOLDER
    elif metavar in ("FILE", "REQUEST.json"):
        value = Value.FILE
    else:
        value = Value.TEXT
    choices = tuple(str(choice) for choice in action.choices or ())
    return Argument(tuple(action.option_strings), (action.help or "").replace("\n", " "), value, choices)


# --- bash


def bash(commands: list[Command]) -> str:
    values = [
        f"    {_patterns(command, argument)}) {_bash_values(argument)}; return ;;"
        for command in commands
        for argument in command.arguments
        if argument.names and argument.value is not Value.NONE
    ]
    paths = [f'    "{command.path}"' for command in commands if command.path]
    words = [
        f'    "{command.path}") options="{" ".join(command.options)}"; {_bash_places(command)} ;;'
        for command in commands
    ]
    return f"""# bash completion of openegress; to have it now: source <(openegress completion bash)
_openegress() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  local path="" word next options="" words="" files="" i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    next="${{path:+$path }}$word"
    case "$next" in
{_alternatives(paths)}) path="$next" ;;
    esac
  done
  case "$path:$before" in
{chr(10).join(values)}
  esac
  case "$path" in
{chr(10).join(words)}
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [[ -n "$files" ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}}
complete -F _openegress openegress
"""


def _alternatives(quoted: list[str]) -> str:
    return " | \\\n".join(quoted)


def _patterns(command: Command, argument: Argument) -> str:
    return " | ".join(f'"{command.path}:{name}"' for name in argument.names)


def _bash_values(argument: Argument) -> str:
    if argument.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$current"))'
    match argument.value:
        case Value.FILE:
            return 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current"))'
        case Value.FOLDER:
            return 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$current"))'
        case _:
            return ":"


def _bash_places(command: Command) -> str:
    if command.verbs:
        return f'words="{" ".join(name for name, _ in command.verbs)}"'
    choices = [choice for argument in command.positionals for choice in argument.choices]
    if choices:
        return f'words="{" ".join(choices)}"'
    if any(argument.value is Value.FILE for argument in command.positionals):
        return "files=yes"
    return ":"


# --- zsh


def zsh(commands: list[Command]) -> str:
    functions = "\n".join(_zsh_function(command) for command in commands)
    return f"""#compdef openegress
# zsh completion of openegress; to have it now: source <(openegress completion zsh)
{functions}
if [ "$funcstack[1]" = "_openegress" ]; then
  _openegress "$@"
else
  compdef _openegress openegress
fi
"""


def _zsh_name(path: str) -> str:
    return "_openegress" + "".join(f"_{part.replace('-', '_')}" for part in path.split())


def _zsh_function(command: Command) -> str:
    specs = [_zsh_spec(argument) for argument in command.arguments if argument.names]
    if command.verbs:
        verbs = " ".join(_zsh_quoted(f"{name}:{about}") for name, about in command.verbs)
        cases = "\n".join(
            f"      {name}) {_zsh_name(f'{command.path} {name}'.strip())} ;;" for name, _ in command.verbs
        )
        specs += ["'1: :->verb'", "'*:: :->rest'"]
        return f"""{_zsh_name(command.path)}() {{
  local state line curcontext="$curcontext"
  local -a verbs
  verbs=({verbs})
  _arguments -C {" ".join(specs)}
  case "$state" in
    verb) _describe 'command' verbs ;;
    rest) case "$line[1]" in
{cases}
    esac ;;
  esac
}}"""
    specs += [f"':{_zsh_action(argument)}'" for argument in command.positionals]
    return f"{_zsh_name(command.path)}() {{\n  _arguments {' '.join(specs)}\n}}"


def _zsh_spec(argument: Argument) -> str:
    """One word for each name of the option."""
    about = argument.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
    value = "" if argument.value is Value.NONE else f":{_zsh_action(argument)}"
    return " ".join(_zsh_quoted(f"*{name}[{about}]{value}") for name in argument.names)


def _zsh_action(argument: Argument) -> str:
    if argument.choices:
        return f"value:({' '.join(argument.choices)})"
    return {Value.FILE: "file:_files", Value.FOLDER: "folder:_files -/"}.get(argument.value, "value: ")


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish


def fish(commands: list[Command]) -> str:
    paths = " ".join(_fish_quoted(command.path) for command in commands if command.path)
    lines = [line for command in commands for line in _fish_lines(command)]
    return f"""# fish completion of openegress; to have it now: openegress completion fish | source
function __openegress_at
  set -l path ""
  set -l words (commandline -opc)
  for word in $words[2..-1]
    set -l next (string trim -- "$path $word")
    contains -- "$next" {paths}; and set path "$next"
  end
  test "$path" = "$argv[1]"
end
complete -c openegress -f
{chr(10).join(lines)}
"""


def _fish_lines(command: Command) -> Iterator[str]:
    at = f"complete -c openegress -n {_fish_quoted(f'__openegress_at {_fish_quoted(command.path)}')}"
    for name, about in command.verbs:
        yield f"{at} -a {name} -d {_fish_quoted(about)}"
    for argument in command.arguments:
        about = f" -d {_fish_quoted(argument.help)}" if argument.help else ""
        names = "".join(
            f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in argument.names
        )
        if names or argument.choices or argument.value is Value.FILE:
            yield f"{at}{names}{_fish_value(argument)}{about}"


def _fish_value(argument: Argument) -> str:
    requires = " -x" if argument.names else ""
    if argument.choices:
        return f"{requires} -a {_fish_quoted(' '.join(argument.choices))}"
    match argument.value:
        case Value.FILE:
            return " -r -F" if argument.names else " -F"
        case Value.FOLDER:
            return f"{requires} -a '(__fish_complete_directories)'"
        case Value.TEXT:
            return requires
        case Value.NONE:
            return ""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
