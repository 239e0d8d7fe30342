"""What a file is called that is one of several parts of a recording. Pure."""

from openegress.core.codecs import Container
from openegress.core.plan import FileOutput
from openegress.request.name_length import limit_of, squeezed

PART = "{part}"
"""In a path: where the number goes. Without it, it goes behind the name."""


def spool_name(output: FileOutput, part: int, container: Container) -> str:
    """Below the folder of the output; `part` from 0."""
    number = f"-{_number(part)}" if output.split is not None or part else ""
    return f"recording{number}.{container.value}"


def stored_name(output: FileOutput, part: int, name: str) -> str:
    """`name`, which has its extension, as the part is called in the storage. Of a file that is not split, the
    first has no number: others come only where one could not be gone on with."""
    if output.split is None and not part:
        return name
    if output.split is not None and PART in name:
        return name.replace(PART, _number(part))
    stem, dot, extension = name.rpartition(".")
    ending = f"-{_number(part)}{dot}{extension}"
    if output.split is None:
        stem = squeezed(stem, limit_of(output.storage), len(ending))
    return stem + ending


def beside_parts(output: FileOutput, path: str) -> str:
    """The path of what there is once of all parts, where the first part's would be."""
    return path if output.split is None else path.replace(PART, _number(0))


def _number(part: int) -> str:
    return f"{part + 1:05d}"


LONGEST_NUMBER = f"-{10**5}"
"""What a name has to leave room for."""
