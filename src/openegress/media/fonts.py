"""Which of the host's fonts has the characters of a text: fontconfig, in process.

Called through ctypes, as there is no maintained binding. The program fc-match would be one more process for
each name, and a handler that records starts none (handler.cage).
"""

import ctypes
from functools import cache, lru_cache

_FAMILIES = "Liberation Sans,Arial,Noto Sans,sans"
_FOR_PATTERN, _MATCHED = 0, 0
"""FcMatchPattern, FcResultMatch of fontconfig.h."""


@lru_cache(maxsize=256)
def font_file(characters: str) -> tuple[str, int]:
    """(path, index in it) of the font that has most of `characters`; ("", 0) without fontconfig. Takes
    milliseconds, the first time longer."""
    library = _library()
    if library is None:
        return "", 0
    charset = " ".join(f"{ord(each):x}" for each in characters if not each.isspace())
    text = f"{_FAMILIES}:charset={charset}:color=false:scalable=true"
    pattern = library.FcNameParse(text.encode())
    if not pattern:
        return "", 0
    try:
        library.FcConfigSubstitute(None, pattern, _FOR_PATTERN)
        library.FcDefaultSubstitute(pattern)
        result = ctypes.c_int()
        match = library.FcFontMatch(None, pattern, ctypes.byref(result))
    finally:
        library.FcPatternDestroy(pattern)
    if not match:
        return "", 0
    try:
        path, index = ctypes.c_char_p(), ctypes.c_int()
        if library.FcPatternGetString(match, b"file", 0, ctypes.byref(path)) != _MATCHED:
            return "", 0
        if library.FcPatternGetInteger(match, b"index", 0, ctypes.byref(index)) != _MATCHED:
            index.value = 0
        # The upper half of the index names an instance of a variable font.
        return (path.value or b"").decode(errors="surrogateescape"), index.value & 0xFFFF
    finally:
        library.FcPatternDestroy(match)


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libfontconfig.so.1")
    except OSError:
        return None
    pointer = ctypes.c_void_p
    library.FcNameParse.argtypes, library.FcNameParse.restype = (ctypes.c_char_p,), pointer
    library.FcConfigSubstitute.argtypes = (pointer, pointer, ctypes.c_int)
    library.FcDefaultSubstitute.argtypes = (pointer,)
    library.FcFontMatch.argtypes = (pointer, pointer, ctypes.POINTER(ctypes.c_int))
    library.FcFontMatch.restype = pointer
    library.FcPatternDestroy.argtypes = (pointer,)
    library.FcPatternGetString.argtypes = (
        pointer,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_char_p),
    )
    library.FcPatternGetInteger.argtypes = (
        pointer,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_int),
    )
    return library
