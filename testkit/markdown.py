"""Markdown as tests of the documentation read it: fenced blocks, code spans, links and tables."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md")),
]
"""All texts for readers except the changelog, which also names what was removed."""

_FENCE = re.compile(r"^( *)```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_ANY_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its title, and its text without the indentation of a tab."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(paths: list[Path]) -> list[Block]:
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            body = textwrap.dedent(match[4])
            found.append(Block(str(path.relative_to(ROOT)), line, match[2], match[3] or "", body))
    return found


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return _ANY_FENCE.sub("", path.read_text(encoding="utf-8"))


def code_spans(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(path))


def table(path: Path, first_cell: str) -> list[list[str]]:
    """The rows of the table whose header begins with `first_cell`, without backticks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def commands(block: Block) -> list[str]:
    """The commands of a shell block: one each, continued and quoted lines joined, without comments."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    joined = re.sub(r"'[^']*'", lambda quoted: re.sub(r"\n\s*", " ", quoted[0]), joined)
    return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]
