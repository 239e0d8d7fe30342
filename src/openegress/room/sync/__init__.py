"""When a listener in the room had each frame: RTP times on our clock.

Arrival is the truth. `arrival` keeps the line of a track's quickest packets and begins it anew where a
sender's RTP time stood still or jumped. `reports` reads from sender reports how a track's RTP time relates to
its sender's clock, and `participant` takes from that only how far two tracks of one person lie apart. Clocks
of different people are never compared: a listener does not compare them either."""
