"""Records HLS: segments and their playlists, stored while they are made, and recovered after a crash."""
