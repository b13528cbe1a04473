"""Modified UTF-8, the text encoding of Java streams.

It differs from UTF-8 in two ways: NUL takes two bytes, and a character above U+FFFF is written as
its two surrogates of three bytes each.
"""

from __future__ import annotations


def decode_text(raw: bytes) -> str:
    """Text of modified UTF-8 bytes; a lone surrogate stays one.

    Raises:
        UnicodeDecodeError: not modified UTF-8.
    """
    if raw.isascii():
        return raw.decode("ascii")
    text = raw.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
    # Joins pairs of surrogates into one character and leaves lone ones alone.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def encode_text(text: str) -> bytes:
    """Modified UTF-8 bytes of a text."""
    if text.isascii() and "\0" not in text:
        return text.encode("ascii")
    units = text.encode("utf-16-be", "surrogatepass")
    parts = []
    for i in range(0, len(units), 2):
        unit = (units[i] << 8) | units[i + 1]
        if 0 < unit < 0x80:
            parts.append(bytes((unit,)))
        elif unit < 0x800:
            parts.append(bytes((0xC0 | unit >> 6, 0x80 | unit & 0x3F)))
        else:
            parts.append(bytes((0xE0 | unit >> 12, 0x80 | unit >> 6 & 0x3F, 0x80 | unit & 0x3F)))
    return b"".join(parts)
