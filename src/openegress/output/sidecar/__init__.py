"""What is kept of a meeting beside its recording.

While it records, all of it goes into one log in the spool. Each sidecar is made of that log in the end, by
whoever finishes the recording: the handler, or a recovery.
"""
