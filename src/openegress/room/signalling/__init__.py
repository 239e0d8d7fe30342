"""What a recorder and its LiveKit server tell each other: who is there, what is published and offered."""
