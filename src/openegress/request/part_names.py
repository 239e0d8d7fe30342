"""Names files that are one of several parts of a recording. Pure."""

from openegress.core.codecs import Container
from openegress.core.plan import FileOutput
from openegress.request.name_length import limit_of, squeezed
from openegress.request.naming import PART


def spool_name(output: FileOutput, part: int, container: Container) -> str:
    """Returns a part's file name below the folder of the output; `part` counts from 0."""
    number = f"-{part_number(part)}" if output.split is not None or part else ""
    return f"recording{number}.{container.value}"


def stored_name(output: FileOutput, part: int, name: str) -> str:
    """Returns the part's name in the storage. `name` has its extension. In a file that is not split, the
    first part has no number: other parts exist only if it could not be continued."""
    if output.split is None and not part:
        return name
    if output.split is not None and PART in name:
        return name.replace(PART, part_number(part))
    stem, dot, extension = name.rpartition(".")
    ending = f"-{part_number(part)}{dot}{extension}"
    if output.split is None:
        stem = squeezed(stem, limit_of(output.storage), len(ending))
    return stem + ending


def beside_parts(output: FileOutput, path: str) -> str:
    """Returns the path of something that exists once for all parts: where the first part's would be."""
    return path if output.split is None else path.replace(PART, part_number(0))


def part_number(part: int) -> str:
    """Returns the number of a part, which counts from 0, as names have it."""
    return f"{part + 1:05d}"


LONGEST_NUMBER = f"-{10**5}"
"""A text of the length that a name must leave free."""
