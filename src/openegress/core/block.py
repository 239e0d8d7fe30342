"""Blocks of the configuration."""

import msgspec


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every block. Each key has a default."""
