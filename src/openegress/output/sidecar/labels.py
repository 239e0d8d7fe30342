"""Chooses how cues name people. Pure.

People who may change their own name can take somebody else's. Names that look alike are therefore followed by
identities, which nobody chooses in the room.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping


def labels_of(names: Mapping[str, str]) -> dict[str, str]:
    """Returns labels by identity. `names` is by identity too, and names may be empty."""
    labels = {identity: name if name.strip() else identity for identity, name in names.items()}
    for _ in names:  # once, unless a name was chosen to look like another's with an identity
        alike = Counter(map(_looks, labels.values()))
        unclear = [each for each, label in labels.items() if alike[_looks(label)] > 1 and label != each]
        if not unclear:
            break
        labels |= {each: f"{labels[each]} ({each})" for each in unclear}
    return labels


def _looks(label: str) -> str:
    """Returns the same text for names that differ only in case, spaces, width or invisible characters."""
    seen = "".join(
        each for each in unicodedata.normalize("NFKC", label) if unicodedata.category(each)[0] not in "CZ"
    )
    return seen.casefold()
