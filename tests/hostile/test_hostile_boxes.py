"""Raw boxes and geometries that somebody made up, with the right hash: an error, and the process lives.

polars asks for as much memory as a page claims, and GEOS follows geometries in geometries until its stack is
full; both end the process. So each is read in a process of its own here, with little memory.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl
import pytest
import shapely

from glombridge.detection.boxes import Boxes
from glombridge.detection.parquet_claims import BOOLEAN, BYTES, FLOAT, INT32, claims_of
from glombridge.detection.raw import SlideDetections
from glombridge.documents import parse_wkb, parse_wkbs, parse_wkt
from glombridge.errors import DamagedFileError
from glombridge.ledger import History, Ledger

SIDES = ("left", "top", "right", "bottom")
ABOUT = {
    "format": 1,
    "width_px": 64,
    "height_px": 64,
    "grid_tiles": 1,
    "scanned": {"x": [[0, 64]], "y": [[0, 64]], "x_of_tile": [0], "y_of_tile": [0]},
    "unreadable": {"x": [], "y": [], "x_of_tile": [], "y_of_tile": []},
    "region": None,
}
A_BOX = shapely.to_wkb(shapely.box(1, 1, 9, 9), byte_order=1)


def boxes_file(
    n: int, outline: bytes | None = A_BOX, *, compression: Any = "zstd", **about: Any
) -> bytes:
    """As of a version that kept no hash; with one it is the right one, once it was made on purpose."""
    columns: dict[str, Any] = {
        side: np.full(n, at, np.float32) for side, at in zip(SIDES, (1, 1, 9, 9), strict=True)
    }
    columns |= {"score": np.full(n, 0.5, np.float32)}
    columns |= {"class": np.zeros(n, np.uint16), "tile": np.zeros(n, np.uint32)}
    columns |= {f"cut_{side}": np.zeros(n, bool) for side in SIDES}
    columns["outline"] = pl.repeat(outline, n, dtype=pl.Binary, eager=True)
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(
        buffer,
        compression=compression,
        statistics=False,
        metadata={"glombridge": json.dumps({**ABOUT, **about})},
    )
    return buffer.getvalue()


def first_page_claims(size: int) -> bytes:
    """The header of a page with another size in it, and as much less of the page."""
    data = bytearray(boxes_file(3))
    # Field 2, the size, is the second of the header; each number is in the zigzag form.
    assert data[4:7:2] == b"\x15\x15"
    value, claimed = size << 1, bytearray()
    while value > 127:
        claimed.append(value & 127 | 128)
        value >>= 7
    claimed.append(value)
    more = len(claimed) - 1
    assert (data[8], data[9] < 128) == (0x15, True)
    data[9] -= 2 * more
    page = (
        bytes(data[7 + 1 : 7 + 1 + 200]).index(b"\x28\xb5\x2f\xfd") + 8
    )  # where the zstd frame begins
    return bytes(data[:7] + claimed + data[8:page] + data[page + more :])


def nested_wkb(depth: int, kind: int = 7) -> bytes:
    return struct.pack("<BII", 1, kind, 1) * depth


MADE_UP: dict[str, Callable[[], bytes]] = {
    "a page of 2 GB": lambda: first_page_claims(2**31 - 1),
    "a page of 1 GB": lambda: first_page_claims(2**30),
    "boxes by the million": lambda: boxes_file(2_000_000, None),
    "outlines that are one": lambda: boxes_file(3000, A_BOX.ljust(1 << 20, b"\0")),
    "outlines in outlines": lambda: boxes_file(1, nested_wkb(300_000)),
    "polygons in polygons": lambda: boxes_file(1, nested_wkb(300_000, 6)),
    "regions in regions": lambda: boxes_file(1, region="GEOMETRYCOLLECTION (" * 300_000),
    "a footer in a footer": lambda: with_footer(b"\x1c" * 300_000),
    "lists in lists": lambda: with_footer(b"\x19" * 300_000),
    "a footer of small things": lambda: with_footer(b"\x19\xf8" + b"\x80\x80\x40" + bytes(1 << 20)),
    "no footer": lambda: with_footer(b""),
}


def with_footer(footer: bytes) -> bytes:
    return b"PAR1" + bytes(64) + footer + len(footer).to_bytes(4, "little") + b"PAR1"


READ = """
import resource, sys
from pathlib import Path
from glombridge.detection.raw import SlideDetections
from glombridge.errors import DamagedFileError
SlideDetections.load(Path(sys.argv[1]))  # whose threads are there before memory is scarce
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (768 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        SlideDetections.load(Path(path))
    except DamagedFileError as error:
        assert path in str(error), error
        print("refused")
    else:
        print("read")
"""
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="bounds memory by RLIMIT_AS"
)


def in_little_memory(*paths: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", READ, *paths],
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@linux
@pytest.mark.parametrize("make", MADE_UP.values(), ids=MADE_UP)
def test_made_up_boxes(make: Callable[[], bytes], tmp_path: Path) -> None:
    sound, made_up = tmp_path / "sound.parquet", tmp_path / "made-up.parquet"
    sound.write_bytes(boxes_file(100_000))
    made_up.write_bytes(make())
    assert in_little_memory(sound, made_up) == ["read", "refused"]


@linux
@pytest.mark.parametrize("compression", ["zstd", "uncompressed"])
@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_changed_boxes_without_a_hash(count: int, compression: str, tmp_path: Path) -> None:
    """Of what is changed at random most of what polars would end at is in the footer and the headers of pages."""
    sound = boxes_file(40, compression=compression)
    end = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    rng = random.Random(count)
    whole = tmp_path / "whole.parquet"
    whole.write_bytes(sound)
    paths = [tmp_path / f"{k}.parquet" for k in range(count)]
    for path in paths:
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(*rng.choice([(4, end), (end, len(data) - 8)]))
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        path.write_bytes(data)
    told = []
    for k in range(0, count, 1000):
        told += in_little_memory(whole, *paths[k : k + 1000])[1:]
    assert len(told) == count
    assert 0 < told.count("refused") < count


@pytest.mark.parametrize("wkb", ["zz", "01", 7, A_BOX.hex()[:-2]], ids=str)
def test_outlines_of_a_history_that_are_none(wkb: Any, tmp_path: Path) -> None:
    outline = {"kind": "polygon", "wkb": wkb, "plane": [-1, 0, 0]}
    added = {"id": str(UUID(int=1)), "class": None, "measurements": {}, "outline": outline}
    history = History(tmp_path / "history.jsonl")
    where = {"image": 1, "layer": "main", "run": "detect-001", "model": "m", "snapshot": None}
    hashes = {"sha256": "0", "replaced": ""}
    write = {"write": "write-001", "command": "push", "add": [added]}
    history.append("write-begun", **write, **where, **hashes)
    history.append("write-done", write="write-001", image=1)
    with (
        Ledger.in_memory(history) as ledger,
        pytest.raises(DamagedFileError, match=r"history\.jsonl"),
    ):
        ledger.base(1)


@pytest.mark.parametrize("n", [0, 1, 300_000])
def test_sound_boxes_keep_their_claims(n: int, tmp_path: Path) -> None:
    """Several groups of rows, and none."""
    rng = np.random.default_rng(n)
    xy = rng.uniform(0, 5e4, (n, 2))
    tiles = np.array([[0.0, 0, 6e4, 6e4]])
    boxes = Boxes(
        np.column_stack([xy, xy + 80]),
        rng.uniform(0, 1, n),
        np.zeros(n, int),
        rng.uniform(0, 1, (n, 4)) < 0.1,
        np.zeros(n, int),
        tiles,
    )
    path = tmp_path / "a.parquet"
    SlideDetections(boxes, tiles, 1, 60_000, 60_000).save(path)
    types = dict.fromkeys((*SIDES, "score"), FLOAT) | dict.fromkeys(("class", "tile"), INT32)
    types |= {f"cut_{side}": BOOLEAN for side in SIDES} | {"outline": BYTES}
    claims = claims_of(path.read_bytes(), types)
    assert (claims.rows, len(claims.columns)) == (n, 11)
    assert len(SlideDetections.load(path).boxes) == n


GEOMETRIES = [
    "POINT (1 2)",
    "POINT EMPTY",
    "LINESTRING Z (1 2 3, 4 5 6)",
    "POLYGON ((0 0, 9 0, 9 9, 0 0), (2 1, 8 1, 8 7, 2 1))",
    "POLYGON EMPTY",
    "MULTIPOINT ((1 2), (3 4))",
    "MULTILINESTRING ((0 0, 1 1), (2 2, 3 3))",
    "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((5 5, 9 5, 9 9, 5 5), (6 5.5, 7 6, 6 6, 6 5.5)))",
    "MULTIPOLYGON EMPTY",
    "GEOMETRYCOLLECTION Z (POINT Z (1 2 3), GEOMETRYCOLLECTION Z (LINESTRING Z (1 2 3, 4 5 6)))",
]


@pytest.mark.parametrize("text", GEOMETRIES)
def test_sound_geometries_are_read(text: str) -> None:
    wanted = shapely.from_wkt(text)
    assert shapely.equals_exact(parse_wkt(text), wanted)
    for order in (0, 1):
        for flavor in ("extended", "iso"):
            data = shapely.to_wkb(wanted, byte_order=order, flavor=flavor)
            for said in (data, data.hex()):
                assert shapely.equals_exact(parse_wkb(said), wanted)
    numbered = shapely.to_wkb(shapely.set_srid(wanted, 4326), include_srid=True)
    assert shapely.equals_exact(parse_wkb(numbered), wanted)
    assert parse_wkbs([None, data])[0] is None


GEOMETRY = """
import sys
from glombridge.documents import parse_wkb, parse_wkt
try:
    (parse_wkt if sys.argv[1] == "text" else lambda t: parse_wkb(bytes.fromhex(t)))(sys.stdin.read())
except ValueError as error:
    print(error)
"""
NO_GEOMETRIES = {
    "collections": nested_wkb(300_000),
    "the other way around": struct.pack(">BII", 0, 7, 1) * 300_000,
    "with heights": struct.pack("<BII", 1, 7 | 0x80000000, 1) * 300_000,
    "polygons": nested_wkb(300_000, 6),
    "behind a sound one": struct.pack("<BII", 1, 7, 2) + A_BOX + nested_wkb(300_000),
    "behind an empty one": struct.pack("<BII", 1, 7, 2)
    + struct.pack("<BII", 1, 7, 0)
    + nested_wkb(300_000),
    "text": "GEOMETRYCOLLECTION (" * 300_000,
}


@pytest.mark.parametrize("said", NO_GEOMETRIES.values(), ids=NO_GEOMETRIES)
def test_geometries_in_geometries(said: bytes | str) -> None:
    words = ("text", said) if isinstance(said, str) else ("binary", said.hex())
    done = subprocess.run(
        [sys.executable, "-c", GEOMETRY, words[0]], input=words[1], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "it is nested too deeply\n"), done.stderr


@pytest.mark.parametrize(
    "said",
    [b"", b"\x01", b"\x01\x06\0\0\0", nested_wkb(3), b"\x01\x63\0\0\0" + bytes(9), "zz", None],
    ids=repr,
)
def test_what_is_no_geometry(said: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_wkb(said)
    with pytest.raises(ValueError, match=r"."):
        parse_wkt(said)
