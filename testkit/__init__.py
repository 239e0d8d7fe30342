"""Real parts for tests, benchmarks and the demo: a livekit-server, participants with a known picture and
sound, and a probe that reads both back from recordings."""
