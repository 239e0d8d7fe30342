"""Keeps data about a meeting beside its recording.

During the recording, everything goes into one log in the spool. At the end each sidecar is made from that
log, by the process that finishes the recording: the handler, or a recovery.
"""
