"""Reads the operator's picture files: logos and backgrounds."""

from pathlib import Path

from PIL import Image

MAX_BYTES = 20_000_000
MAX_PIXELS = 16_000_000
"""Twice a 4K picture. Reading it takes four times as many bytes."""
FORMATS = ("PNG", "JPEG", "WEBP")


def read_picture(path: str) -> Image.Image:
    """Returns RGBA. Raises ValueError with the end of a sentence about the file."""
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES // 10**6} MB")
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"has more than {MAX_PIXELS // 10**6} million pixels")
            return opened.convert("RGBA")
    except ValueError:
        raise
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or 'it is not a picture'}") from None
    except Exception as error:  # picture parsers raise all kinds of exceptions
        raise ValueError(f"is not a picture: {error}") from None


def scaled_to_height(image: Image.Image, height: int, widest: int) -> Image.Image:
    width = max(1, round(image.width * height / image.height))
    if width > widest:
        width, height = widest, max(1, round(height * widest / width))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def covering(image: Image.Image, width: int, height: int) -> Image.Image:
    """RGB of that size: cropped to its shape, and black where it is transparent."""
    scale = max(width / image.width, height / image.height)
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    large = image.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    part = large.crop((left, top, left + width, top + height))
    ground = Image.new("RGBA", part.size, (0, 0, 0, 255))
    ground.alpha_composite(part)
    return ground.convert("RGB")
