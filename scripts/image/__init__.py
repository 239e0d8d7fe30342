"""deploy/Dockerfile carried out and tried without a container engine: `python3 -m scripts.image FOLDER`.

Needs root, Debian's apt and debootstrap, npm, and nothing of Python's but its standard library.
"""
