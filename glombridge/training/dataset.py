"""A tile dataset as training needs it: checked against its manifest before an hour is spent on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..errors import DamagedFileError, InputError, MachineError, UsageError
from ..filenames import is_plain_name, require_inside, shown_line
from ..ledger.manifest import sha256_of
from ..tiles.dataset_files import AGAIN
from ..tiles.grid import TileSpec
from ..tiles.labels import ClassMap, Task
from ..tiles.manifest import FORMAT, data_yaml_text
from ..tiles.records import FOLDER, SlideRecord
from ..tiles.split import PARTS
from .tile_files import LABEL_FORMS, check_part


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
        return _tile_px(self.manifest)

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
    """Read a dataset to train on, and hold its files against its manifest.

    Args:
        folder: with ``data.yaml`` and ``manifest.json``; it may be reached by a link.
        validate: epochs are to be compared on the validation tiles.

    Raises:
        InputError: it is no finished dataset, was changed since it was written, has tiles or labels
            that cannot be, no training tile, a class without examples, or nothing to validate on.
        ProtectedError: a link in it leads out of it.
        MachineError: it cannot be read.
    """
    with _reading(folder):
        manifest = _read_manifest(folder)
        _check_trainable(folder, manifest, validate=validate)
        return _with_checked_files(folder, manifest)


def check_dataset(folder: Path) -> Dataset:
    """Read a dataset, whatever is in it, and hold its files against its manifest.

    ultralytics must be shown no other: it runs the program that a ``data.yaml`` names under
    ``download``, and unpickles what lies in ``labels/PART.cache``.

    Raises:
        InputError, ProtectedError, MachineError: as of :func:`open_dataset`.
    """
    with _reading(folder):
        return _with_checked_files(folder, _read_manifest(folder))


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        with expecting(folder / "manifest.json", "the manifest of a dataset", AGAIN):
            yield
    except MachineError:
        raise
    except OSError as error:
        msg = f"{error.filename or folder} in dataset {folder} cannot be read: {error.strerror or error}"
        raise MachineError(msg) from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    for name in ("data.yaml", "manifest.json"):
        require_inside(folder / name, folder)
        if not (folder / name).is_file():
            msg = f"{folder} is not a finished dataset: it has no {name}. Run 'glombridge tile'."
            raise InputError(msg)
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = parse_json(path.read_text("utf-8"))
        is_ours = manifest["format"] == FORMAT
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path} is not the manifest of a dataset: {error!r}. {AGAIN}"
        raise DamagedFileError(msg) from error
    if not is_ours:
        msg = (
            f"{path} has the format {str(manifest['format'])[:80]!r}; this version reads {FORMAT!r}. "
            f"{AGAIN}"
        )
        raise InputError(msg)
    _check_manifest(manifest)
    return manifest


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    """Everything that is read of it now or after the training is there, and is what it should be.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is not.
    """
    names = manifest["class_names"]
    if not names or not all(isinstance(n, str) for n in names) or len({*names}) != len(names):
        msg = f"class_names is {str(names)[:80]}, not a list of different names"
        raise ValueError(msg)
    if task_of(manifest) not in LABEL_FORMS:
        msg = f"there is no task {str(task_of(manifest))[:80]!r}"
        raise ValueError(msg)
    tile = manifest["settings"]["tile"]
    try:
        TileSpec(*_tile_px(manifest), tile["overlap"], tile["mpp"])
    except (UsageError, InputError) as error:
        raise ValueError(*error.args) from error
    counts = [
        *(manifest["tiles"][part] for part in PARTS),
        *(
            manifest[kind][part].get(n, 0)
            for kind in ("labels", "objects")
            for part in PARTS
            for n in names
        ),
    ]
    wrong = [n for n in counts if type(n) is not int or not 0 <= n < 1 << 63]
    if wrong:
        msg = f"it counts {str(wrong[0])[:80]} of something"
        raise ValueError(msg)
    for part in PARTS:
        manifest["patients"][part].__iter__()


def _tile_px(manifest: Mapping[str, Any]) -> tuple[int, int]:
    tile = manifest["settings"]["tile"]
    return int(tile["width_px"]), int(tile["height_px"])


def _check_trainable(folder: Path, manifest: Mapping[str, Any], *, validate: bool) -> None:
    if not manifest["tiles"]["train"]:
        msg = (
            f"dataset {folder} has no training tiles. Annotate slides of more patients, see that "
            "their slides are found ('glombridge status'), and run 'glombridge tile' again."
        )
        raise InputError(msg)
    if not manifest["tiles"]["val"]:
        msg = (
            f"dataset {folder} has no validation tiles, and ultralytics does not train without. "
            "Annotate slides of more patients, so that one can be set aside."
        )
        raise InputError(msg)
    names = manifest["class_names"]
    empty = [name for name in names if not manifest["labels"]["train"].get(name)]
    if empty:
        msg = (
            f"dataset {folder} has no training example of class {', '.join(map(shown_line, empty))}. "
            "Annotate some, or take the class out of [classes] in the settings."
        )
        raise InputError(msg)
    if validate and not sum(manifest["labels"]["val"].get(name, 0) for name in names):
        msg = (
            f"dataset {folder} has no validation tile with an object, so epochs cannot be compared. "
            "Annotate slides of a validation patient, or set validate_epochs = false in [train] of "
            "the settings: the last epoch is kept then."
        )
        raise InputError(msg)


def _with_checked_files(folder: Path, manifest: Mapping[str, Any]) -> Dataset:
    names = list(manifest["class_names"])
    yaml = data_yaml_text(ClassMap(tuple(names), manifest["settings"]["classes"])).encode()
    described = folder / "data.yaml"
    # By size first: it may have become anything.
    if described.stat().st_size != len(yaml) or described.read_bytes() != yaml:
        msg = f"{described} was changed after 'glombridge tile' wrote it. {AGAIN}"
        raise InputError(msg)
    digest = hashlib.sha256()
    for part in PARTS:
        labels = check_part(
            folder,
            part,
            count=manifest["tiles"][part],
            tile_px=_tile_px(manifest),
            task=task_of(manifest),
            class_names=names,
            digest=digest,
        )
        expected = Counter(
            {i: manifest["labels"][part].get(name, 0) for i, name in enumerate(names)}
        )
        if labels != +expected:
            i = min((labels - expected) + (expected - labels))
            msg = (
                f"dataset {folder}: its manifest counts {expected[i]} labels of {names[i]!r} in {part}, "
                f"the files hold {labels[i]}. They were changed after they were written. {AGAIN}"
            )
            raise InputError(msg)
        # ultralytics keeps what it has read there, takes labels of the same length for the same, and
        # unpickles the file.
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
        prefix = str(slide["file_prefix"])
        path = folder / FOLDER / f"{prefix}.json"
        require_inside(path, folder)
        try:
            if not is_plain_name(path.name):
                raise ValueError(prefix[:80])
            record = SlideRecord.from_json(path.read_bytes())
        except (OSError, ValueError) as error:
            msg = f"{path} is gone or damaged: {error}. {AGAIN}"
            raise DamagedFileError(msg) from error
        changed = record.changed_file(folder)
        if record.files_sha256 != slide["files_sha256"] or record.part != slide["part"]:
            changed = path
        if changed is not None:
            msg = (
                f"{changed} was changed, moved or removed after 'glombridge tile' wrote it, and with it "
                f"perhaps other datasets that share the file. {AGAIN}"
            )
            raise InputError(msg)
