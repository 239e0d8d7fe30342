"""The base of a plan's parts. Pure."""

import msgspec


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag=False):
    """Frozen; unknown fields are an error, and default values are left out."""
