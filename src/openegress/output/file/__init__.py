"""Records to a file: writes, finishes, and recovers it after a crash."""
