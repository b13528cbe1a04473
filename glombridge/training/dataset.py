"""A tile dataset as training needs it: checked against its manifest before an hour is spent on it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..errors import DamagedFileError, InputError
from ..ledger.manifest import sha256_of
from ..tiles.labels import ClassMap, Task
from ..tiles.manifest import FORMAT, data_yaml_text
from ..tiles.records import FOLDER, SlideRecord
from ..tiles.split import PARTS

_JPEG_END = b"\xff\xd9"
_AGAIN = "Run 'glombridge tile' again."


@dataclass(frozen=True)
class Dataset:
    """A dataset whose files are what its manifest says.

    Attributes:
        manifest: of the dataset.
        manifest_sha256: of the manifest's file.
        files_sha256: over names and sizes of all tiles and the text of all labels, to tell two apart; the
            contents of tiles are held against the manifest.
        annotations_sha256: over the hashes of the pulled annotations of all slides.
    """

    folder: Path
    manifest: Mapping[str, Any]
    manifest_sha256: str
    files_sha256: str
    annotations_sha256: str

    @property
    def tile_px(self) -> tuple[int, int]:
        """Width and height of a tile."""
        tile = self.manifest["settings"]["tile"]
        return int(tile["width_px"]), int(tile["height_px"])

    @property
    def tiles(self) -> Mapping[str, int]:
        """Tiles per part."""
        counts: Mapping[str, int] = self.manifest["tiles"]
        return counts

    @property
    def class_names(self) -> list[str]:
        """By index."""
        return list(self.manifest["class_names"])

    @property
    def task(self) -> Task:
        """What its labels are for: boxes, or outlines."""
        return task_of(self.manifest)


def task_of(manifest: Mapping[str, Any]) -> Task:
    """What the labels of a dataset are for, by its manifest."""
    task: Task = manifest["settings"].get("task", "detect")
    return task


def open_dataset(folder: Path, *, validate: bool) -> Dataset:
    """Read a dataset and hold its files against its manifest.

    Args:
        folder: with ``data.yaml`` and ``manifest.json``.
        validate: epochs are to be compared on the validation tiles.

    Raises:
        InputError: it is no finished dataset, was changed since it was written, has labels that
            cannot be, no training tile, a class without examples, or nothing to validate on.
    """
    with expecting(folder / "manifest.json", "the manifest of a dataset", _AGAIN):
        return _opened(folder, validate=validate)


def _opened(folder: Path, *, validate: bool) -> Dataset:
    manifest = _read_manifest(folder)
    names = list(manifest["class_names"])
    if not manifest["tiles"]["train"]:
        msg = f"dataset {folder} has no training tiles"
        raise InputError(msg)
    if not manifest["tiles"]["val"]:
        msg = (
            f"dataset {folder} has no validation tiles, and ultralytics does not train without. "
            "Annotate slides of more patients, so that one can be set aside."
        )
        raise InputError(msg)
    empty = [name for name in names if not manifest["labels"]["train"].get(name)]
    if empty:
        msg = (
            f"dataset {folder} has no training example of class {', '.join(empty)}. Annotate some, "
            "or take the class out of [classes] in the settings."
        )
        raise InputError(msg)
    if validate and not sum(manifest["labels"]["val"].values()):
        msg = (
            f"dataset {folder} has no validation tile with an object, so epochs cannot be compared. "
            "Annotate slides of a validation patient, or set validate_epochs = false in [train] of "
            "the settings: the last epoch is kept then."
        )
        raise InputError(msg)
    yaml = data_yaml_text(ClassMap(tuple(names), manifest["settings"]["classes"]))
    if (folder / "data.yaml").read_text("utf-8") != yaml:
        msg = f"{folder / 'data.yaml'} was changed after 'glombridge tile' wrote it. {_AGAIN}"
        raise InputError(msg)
    digest = hashlib.sha256()
    for part in PARTS:
        labels = _check_part(folder, part, manifest, digest)
        expected = Counter(
            {i: manifest["labels"][part].get(name, 0) for i, name in enumerate(names)}
        )
        if labels != +expected:
            i = min((labels - expected) + (expected - labels))
            msg = (
                f"dataset {folder}: its manifest counts {expected[i]} labels of {names[i]!r} in {part}, "
                f"the files hold {labels[i]}. They were changed after they were written. {_AGAIN}"
            )
            raise InputError(msg)
        # ultralytics keeps what it has read there, and takes labels of the same length for the same.
        (folder / "labels" / f"{part}.cache").unlink(missing_ok=True)
    _check_contents(folder, manifest)
    pulled = hashlib.sha256(
        "".join(f"{s['entry_id']} {s['annotations_sha256']}\n" for s in manifest["slides"]).encode()
    )
    return Dataset(
        folder,
        manifest,
        sha256_of(folder / "manifest.json"),
        digest.hexdigest(),
        pulled.hexdigest(),
    )


def _check_contents(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Each file is the one that was written: files have no other protection, and may be shared by links."""
    for slide in manifest["slides"]:
        if "files_sha256" not in slide:
            continue  # written by an earlier version
        path = folder / FOLDER / f"{slide['file_prefix']}.json"
        try:
            record = SlideRecord.from_json(path.read_bytes())
        except (OSError, ValueError) as error:
            msg = f"{path} is gone or damaged: {error}. {_AGAIN}"
            raise DamagedFileError(msg) from error
        changed = record.changed_file(folder)
        if record.files_sha256 != slide["files_sha256"] or record.part != slide["part"]:
            changed = path
        if changed is not None:
            msg = (
                f"{changed} was changed, moved or removed after 'glombridge tile' wrote it, and with it "
                f"perhaps other datasets that share the file. {_AGAIN}"
            )
            raise InputError(msg)


def _read_manifest(folder: Path) -> dict[str, Any]:
    for name in ("data.yaml", "manifest.json"):
        if not (folder / name).is_file():
            msg = f"{folder} is not a finished dataset: it has no {name}. Run 'glombridge tile'."
            raise InputError(msg)
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = parse_json(path.read_text("utf-8"))
        is_ours = manifest["format"] == FORMAT
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path} is not the manifest of a dataset: {error!r}. {_AGAIN}"
        raise DamagedFileError(msg) from error
    if not is_ours:
        msg = (
            f"{path} has the format {manifest['format']!r}; this version reads {FORMAT!r}. {_AGAIN}"
        )
        raise InputError(msg)
    return manifest


def _check_part(folder: Path, part: str, manifest: Mapping[str, Any], digest: Any) -> Counter[int]:
    """Labels per class index of one part; every file is seen."""
    images, texts = folder / "images" / part, folder / "labels" / part
    tiles = sorted(p for p in images.glob("*") if p.is_file()) if images.is_dir() else []
    expected = int(manifest["tiles"][part])
    if len(tiles) != expected:
        msg = (
            f"dataset {folder}: its manifest counts {expected} tiles in {part}, and {len(tiles)} are "
            f"there. Files were added or lost after they were written. {_AGAIN}"
        )
        raise InputError(msg)
    counts: Counter[int] = Counter()
    with_labels = {p.stem for p in texts.glob("*.txt")} if texts.is_dir() else set()
    alien = sorted(with_labels - {p.stem for p in tiles})
    if alien:
        msg = f"{texts / (alien[0] + '.txt')} are labels of a tile that is not there. {_AGAIN}"
        raise InputError(msg)
    for tile in tiles:
        size = tile.stat().st_size
        with tile.open("rb") as file:
            file.seek(max(0, size - 2))
            is_whole = file.read() == _JPEG_END
        if not is_whole:
            # ultralytics would mend it silently: it writes the part it could read over the file.
            msg = f"tile {tile} is cut off ({size} bytes): it was not copied completely. {_AGAIN}"
            raise DamagedFileError(msg)
        digest.update(f"{part}/{tile.name} {size}\n".encode())
        if tile.stem in with_labels:
            text = _text(texts / f"{tile.stem}.txt")
            digest.update(text.encode())
            counts.update(_class_indices(texts / f"{tile.stem}.txt", text, manifest))
    return counts


_LABELS: dict[Task, tuple[str, Callable[[int], bool]]] = {
    "detect": ("class x y width height", lambda n: n == 4),
    "segment": ("class x y x y x y ...", lambda n: n >= 6 and n % 2 == 0),
}
"""What a line of a label file is, by task, and how many numbers may follow the class."""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{path} is no text of labels: {error}. {_AGAIN}"
        raise InputError(msg) from error


def _class_indices(path: Path, text: str, manifest: Mapping[str, Any]) -> list[int]:
    """Class index of each label line; ultralytics would drop the whole tile, with a warning."""
    names = manifest["class_names"]
    form, is_right = _LABELS[task_of(manifest)]
    indices = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            index, *numbers = line.split()
            values = [float(value) for value in numbers]
            if not is_right(len(values)):
                raise ValueError(line)
        except ValueError as error:
            msg = f"{path}, line {number}: {line[:80]!r} is no label ({form}). {_AGAIN}"
            raise InputError(msg) from error
        # Also refuses what is no number.
        wrong = [value for value in values if not 0 <= value <= 1]
        if wrong:
            msg = f"{path}, line {number}: {wrong[0]} lies outside 0 to 1, the tile. {_AGAIN}"
            raise InputError(msg)
        if not re.fullmatch("[0-9]{1,9}", index) or int(index) >= len(names):
            msg = (
                f"{path}, line {number}: there is no class {index[:80]}; the dataset has "
                f"{len(names)} ({', '.join(names)}), counted from 0. {_AGAIN}"
            )
            raise InputError(msg)
        indices.append(int(index))
    return indices
