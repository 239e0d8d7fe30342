"""Rooms recorded without a browser: which tracks, for how long, and whether as they are or decoded.

`open` joins and decides; the source that it returns implements source.PacketSource or source.Source.
"""
