"""Makes clips: parts of what an output records, or has stored, as separate files."""
