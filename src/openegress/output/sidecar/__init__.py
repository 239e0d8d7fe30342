"""What is kept of a meeting beside its recording.

While it records, everything goes into one log in the spool. At the end each sidecar is made from that log, by
the process that finishes the recording: the handler, or a recovery.
"""
