"""What the tests of stores ask of a project, whichever store it is."""

from __future__ import annotations

import pytest

from glombridge.objects import SlideObject
from glombridge.qupath import (
    HierarchyEdit,
    ImageContents,
    NativeStore,
    find_installation,
    version_numbers,
)
from glombridge.qupath.stored_form import differences

BULK = "v0.6.0-bulk"


def written(store: NativeStore, edit: HierarchyEdit, image: int = 1) -> ImageContents:
    before = store.read(image)
    folder = store.folder / "kept"
    store.write(image, edit, expected=before.stamp, snapshot_folder=folder)
    return store.read(image)


def by_id(contents: ImageContents) -> dict[object, SlideObject]:
    return {obj.id: obj for obj in contents.objects}


def bytes_of(store: NativeStore, image: int = 1) -> bytes:
    return store.data_file(image).read_bytes()


def same(a: SlideObject, b: SlideObject) -> bool:
    """Equal in everything, the colour of the class too."""
    colors = [obj.path_class.color if obj.path_class else None for obj in (a, b)]
    ids = a.id == b.id and a.parent == b.parent and a.id_is_stored == b.id_is_stored
    return ids and not differences(a, b) and colors[0] == colors[1]


def readable(version: str) -> None:
    installed = find_installation()
    newest = version_numbers(installed.version if installed else None)
    if version_numbers(version) > newest:
        pytest.skip(f"the QuPath here is older than {version}, and refuses it")
