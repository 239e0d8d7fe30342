"""Measures what a recording costs, on this machine, in the rows of RESULTS.md."""
