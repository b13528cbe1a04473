"""Open a project with the store that its settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import MissingComponentError
from .native import NativeStore
from .paquo import PaquoStore, find_installation

StoreKind = Literal["paquo", "native"]
"""``paquo``: image data through a real QuPath. ``native``: plain Python."""


def open_store(path: Path | str, kind: StoreKind = "native") -> NativeStore:
    """Open a project by its ``.qpproj`` file, or a folder that holds exactly one.

    No QuPath starts yet, whatever the kind: the small JSON files are read without it.

    Args:
        path: of the project file or its folder.
        kind: how image data is read and written.

    Raises:
        InputError: no project there, several, or not a project file.
        MissingComponentError: the kind is "paquo" and no QuPath is installed.
    """
    if kind == "native":
        return NativeStore.open(path)
    # Found out here and once, not at each image.
    if find_installation() is None:
        msg = (
            f'the settings of {path} say store = "paquo", but no QuPath is found here. Set '
            'PAQUO_QUPATH_DIR to the folder of an installed QuPath, or write store = "native" into '
            "[project] of the settings, which needs none."
        )
        raise MissingComponentError(msg)
    return PaquoStore.open(path)
