"""Pure domain of an egress: errors, codecs, plan, validation, naming, status transitions. No I/O."""
