"""Signalling between a recorder and its LiveKit server: who is there, and what is published and offered."""
