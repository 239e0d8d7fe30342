"""What a Dockerfile says, as values: the part of its language that ours uses."""

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")

STEPS = frozenset({"COPY", "ENTRYPOINT", "ENV", "EXPOSE", "RUN", "USER", "VOLUME", "WORKDIR", "CMD"})


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, its continued lines joined."""

    name: str
    text: str

    def words(self) -> list[str]:
        """Of the JSON form, or as a shell splits them."""
        if self.text.startswith("["):
            found: list[str] = json.loads(self.text)
            return found
        return shlex.split(self.text)

    def pairs(self, environment: dict[str, str]) -> dict[str, str]:
        """Of ENV: NAME=VALUE ..., with $NAME as it was before."""
        named = (word.partition("=") for word in self.words())
        return {name: substituted(value, environment) for name, _, value in named}


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY [--from=STAGE] SOURCE... TARGET"""

    stage: str
    """Empty: the build context."""
    sources: tuple[str, ...]
    target: str

    @classmethod
    def of(cls, step: Step) -> Self:
        words = step.words()
        options = [word for word in words if word.startswith("--")]
        if unknown := [option for option in options if not option.startswith("--from=")]:
            raise ValueError(f"COPY {unknown[0]}: only --from is understood")
        *sources, target = [word for word in words if not word.startswith("--")]
        return cls(options[0].removeprefix("--from=") if options else "", tuple(sources), target)


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM IMAGE [AS NAME] and what follows."""

    image: str
    name: str
    steps: tuple[Step, ...]

    def last(self, name: str) -> Step:
        return [step for step in self.steps if step.name == name][-1]


def parse(text: str) -> list[Stage]:
    """Raises ValueError at an instruction it does not know."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        name, _, rest = line.partition(" ")
        step = Step(name, rest.strip())
        if name == "FROM":
            image, *alias = step.words()
            stages.append(Stage(image, alias[1] if alias else "", ()))
        elif name in STEPS and stages:
            *before, stage = stages
            stages = [*before, Stage(stage.image, stage.name, (*stage.steps, step))]
        else:
            raise ValueError(f"{line}: not understood here")
    return stages


def substituted(text: str, environment: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: environment.get(match[1] or match[2], ""), text)


def ignored(path: PurePosixPath, patterns: list[str]) -> bool:
    """By a .dockerignore: the last line that fits the path, or a folder it is in, decides."""
    result = False
    for line in patterns:
        pattern = line.removeprefix("!")
        if any(_fits(part, pattern) for part in (path, *path.parents) if part.name):
            result = not line.startswith("!")
    return result


def _fits(path: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.name, pattern.removeprefix("**/"))
    return fnmatch.fnmatchcase(str(path), pattern)
