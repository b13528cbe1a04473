"""JSON, TOML and geometries that somebody else may have made: whatever is wrong, it is one kind of error."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DamagedFileError, GlombridgeError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEXT = re.compile(r"""\"(?:[^"\\\n]|\\.)*\"|'[^'\n]*'""")
_ENDLESS_KEY = re.compile(r"(?:\.[ \t]*[\w-]+[ \t]*){100}")
_TOO_DEEP = "it is nested too deeply"
_MOST_DEPTH = 32  # of geometries in geometries; QuPath and shapely write two
_PLAIN_POLYGON = b"\x01\x03\0\0\0"  # as shapely writes it; nothing in it can hold another
_POINT, _LINE, _POLYGON, _COLLECTION = 1, 2, 3, 7


def parse_json(text: str | bytes) -> Any:
    """A JSON document.

    Raises:
        ValueError: no JSON, or nested deeper than this Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML document.

    Raises:
        ValueError: no TOML, or nested deeper than this Python can follow.
    """
    # tomllib (3.11 to 3.13) needs memory by the square of a dotted key's length.
    if _ENDLESS_KEY.search(_TEXT.sub("s", text)):
        raise ValueError(_TOO_DEEP)
    try:
        document: dict[str, Any] = tomllib.loads(text)
        return document
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_wkt(text: str) -> BaseGeometry:
    """A geometry as well-known text.

    Raises:
        ValueError: no geometry, or nested deeper than GEOS can follow: it ends the process (3.14).
    """
    import shapely  # here and below: not for those who only read JSON

    depth = 0
    try:
        for match in re.finditer(r"[()]", text):
            depth += 1 if match[0] == "(" else -1
            if depth > _MOST_DEPTH:
                raise ValueError(_TOO_DEEP)
        geometry: BaseGeometry = shapely.from_wkt(text)
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise ValueError(*error.args) from error
    return geometry


def parse_wkb(data: bytes | str) -> BaseGeometry:
    """A geometry as well-known binary, or as hexadecimal text of it.

    Raises:
        ValueError: as of :func:`parse_wkbs`.
    """
    try:
        rows = parse_wkbs([bytes.fromhex(data) if isinstance(data, str) else bytes(data)])
    except TypeError as error:
        raise ValueError(*error.args) from error
    geometry: BaseGeometry = rows[0]
    return geometry


def parse_wkbs(rows: Sequence[bytes | None]) -> list[Any]:
    """Geometries as well-known binary; ``None`` stays what it is.

    Raises:
        ValueError: no geometry, or nested deeper than GEOS can follow: it ends the process (3.14).
    """
    import shapely

    for row in rows:
        if row is not None and row[:5] != _PLAIN_POLYGON:
            _require_shallow(row)
    try:
        # One call for all: it takes a third of the time.
        geometries: list[Any] = shapely.from_wkb(list(rows)).tolist()
    except shapely.errors.ShapelyError as error:
        raise ValueError(*error.args) from error
    return geometries


def _require_shallow(data: bytes) -> None:
    left, at = [1], 0  # geometries to come, of the outermost list of them to the innermost
    try:
        while left:
            left[-1] -= 1
            order = "<" if data[at] else ">"
            (kind,) = struct.unpack_from(f"{order}I", data, at + 1)
            # Flags of the extended form, then thousands of the standard's: heights and measures.
            plain = kind & 0x0FFFFFFF
            n_axes = 2 + bool(kind & 0x80000000) + bool(kind & 0x40000000)
            n_axes += (0, 1, 1, 2)[plain // 1000 % 4]
            at += 9 if kind & 0x20000000 else 5
            plain %= 1000
            if plain <= _POLYGON and len(left) == 1 and not left[0]:
                return  # alone, and nothing in it can hold another
            if plain == _POINT:
                at += 8 * n_axes
            else:
                (n,) = struct.unpack_from(f"{order}I", data, at)
                at += 4
                if plain == _LINE:
                    at += 8 * n_axes * n
                elif plain == _POLYGON:
                    for _ in range(n):
                        (corners,) = struct.unpack_from(f"{order}I", data, at)
                        at += 4 + 8 * n_axes * corners
                elif plain <= _COLLECTION:
                    left.append(n)
                else:
                    msg = f"there is no kind of geometry {plain}"
                    raise ValueError(msg)
            if len(left) > _MOST_DEPTH:
                raise ValueError(_TOO_DEEP)
            while left and not left[-1]:
                left.pop()
    except (IndexError, struct.error) as error:
        msg = "it is cut off"
        raise ValueError(msg) from error


@contextmanager
def expecting(path: Path, what: str, way_out: str) -> Iterator[None]:
    """Around code that takes a file apart: what it finds to be otherwise is an error of the file.

    Args:
        path: the file.
        what: it should be, as ``"the manifest of a pull"``.
        way_out: a sentence.

    Raises:
        DamagedFileError: a member is missing, or is of another kind than it should be.
    """
    try:
        yield
    except GlombridgeError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        # A missing key alone does not say that it is one.
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path} is not {what}: {reason}. {way_out}"
        raise DamagedFileError(msg) from error
