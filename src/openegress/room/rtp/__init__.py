"""From RTP packets to whole encoded frames, and the RTCP that asks for what is missing."""
