"""Lays out rooms without a browser: who has a tile, where it lies, who is in focus.

The page in web/template uses the same rules; both are checked against one table of scenes
(tests/unit/data/scenes.json).
"""
