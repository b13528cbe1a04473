"""A new project with the images of another one and none of its objects."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import MachineError
from . import gson
from .locations import SlideFinder, SlideMap, path_to_uri
from .native import NativeStore
from .new_file import IMAGE_TYPES, new_data_file
from .project_file import DATA_FILE, SUFFIX, ProjectFile
from .saving import atomic_write, folder_for

THUMBNAIL = "thumbnail.jpg"


def copy_images(
    source: ProjectFile,
    folder: Path,
    *,
    place: Path,
    image_types: Mapping[int, str | None],
    metadata_keys: Collection[str],
    slides: SlideMap = SlideMap(),
) -> tuple[NativeStore, tuple[str, ...]]:
    """Make a project of the images of another: readers, names, ids, thumbnails, and no objects.

    Only what is named here goes over: no descriptions, tags or other metadata of images, no list of
    what was done to them, no colour vectors of stains, which QuPath then sets to its defaults.
    A slide that is found is named by where it is now, so that relative places still hold; one that
    is not keeps the place it has.

    Args:
        source: of which project; only read.
        folder: to be filled; must exist and be empty.
        place: where the folder will be in the end.
        image_types: by entry id, of images that have a data file.
        metadata_keys: metadata of images that goes over.
        slides: where slides have moved.

    Returns:
        The new project, and the names of images whose slide was not found.

    Raises:
        MachineError: it cannot be written.
    """
    finder = SlideFinder(source, slides, in_bulk=True)
    entries = {entry.id: entry for entry in source.entries()}
    missing = []
    images = []
    for entry in entries.values():
        found = {f.uri: path_to_uri(f.found) for f in finder.files(entry) if f.found is not None}
        if set(found) != set(entry.uris):
            missing.append(entry.name)
        kept = {key: text for key, text in entry.metadata.items() if key in metadata_keys}
        images.append(
            {
                "serverBuilder": _relocated(source.server_builder(entry.id), found),
                "entryID": entry.id,
                # Shown where names are hidden; not the source's, or names could be looked up there.
                "randomizedName": str(uuid4()),
                "imageName": entry.name,
                "metadata": kept,
            }
        )
    now = int(time.time() * 1000)
    document: dict[str, Any] = {
        "version": source.document.get("version"),
        "createTimestamp": now,
        "modifyTimestamp": now,
        # QuPath writes its own place with one slash.
        "uri": path_to_uri(place / f"project{SUFFIX}").replace("file:///", "file:/", 1),
        "lastID": max(entries, default=0),
        "images": images,
    }
    file = folder / f"project{SUFFIX}"
    atomic_write(file, gson.dumps(document))
    made = ProjectFile.open(file)
    for image, image_type in image_types.items():
        data = new_data_file(
            made.server_builder(image),
            qupath_version=source.version,
            image_type=image_type if image_type in IMAGE_TYPES else "UNSET",
        )
        path = folder / "data" / str(image) / DATA_FILE
        with folder_for(path):
            atomic_write(path, data)
    for image in entries:
        _copy_thumbnail(source.folder, folder, image)
    return NativeStore.open(file), tuple(missing)


def _relocated(builder: Any, found: Mapping[str, str]) -> Any:
    """The JSON of an image's reader with the places of its files replaced, wherever they stand."""
    if isinstance(builder, list):
        return [_relocated(item, found) for item in builder]
    if not isinstance(builder, dict):
        return deepcopy(builder)
    made = {key: _relocated(value, found) for key, value in builder.items()}
    uri = made.get("uri")
    if isinstance(uri, str) and builder.get("builderType") in ("uri", None):
        made["uri"] = found.get(uri, uri)
    return made


def _copy_thumbnail(source: Path, folder: Path, image: int) -> None:
    """Thumbnails show the slide alone; QuPath makes one anew where there is none."""
    old, new = (at / "data" / str(image) / THUMBNAIL for at in (source, folder))
    if not old.is_file():
        return
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old, new)
    except OSError as error:
        msg = f"cannot copy {old} to {new}: {error.strerror or error}"
        raise MachineError(msg) from error
