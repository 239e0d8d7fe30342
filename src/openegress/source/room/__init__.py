"""Records rooms without a browser: which tracks, for how long, and whether unchanged or decoded.

`open` joins the room and decides; the source it returns implements source.PacketSource or source.Source.
"""
