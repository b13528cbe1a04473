"""What a model saw on one slide, before stitching: in memory, and as a Parquet file."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..documents import parse_json, parse_wkbs, parse_wkt
from ..errors import DamagedFileError, GlombridgeError
from ..qupath.saving import atomic_write
from .boxes import Boxes, Floats
from .cover import united_boxes
from .parquet_claims import BOOLEAN, BYTES, FLOAT, INT32, claims_of
from .stitch import DEFAULT_METHOD, stitch

if TYPE_CHECKING:
    import polars as pl

_FORMAT = 1
_KEY = "glombridge"
_SIDES = ("left", "top", "right", "bottom")
_MOST_BOXES = 20_000_000
_MOST_BYTES = 4 << 30
_MOST_BOXES_ALIKE = 100_000
"""Of more boxes than this each takes a byte at least; 2 kB can hold billions of rows that are alike."""
_TYPES = {
    **dict.fromkeys((*_SIDES, "score", "score_sd"), FLOAT),
    **dict.fromkeys(("class", "tile"), INT32),
    **{f"cut_{side}": BOOLEAN for side in _SIDES},
    "outline": BYTES,
}


@dataclass(frozen=True)
class SlideDetections:
    """What a model saw on one slide, before stitching and at every confidence.

    Attributes:
        boxes: of all tiles, QuPath pixels, down to the detector's lowest confidence; their
            ``tiles`` are ``scanned``.
        scanned: (N, 4) tiles that were shown to the model, QuPath pixels.
        tiles: number of tiles in the whole grid.
        width_px, height_px: size of the image in QuPath pixels.
        unreadable: (M, 4) tiles that should have been shown, but that the file could not give.
        region: where was looked, ``None`` = everywhere.
    """

    boxes: Boxes
    scanned: Floats
    tiles: int
    width_px: int
    height_px: int
    unreadable: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    region: BaseGeometry | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything that should have been shown was shown."""
        return not len(self.unreadable)

    @property
    def scanned_area(self) -> BaseGeometry:
        """Where an object would have been found: the tiles shown, QuPath pixels.

        Tiles that could not be read are left out, also where a neighbour overlaps them: an object
        there may have been seen by nobody whole.
        """
        frame = np.array([self.width_px, self.height_px] * 2, float)
        area = united_boxes(self.scanned.clip(0, frame), without=self.unreadable.clip(0, frame))
        if self.region is None:
            return area
        # Shapes that only touch leave points and lines behind, which cover nothing.
        parts = shapely.get_parts(area.intersection(self.region))
        parts = parts[shapely.area(parts) > 0]
        return shapely.union_all(parts) if len(parts) else shapely.Polygon()

    def stitched(self, confidence: float, method: str = DEFAULT_METHOD) -> Boxes:
        """One box per object among the boxes that score at least ``confidence``, with its outline."""
        return stitch(self.boxes.above(confidence), method)

    def save(self, path: Path) -> None:
        """Write as Parquet: a row per box, and in the file's metadata what else there is.

        The same content gives the same bytes. The file is complete or not there.

        Raises:
            MachineError: disk full, no permission.
        """
        import polars as pl

        b = self.boxes
        columns: dict[str, Any] = {
            side: b.xyxy[:, k].astype(np.float32) for k, side in enumerate(_SIDES)
        }
        columns |= {
            "score": b.score.astype(np.float32),
            "class": b.class_index.astype(np.uint16),
            "tile": b.tile.astype(np.uint32),
        }
        columns |= {f"cut_{side}": b.cut_sides[:, k] for k, side in enumerate(_SIDES)}
        if b.score_sd is not None:
            columns["score_sd"] = b.score_sd.astype(np.float32)
        if b.outline is not None:
            # Well-known binary, null where a mask was empty: any tool of maps reads it.
            wkb = shapely.to_wkb(b.outline, byte_order=1)
            columns["outline"] = pl.Series(wkb.tolist(), dtype=pl.Binary)
        about = {
            "format": _FORMAT,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "grid_tiles": self.tiles,
            "scanned": _packed(self.scanned),
            "unreadable": _packed(self.unreadable),
            "region": None if self.region is None else self.region.wkt,
        }
        table = pl.DataFrame(columns)

        def written() -> bytes:
            buffer = io.BytesIO()
            table.write_parquet(
                buffer,
                compression="zstd",
                statistics=False,
                metadata={_KEY: json.dumps(about, separators=(",", ":"))},
            )
            return buffer.getvalue()

        # What is said about a table stands behind its columns, and changes none of their bytes.
        about["columns_sha256"] = _columns_sha256(written())
        atomic_write(path, written())

    @classmethod
    def load(cls, path: Path) -> SlideDetections:
        """Read what :meth:`save` wrote.

        Raises:
            DamagedFileError: it is something else.
        """
        import polars as pl

        try:
            size = path.stat().st_size
            if size > _MOST_BYTES or not path.is_file():
                msg = f"{size} bytes are more than the boxes of a slide take, or it is no file"
                raise ValueError(msg)
            data = path.read_bytes()
            claims = claims_of(data, _TYPES)
            if claims.rows > min(_MOST_BOXES, max(_MOST_BOXES_ALIKE, size)):
                msg = f"{claims.rows} boxes are more than a slide has"
                raise ValueError(msg)
            about = parse_json(pl.read_parquet_metadata(io.BytesIO(data))[_KEY])
            if about["format"] != _FORMAT:
                msg = f"format {about['format']} is not known"
                raise ValueError(msg)
            # Files of earlier versions have none.
            if "columns_sha256" in about and about["columns_sha256"] != _columns_sha256(data):
                msg = "its bytes have changed"
                raise ValueError(msg)
            table = pl.read_parquet(io.BytesIO(data))
            scanned = _unpacked(about["scanned"])
            boxes = Boxes(
                np.column_stack([table[s].to_numpy().astype(np.float64) for s in _SIDES]),
                table["score"].to_numpy().astype(np.float64),
                table["class"].to_numpy().astype(np.int64),
                np.column_stack([table[f"cut_{s}"].to_numpy() for s in _SIDES]),
                table["tile"].to_numpy().astype(np.int64),
                scanned,
                table["score_sd"].to_numpy().astype(np.float64)
                if "score_sd" in table.columns
                else None,
                _outlines(table["outline"], claims.most_bytes)
                if "outline" in table.columns
                else None,
            )
            return cls(
                boxes,
                scanned,
                int(about["grid_tiles"]),
                int(about["width_px"]),
                int(about["height_px"]),
                _unpacked(about["unreadable"]),
                None if about["region"] is None else parse_wkt(about["region"]),
            )
        except (
            GlombridgeError,
            *(OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
            *(shapely.errors.ShapelyError, pl.exceptions.PolarsError, pl.exceptions.PanicException),
        ) as error:
            msg = f"{path} does not hold the boxes of a slide: {error}. Run 'glombridge detect' again."
            raise DamagedFileError(msg) from error


def _outlines(column: pl.Series, most_bytes: int) -> NDArray[np.object_]:
    """Polygons from well-known binary; of values that are alike the file holds one."""
    if (column.bin.size().sum() or 0) > most_bytes:
        msg = "its outlines are larger than the file"
        raise ValueError(msg)
    return np.array(parse_wkbs(column.to_list()), object)


def _columns_sha256(data: bytes) -> str:
    """Hash of a Parquet file up to its footer, which ends with its own length and four letters."""
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return hashlib.sha256(data[: max(0, len(data) - footer)]).hexdigest()


def _packed(tiles: Floats) -> dict[str, Any]:
    """Tiles of a grid: where its columns and rows begin and end, and which of them each tile is."""
    packed: dict[str, Any] = {}
    for axis, k in (("x", 0), ("y", 1)):
        begin, first, number = np.unique(tiles[:, k], return_index=True, return_inverse=True)
        packed[axis] = np.column_stack([begin, tiles[first, k + 2]]).tolist()
        packed[f"{axis}_of_tile"] = number.tolist()
    return packed


def _unpacked(packed: dict[str, Any]) -> Floats:
    sides = []
    for axis in ("x", "y"):
        ends = np.array(packed[axis], float).reshape(-1, 2)
        sides.append(ends[np.array(packed[f"{axis}_of_tile"], np.int64)])
    (left, right), (top, bottom) = sides[0].T, sides[1].T
    return np.column_stack([left, top, right, bottom])
