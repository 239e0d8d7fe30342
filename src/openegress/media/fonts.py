"""Finds a font of the host that has a character, with fontconfig in process.

Called through ctypes, because no maintained binding exists. The program fc-match would cost a process for
each name, and a handler that records starts none (handler.cage).
"""

import ctypes
from functools import cache, lru_cache

_FAMILIES = "Liberation Sans,Arial,Noto Sans,sans"
_FOR_PATTERN, _MATCHED = 0, 0
"""FcMatchPattern and FcResultMatch from fontconfig.h."""


@lru_cache(maxsize=4096)
def font_of(character: str) -> tuple[str, int]:
    """Returns (path, index in it) of a font that has the character; ("", 0) if no font has it, or without
    fontconfig. Takes milliseconds, the first call longer."""
    return _with(character, _FAMILIES, "color=false:scalable=true")


@lru_cache(maxsize=1024)
def emoji_font_of(character: str) -> tuple[str, int]:
    """Like font_of(), but for a font in colour."""
    return _with(character, "emoji", "color=true")


@lru_cache(maxsize=4096)
def has(path: str, index: int, character: str) -> bool:
    """Whether this font, which one of the functions above returned, has the character."""
    library, charset = _library(), _charsets.get((path, index))
    if library is None or charset is None:
        return False
    return bool(library.FcCharSetHasChar(charset, ord(character)))


_charsets: dict[tuple[str, int], int] = {}
"""FcCharSet of each returned font, by path and index."""


def _with(character: str, families: str, further: str) -> tuple[str, int]:
    path, index = _match(f"{families}:charset={ord(character):x}:{further}")
    return (path, index) if has(path, index, character) else ("", 0)


def _match(text: str) -> tuple[str, int]:
    library = _library()
    if library is None:
        return "", 0
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
        found = (path.value or b"").decode(errors="surrogateescape"), index.value & 0xFFFF
        charset = ctypes.c_void_p()
        if found not in _charsets and not library.FcPatternGetCharSet(
            match, b"charset", 0, ctypes.byref(charset)
        ):
            _charsets[found] = library.FcCharSetCopy(charset)
        return found
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
    library.FcPatternGetCharSet.argtypes = (
        pointer,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_void_p),
    )
    library.FcCharSetCopy.argtypes, library.FcCharSetCopy.restype = (pointer,), pointer
    library.FcCharSetHasChar.argtypes = (pointer, ctypes.c_uint)
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
