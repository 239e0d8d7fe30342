"""Clips: part of what an output records, or has stored, as a separate file."""
