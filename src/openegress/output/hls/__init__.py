"""HLS: segments and their playlists, written while they are made, and recovered after a crash."""
