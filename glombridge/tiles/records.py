"""What is kept of each slide of a dataset: enough to use its tiles again, and to read them back."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from ..documents import parse_json
from ..errors import InputError
from ..filenames import cell_text, is_plain_name
from ..ledger.manifest import sha256_of
from ..objects import FARTHEST_PX
from .dataset_files import MOST_RECORD_BYTES, file_bytes
from .grid import TileBox
from .leaks import SlideLook
from .selection import TileKind
from .split import PARTS, Part

FOLDER = "slides"
"""Folder of the records in a dataset."""
FORMAT = "glombridge slide 2"


_COLUMNS = (
    "file",
    "image",
    "entry_id",
    "patient",
    "part",
    "kind",
    "labels",
    "painted_share",
    "x_px",
    "y_px",
    "width_px",
    "height_px",
)


@dataclass(frozen=True)
class TileEntry:
    """One tile of a dataset.

    Attributes:
        stem: file name without its ending; the image is ``images/PART/STEM.jpg``, the labels
            ``labels/PART/STEM.txt``.
        kind: why it was taken.
        index, column, row: place in the grid.
        x_target_px, y_target_px, width_target_px, height_target_px: in target px.
        x_px, y_px, width_px, height_px: the same in QuPath px.
        labels: number of its labels.
        painted_share: of the tile, neither object nor background.
        image_bytes, label_bytes: sizes of the files.
        image_sha256, label_sha256: of the files.
    """

    stem: str
    kind: TileKind
    index: int
    column: int
    row: int
    x_target_px: int
    y_target_px: int
    width_target_px: int
    height_target_px: int
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    labels: int
    painted_share: float
    image_bytes: int
    label_bytes: int
    image_sha256: str
    label_sha256: str

    @property
    def box(self) -> TileBox:
        """Where it lies, for the way back to the slide."""
        return TileBox(
            self.index,
            self.column,
            self.row,
            self.x_target_px,
            self.y_target_px,
            self.width_target_px,
            self.height_target_px,
            self.x_px,
            self.y_px,
            self.width_px,
            self.height_px,
        )

    def files(self, folder: Path, part: Part) -> tuple[Path, Path]:
        """Image and labels in a dataset."""
        return (
            folder / "images" / part / f"{self.stem}.jpg",
            folder / "labels" / part / f"{self.stem}.txt",
        )


@dataclass(frozen=True)
class SlideRecord:
    """What was cut from one slide.

    Attributes:
        key: hash of everything that decides the tiles; the same key gives the same bytes.
        image_name, entry_id, patient, part, stain: of the image.
        prefix: beginning of its file names.
        look: tells the slide from others.
        annotations_sha256: of what humans marked.
        size_px, mpp: of the image.
        notes: what a reader should know.
        grid_tiles: tiles of the whole grid.
        objects: number of objects used, by class name.
        labels: number of labels, by class name.
        slivers: number of object views painted out because a border cut them.
        not_whole: ids of objects that are whole in no tile.
        tiles: what was written.
    """

    key: str
    image_name: str
    entry_id: int
    patient: str
    part: Part
    stain: str
    prefix: str
    look: SlideLook
    annotations_sha256: str
    size_px: tuple[int, int]
    mpp: tuple[float | None, float | None]
    notes: tuple[str, ...]
    grid_tiles: int
    objects: Mapping[str, int]
    labels: Mapping[str, int]
    slivers: int
    not_whole: tuple[str, ...]
    tiles: tuple[TileEntry, ...]

    def kinds(self) -> dict[str, int]:
        """Number of tiles by kind."""
        counts: dict[str, int] = {}
        for tile in self.tiles:
            counts[tile.kind] = counts.get(tile.kind, 0) + 1
        return counts

    def to_json(self) -> bytes:
        """For :func:`read_record`."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document |= {
            "format": FORMAT,
            "look": self.look.as_dict(),
            "tiles": [asdict(tile) for tile in self.tiles],
        }
        text = json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
        return (text + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> SlideRecord:
        """From :meth:`to_json`.

        Raises:
            ValueError: it is something else.
        """
        try:
            document: dict[str, Any] = parse_json(text)
            if document.pop("format") != FORMAT:
                msg = "another format"
                raise ValueError(msg)
            document["look"] = SlideLook.from_dict(document["look"])
            document["tiles"] = tuple(TileEntry(**tile) for tile in document["tiles"])
            for name in ("size_px", "mpp", "notes", "not_whole"):
                document[name] = tuple(document[name])
            made = cls(**document)
            names = (made.prefix, *(tile.stem for tile in made.tiles))
            if made.part not in PARTS or not all(map(is_plain_name, names)):
                msg = "it names files outside of the dataset"
                raise ValueError(msg)
            for tile in made.tiles:
                if not all(
                    isinstance(v, int | float) and abs(v) < FARTHEST_PX for v in astuple(tile.box)
                ):
                    msg = f"tile {tile.stem!r} lies nowhere"
                    raise ValueError(msg)
            return made
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            msg = f"not a slide's record: {error}"
            raise ValueError(msg) from error

    def path(self, folder: Path) -> Path:
        """Where the record lies in a dataset."""
        return folder / FOLDER / f"{self.prefix}.json"

    @property
    def files_sha256(self) -> str:
        """Over names and hashes of all its files."""
        digest = hashlib.sha256()
        for tile in self.tiles:
            line = f"{self.part}/{tile.stem} {tile.image_sha256} {tile.label_sha256}\n"
            digest.update(line.encode())
        return digest.hexdigest()

    def changed_file(self, folder: Path) -> Path | None:
        """The first of its files that is not there, or not as it was written; ``None`` if all are."""
        for tile in self.tiles:
            written = (
                (tile.image_bytes, tile.image_sha256),
                (tile.label_bytes, tile.label_sha256),
            )
            for path, as_written in zip(tile.files(folder, self.part), written, strict=True):
                try:
                    # By size first: it may have become anything.
                    if path.stat().st_size != as_written[0] or sha256_of(path) != as_written[1]:
                        return path
                except OSError:
                    return path
        return None

    def is_complete(self, folder: Path) -> bool:
        """Whether each of its files is there as it was written."""
        return self.changed_file(folder) is None


def read_records(folder: Path) -> list[SlideRecord]:
    """Records of a dataset, by file name.

    Raises:
        InputError: one of them is damaged.
        ProtectedError: a link leads out of the dataset.
    """
    records = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            data = file_bytes(path, folder, MOST_RECORD_BYTES)
            records.append(SlideRecord.from_json(data))
        except (OSError, ValueError) as error:
            msg = (
                f"{path} is damaged: {error}. Cut the dataset again with 'glombridge tile --fresh'."
            )
            raise InputError(msg) from error
    return records


def tiles_csv(records: Iterable[SlideRecord]) -> bytes:
    """All tiles of a dataset as a table, one row each."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for record in records:
        for t in record.tiles:
            place = (f"{v:.2f}" for v in (t.x_px, t.y_px, t.width_px, t.height_px))
            file = f"images/{record.part}/{t.stem}.jpg"
            patient = cell_text(record.patient)
            image = (cell_text(record.image_name), record.entry_id, patient, record.part)
            table.writerow([file, *image, t.kind, t.labels, f"{t.painted_share:.4f}", *place])
    return text.getvalue().encode()
