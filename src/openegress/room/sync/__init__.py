"""Finds when a listener in the room got each frame: turns RTP times into times of our clock. Arrival decides.

`arrival` keeps the line of a track's quickest packets, and starts a new one when a sender's RTP time stood
still or jumped. `reports` reads from sender reports how a track's RTP time relates to its sender's clock.
`participant` uses that only for the offset between two tracks of one person. Clocks of different people are
never compared: a listener does not compare them either.
"""
