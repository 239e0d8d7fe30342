"""A finding about a configuration."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    ERROR = "error"
    """The service does not start with this configuration."""
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.path}: {self.text}"
