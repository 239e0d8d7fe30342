"""A recording in one file: written, finished, and recovered after a crash."""
