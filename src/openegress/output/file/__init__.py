"""A recording in one file: written, finished, and finished again after a crash."""
