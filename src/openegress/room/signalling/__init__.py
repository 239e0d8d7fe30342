"""Signalling between a recorder and its LiveKit server: participants, published tracks and offers."""
