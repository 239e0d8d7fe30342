"""Fits the operator's pictures to a recording: logos and backgrounds."""

from PIL import Image


def scaled_to_height(image: Image.Image, height: int, widest: int) -> Image.Image:
    width = max(1, round(image.width * height / image.height))
    if width > widest:
        width, height = widest, max(1, round(height * widest / width))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def covering(image: Image.Image, width: int, height: int) -> Image.Image:
    """Returns the picture in RGB of that size: cropped to its shape, and black where it is transparent."""
    scale = max(width / image.width, height / image.height)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    large = image.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    part = large.crop((left, top, left + width, top + height))
    ground = Image.new("RGBA", part.size, (0, 0, 0, 255))
    ground.alpha_composite(part)
    return ground.convert("RGB")
