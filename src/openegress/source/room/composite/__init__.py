"""Rooms laid out without a browser: who has a tile, where it lies, who is in focus.

The page in web/template lays out by the same rules; one table of scenes (tests/unit/data/scenes.json) is
checked against both.
"""
