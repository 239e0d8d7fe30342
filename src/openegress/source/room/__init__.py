"""Rooms recorded without a browser: which tracks, from when to when, as they are or decoded.

`open` joins and decides; the source it gives implements source.PacketSource or source.Source.
"""
