"""From RTP packets to complete encoded frames, and the RTCP that requests missing packets."""
