"""JSON text as QuPath's Gson writes it, so that an unchanged document comes out byte for byte."""

from __future__ import annotations

import json
import math
from typing import Any

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\t": "\\t",
    "\b": "\\b",
    "\n": "\\n",
    "\r": "\\r",
    "\f": "\\f",
    **{c: f"\\u{ord(c):04x}" for c in "<>&='\u2028\u2029"},
}
_ESCAPES.update({chr(i): f"\\u{i:04x}" for i in range(32) if chr(i) not in _ESCAPES})
_TABLE = str.maketrans(_ESCAPES)


class WrittenFloat(float):
    """A number that remembers how it was written: Java and Python format some differently."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        """From its text in the document."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def loads(data: bytes) -> Any:
    """Parse a document; accepts NaN and infinities as QuPath does.

    Raises:
        ValueError: not UTF-8, not JSON, or nested deeper than this Python can follow.
    """
    try:
        return json.loads(data.decode("utf-8-sig"), parse_float=WrittenFloat)
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None


def dumps(document: Any, *, pretty: bool = True) -> bytes:
    """UTF-8 bytes, 2-space indented without a final line break, or on one line."""
    out: list[str] = []
    _write(document, out, "\n" if pretty else "")
    # A lone surrogate has no UTF-8; it stays an escape.
    return "".join(out).encode("utf-8", "backslashreplace")


def _write(value: Any, out: list[str], newline: str) -> None:
    if isinstance(value, dict):
        members = [(_quote(str(key)), item) for key, item in value.items()]
        _write_members(members, "{", "}", out, newline)
    elif isinstance(value, list | tuple):
        _write_members([("", item) for item in value], "[", "]", out, newline)
    elif isinstance(value, str):
        out.append(_quote(value))
    elif value is None:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, float):
        out.append(_number(value))
    else:
        out.append(str(int(value)))


def _write_members(
    members: list[tuple[str, Any]], start: str, end: str, out: list[str], newline: str
) -> None:
    out.append(start)
    inner = newline + "  " if newline else ""
    for i, (key, value) in enumerate(members):
        if i:
            out.append(",")
        out.append(inner)
        if key:
            out.append(key + (": " if newline else ":"))
        _write(value, out, inner)
    if members:
        out.append(newline)
    out.append(end)


def _quote(text: str) -> str:
    quoted = text.translate(_TABLE)
    return f'"{quoted}"'


def _number(value: float) -> str:
    if isinstance(value, WrittenFloat):
        return value.text
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(value))
