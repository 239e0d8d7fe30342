"""Records and streams LiveKit rooms, tracks and web pages through LiveKit's Egress API."""
