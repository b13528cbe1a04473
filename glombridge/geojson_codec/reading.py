"""Reading: GeoJSON as QuPath and others ever wrote it; what is not understood is named."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DamagedFileError, InputError
from ..objects import SlideObject
from .features import FeatureReader

_GZIP_MAGIC = b"\x1f\x8b"
_ALWAYS_UNPACKED_BYTES = 64 * 1024 * 1024
_MOST_TIMES = 100
"""Exports shrink to a tenth or twentieth; gzip itself can do a thousandth."""

_GEOMETRY_TYPES = frozenset(
    [
        "Point",
        "MultiPoint",
        "LineString",
        "MultiLineString",
        "Polygon",
        "MultiPolygon",
        "GeometryCollection",
    ]
)


@dataclass(frozen=True)
class LoadedObjects:
    """What a GeoJSON file holds.

    Attributes:
        objects: parents before their children, otherwise in the order of the file.
        problems: one line for each thing that was not understood, and what was done about it.
    """

    objects: tuple[SlideObject, ...]
    problems: tuple[str, ...] = ()


def load_objects(text_or_path: str | bytes | Path) -> LoadedObjects:
    """Read objects from GeoJSON: a collection, list, feature or bare geometry, gzipped or not.

    Args:
        text_or_path: a path, or the content itself (a ``str`` that begins with ``{`` or ``[``).

    Raises:
        InputError: the file is not there, or is JSON but no GeoJSON.
        DamagedFileError: it is cut, or no JSON.
    """
    problems: list[str] = []
    unknown: Counter[str] = Counter()
    reader = FeatureReader(problems, unknown)
    objects: list[SlideObject] = []
    with not_too_deep(text_or_path):
        for number, item in enumerate(raw_features(text_or_path, unknown), 1):
            where = f"feature {number}"
            if isinstance(item, dict):
                objects += reader.read(item, where)
            else:
                problems.append(f"{where}: {item}; left out")
    problems += [
        f"{what} ({count} times): not known; left out" for what, count in sorted(unknown.items())
    ]
    return LoadedObjects(tuple(objects), tuple(problems))


@contextmanager
def not_too_deep(text_or_path: str | bytes | Path) -> Iterator[None]:
    """Around a walk through a file's objects.

    Raises:
        DamagedFileError: they are nested deeper than this Python can follow.
    """
    try:
        yield
    except RecursionError as error:
        msg = (
            f"{_source_of(text_or_path)} has objects or shapes nested too deeply. QuPath nests a few "
            "levels; export it again."
        )
        raise DamagedFileError(msg) from error


def raw_features(
    text_or_path: str | bytes | Path, unknown: Counter[str]
) -> Iterator[dict[str, Any] | str]:
    """The features of a file as they are written; of what is none, a line that says so.

    Args:
        text_or_path: as for :func:`load_objects`.
        unknown: counts members around the features that no reader knows.

    Raises:
        InputError: the file is not there, or is JSON but no GeoJSON.
        DamagedFileError: it is cut, or no JSON.
    """
    source, data = _content(text_or_path)
    document = _parse(source, data)
    if not _is_geojson(document):
        msg = (
            f"{source} is JSON but no GeoJSON: it should be a FeatureCollection, a list of "
            "features, a feature or a geometry"
        )
        raise InputError(msg)
    for item in _items(document, unknown):
        if not isinstance(item, dict):
            yield f"not an object but {_short(item)}"
        elif _is_geometry(item):
            yield {"type": "Feature", "geometry": item}
        elif item.get("type") == "Feature" or "geometry" in item:
            yield item
        else:
            yield f"neither feature nor geometry ({_short(item)})"


def _content(text_or_path: str | bytes | Path) -> tuple[str, bytes]:
    source = _source_of(text_or_path)
    if isinstance(text_or_path, bytes):
        return source, text_or_path
    if isinstance(text_or_path, str) and _is_content(text_or_path):
        return source, text_or_path.encode("utf-8", "surrogatepass")
    path = Path(text_or_path)
    try:
        return source, path.read_bytes()
    except OSError as error:
        msg = f"GeoJSON file {path.name!r} cannot be read: {error.strerror or error} ({path})"
        raise InputError(msg) from error


def _source_of(text_or_path: str | bytes | Path) -> str:
    is_content = isinstance(text_or_path, bytes) or (
        isinstance(text_or_path, str) and _is_content(text_or_path)
    )
    return "the GeoJSON" if is_content else repr(Path(os.fsdecode(text_or_path)).name)


def _is_content(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def _parse(source: str, data: bytes) -> Any:  # any JSON
    try:
        if data.startswith(_GZIP_MAGIC):
            data = _unpacked(data)
        text = data.decode("utf-8-sig", "surrogatepass")
        return json.loads(text, object_pairs_hook=_merged)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, ValueError, RecursionError) as error:
        msg = f"{source} is damaged or no JSON: {error or type(error).__name__}. Export it again."
        raise DamagedFileError(msg) from error


def _unpacked(data: bytes) -> bytes:
    most = max(_ALWAYS_UNPACKED_BYTES, _MOST_TIMES * len(data))
    with gzip.open(io.BytesIO(data)) as file:
        text = file.read(most + 1)
    if len(text) > most:
        msg = f"its {len(data)} bytes unpack to more than {most}, which no export does"
        raise ValueError(msg)
    return text


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # QuPath 0.6 and 0.7 write the key "metadata" twice into one object.
        for key, value in pairs:
            if isinstance(value, dict) and isinstance(found[key], dict):
                found[key] = {**value, **found[key]}
    return found


def _is_geojson(document: Any) -> bool:
    if isinstance(document, list):
        return True
    if not isinstance(document, dict):
        return False
    has_features = isinstance(document.get("features"), list)
    is_feature = document.get("type") == "Feature" or "geometry" in document
    is_hierarchy = isinstance(document.get("root"), dict)
    return has_features or is_feature or is_hierarchy or _is_geometry(document)


def _is_geometry(item: dict[str, Any]) -> bool:
    kind = item.get("type")
    return isinstance(kind, str) and kind in _GEOMETRY_TYPES


def _items(document: Any, unknown: Counter[str]) -> list[Any]:
    if isinstance(document, list):
        return [item for part in document for item in _items_of_part(part, unknown)]
    if isinstance(document.get("root"), dict):  # QuPath's export of a whole hierarchy
        unknown.update(f"member {key!r} of the hierarchy" for key in document.keys() - {"root"})
        return [document["root"]]
    if isinstance(document.get("features"), list):
        # RFC 7946 allows these; they carry no object.
        extra = document.keys() - {"type", "features", "bbox", "crs", "name"}
        unknown.update(f"member {key!r} of the collection" for key in extra)
        return list(document["features"])
    return [document]


def _items_of_part(part: Any, unknown: Counter[str]) -> list[Any]:
    is_collection = isinstance(part, dict) and isinstance(part.get("features"), list)
    return _items(part, unknown) if is_collection else [part]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."
