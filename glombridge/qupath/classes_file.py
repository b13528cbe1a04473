"""``classifiers/classes.json``: the classes a project offers, with their colours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..objects import CLASS_SEPARATOR, Color, PathClass, check_class_level
from . import gson
from .encoding import DEFAULT_CLASS_COLOR
from .leftovers import remove_leftovers
from .saving import atomic_write, check_unchanged, folder_for, read_stamped
from .store import FileStamp


def read_classes(file: Path) -> tuple[PathClass, ...]:
    """The classes in the order of the file; none if there is no file.

    Raises:
        InputError: not such a file.
    """
    return tuple(_classes_of(_load(file)[0]))


def add_classes(file: Path, classes: Iterable[PathClass]) -> bool:
    """Offer further classes; known ones keep colour and place, unknown keys stay.

    Base classes of derived ones are not added by themselves.

    Returns:
        Whether the file was written.

    Raises:
        InputError: a class QuPath could not read back, or the file is no such file.
        ProtectedError: the file changed meanwhile.
        MachineError: it cannot be written.
    """
    document, stamp = _load(file)
    known = {found.names for found in _classes_of(document)}
    added = []
    for path_class in classes:
        for name in path_class.names:
            check_class_level(name)
        if path_class.names not in known:
            known.add(path_class.names)
            color = path_class.color or DEFAULT_CLASS_COLOR
            added.append({"name": str(path_class), "color": color.to_argb()})
    if not added:
        return False
    document.setdefault("pathClasses", []).extend(added)
    check_unchanged(file, stamp)
    remove_leftovers(file.parent)
    with folder_for(file):
        atomic_write(file, gson.dumps(document))
    return True


def _load(file: Path) -> tuple[dict[str, Any], FileStamp]:
    data, stamp = read_stamped(file)
    if not stamp.exists:
        return {}, stamp
    try:
        document = gson.loads(data)
    except ValueError as error:
        msg = (
            f"{file} is not JSON ({error}). Restore it, or delete it and let QuPath write it again."
        )
        raise InputError(msg) from error
    if not isinstance(document, dict) or not isinstance(document.get("pathClasses", []), list):
        msg = f"{file} is not a list of classes. Restore it, or delete it and let QuPath write it."
        raise InputError(msg)
    return document, stamp


def _classes_of(document: dict[str, Any]) -> list[PathClass]:
    found = []
    for item in document.get("pathClasses", []):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name.strip():
            continue
        # Not PathClass.parse: what QuPath wrote is shown as it is, even a name we would refuse.
        names = tuple(part.strip() for part in name.split(CLASS_SEPARATOR))
        color = item.get("color")
        found.append(PathClass(names, Color.from_argb(color) if isinstance(color, int) else None))
    return found
