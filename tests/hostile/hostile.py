"""Values, texts and files that somebody else made, and what may come of reading them."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from glombridge.errors import GlombridgeError
from glombridge.tiles.leaks import THUMBNAIL_CELLS, SlideLook
from glombridge.tiles.records import SlideRecord, TileEntry

MANY = 1500
"""Examples of the slow profile, for each reader."""

DEEP = 100_000

NAMES = [
    "../../outside",
    "..\\..\\outside",
    "/etc/passwd",
    "C:\\Windows\\x",
    "two\nlines\r",
    "\x1b[31mred\x1b[0m\x07\x08",
    "\x9b31m",
    "[red]markup[/red]",
    "[/]",
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "'; DROP TABLE object; --",
    "=1+1",
    "@SUM(A1)",
    "-rf",
    "--help",
    "\u202egnp.exe",
    "\u2066left\u2069",
    "🫘🔬",
    "nul.svs",
    "CON",
    "aux.tif",
    "name\0zero",
    "lone \ud800 surrogate",
    "a" * 10_000,
    "",
    " ",
    ".",
    "..",
]

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**12, -(10**300), 10**400),
    *(0.5, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan),
    *([], {}, [[]], [{}], {"": {}}, [[[[1e308, 1e308]]]], {"type": "Polygon", "coordinates": 7}),
    *NAMES,
]


def few(count: int = 60) -> Callable[[Any], Any]:
    """The usual run of a fuzz test; derandomised, so that a failure comes again."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def many() -> Callable[[Any], Any]:
    """The long run."""
    return few(MANY)


def paths_of(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places in a JSON document, that of the document first."""
    found = [at]
    if isinstance(document, dict):
        members: list[tuple[Any, Any]] = list(document.items())
    elif isinstance(document, list):
        members = list(enumerate(document))
    else:
        return found
    for key, value in members:
        found += paths_of(value, (*at, key))
    return found


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document with a few values replaced, taken away, or put twice."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths_of(document)))
        value = draw(st.sampled_from(VALUES))
        if not path:
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "wrap", "rename"]))
        if how == "replace":
            parent[path[-1]] = copy.deepcopy(value)
        elif how == "remove":
            del parent[path[-1]]
        elif how == "wrap":
            parent[path[-1]] = [parent[path[-1]]]
        elif isinstance(parent, dict):
            parent[str(value)[:100]] = parent.pop(path[-1])
        else:
            parent.append(parent[path[-1]])
    return document


def changed_json(document: Any) -> st.SearchStrategy[bytes]:
    """Its text, with NaN and infinities as Python and QuPath write them."""
    return changed(document).map(lambda d: json.dumps(d).encode())


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """A file with a few bytes changed, cut out, doubled or put in, or cut off."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["byte", "number", "drop", "repeat", "insert", "cut"]))
        length = draw(st.sampled_from([1, 2, 4, 8, 100]))
        if how == "byte":
            data[at] = draw(st.integers(0, 255))
        elif how == "number":
            number = draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7E0000]))
            data[at : at + 4] = number.to_bytes(4, "big")
        elif how == "drop":
            del data[at : at + length]
        elif how == "repeat":
            data[at:at] = data[at : at + length]
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        elif draw(st.booleans()):
            del data[at:]
    return bytes(data)


def outcome(read: Callable[[], Any], *names: str) -> GlombridgeError | None:
    """What came of a reading: ``None``, or an error made on purpose that names the file."""
    try:
        read()
    except GlombridgeError as error:
        found = error
    else:
        return None
    for name in names:
        assert name in str(found), f"{name!r} is not in: {found}"
    return found


def a_record() -> Any:
    """A sound record of a slide's tiles, as JSON knows it."""
    look = SlideLook("0", 1.0, np.zeros((THUMBNAIL_CELLS, THUMBNAIL_CELLS), np.uint8))
    tile = TileEntry(
        "a__x0_y0", "object", 0, 0, 0, 0, 0, 64, 64, 0.0, 0.0, 64.0, 64.0, 1, 0.0, 9, 9, "0", "0"
    )
    record = SlideRecord(
        key="k",
        image_name="a.svs",
        entry_id=1,
        patient="P1",
        part="train",
        stain=None,
        prefix="a",
        look=look,
        annotations_sha256="0",
        size_px=(64, 64),
        mpp=(0.5, 0.5),
        notes=(),
        grid_tiles=1,
        objects={"G": 1},
        labels={"G": 1},
        slivers=0,
        not_whole=(),
        tiles=(tile,),
    )
    return json.loads(record.to_json())
