"""Chooses the simulcast or SVC layer to request. Pure."""

from collections.abc import Iterable

from livekit.protocol.models import VideoLayer
from livekit.protocol.models import VideoQuality as LayerQuality

from openegress.room import VideoQuality


def choose(layers: Iterable[VideoLayer], wanted: VideoQuality) -> LayerQuality:
    """The smallest layer that is at least as large as wanted, or else the largest. The longer sides are
    compared with each other, and the shorter ones: phones rotate."""
    usable = [each for each in layers if each.quality != LayerQuality.OFF and each.width and each.height]
    if not usable or not (wanted.width and wanted.height):
        return LayerQuality.HIGH
    short, long = sorted((wanted.width, wanted.height))
    ranked = sorted(usable, key=lambda each: each.width * each.height)
    for layer in ranked:
        layer_short, layer_long = sorted((layer.width, layer.height))
        if layer_short >= short and layer_long >= long:
            return layer.quality
    return ranked[-1].quality
