"""A picture of the recording every few seconds."""
