"""Reads the operator's picture files: logos and backgrounds."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 20_000_000
MAX_PIXELS = 16_000_000
"""Twice a 4K picture. Reading it takes four times as many bytes."""
FORMATS = ("PNG", "JPEG", "WEBP")


def read_picture(path: str) -> "Image.Image":
    """Returns RGBA, upright; of an animation, its first picture. Raises ValueError with the end of a sentence
    about the file."""
    # Imported here: most processes never need it.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES // 10**6} MB")
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"has more than {MAX_PIXELS // 10**6} million pixels")
            return ImageOps.exif_transpose(opened).convert("RGBA")
    except ValueError:
        raise
    except UnidentifiedImageError:
        raise ValueError("is not a PNG, JPEG or WebP picture") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # picture parsers raise all kinds of exceptions
        raise ValueError(f"is not a picture: {error}") from None
