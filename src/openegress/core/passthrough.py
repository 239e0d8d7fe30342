"""Whether a recording stores encoded frames as they are, or encodes them again. Pure."""

from enum import StrEnum


class Passthrough(StrEnum):
    NEVER = "never"
    IF_POSSIBLE = "if_possible"
    """No encoding was asked for: tracks whose codecs every output takes are stored as they are, and others
    are encoded as the plan says."""
    ALWAYS = "always"
    """The outputs decide their container by codec."""
