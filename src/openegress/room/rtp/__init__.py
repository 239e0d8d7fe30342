"""Turns RTP packets into complete encoded frames, and writes the RTCP that requests missing packets."""
