"""The worker's side: answers requests with a real QuPath. Runs in a process of its own."""

from __future__ import annotations

import faulthandler
import os
import signal
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...objects import ObjectKind, SlideObject
from ..javastream.reader import paused_gc
from .transfer import ObjectColumns, ReadRequest, RewriteRequest

if TYPE_CHECKING:
    from types import ModuleType

MISSING, READY, DONE, FAILED = "missing", "ready", "done", "failed"
"""First part of every answer."""


def serve(connection: Connection, log_file: str) -> None:
    """Start QuPath and answer requests until the other side closes the pipe.

    Args:
        connection: our end of the pipe.
        log_file: takes what Java and QuPath print; never mixed with the program's own output.
    """
    _prepare_process(log_file)
    try:
        from . import java
    except Exception as error:  # noqa: BLE001 (whatever stops QuPath must reach the other process)
        connection.send((MISSING, f"{type(error).__name__}: {error}"))
        return
    connection.send((READY, java.VERSION, java.HAS_OBJECT_IDS, java.ROUNDS_GEOMETRY))
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            break
        try:
            answer: tuple[Any, ...] = (DONE, _answer(java, request))
        except Exception as error:  # noqa: BLE001 (Java exceptions are of many classes)
            answer = (FAILED, f"{type(error).__name__}: {error}"[:2000])
        connection.send(answer)


def _prepare_process(log_file: str) -> None:
    # The JVM uses SIGSEGV itself, which Python's handler would take for a crash.
    faulthandler.disable()
    # Ctrl-C reaches the whole group; the other side decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _answer(java: ModuleType, request: ReadRequest | RewriteRequest) -> Any:
    java.set_class_colors(request.colors)
    image_data = java.read_image_data(request.source)
    # Reading may have met classes QuPath knows from elsewhere with another colour.
    java.set_class_colors(request.colors)
    if isinstance(request, ReadRequest):
        return read_columns(java, image_data)
    return rewrite(java, image_data, request)


def read_columns(java: ModuleType, image_data: Any) -> ObjectColumns:
    """Everything about all objects, in a few dozen calls whatever their number."""
    objects = java.objects_of(image_data)
    names = java.java_names(objects)
    classes, class_rows = java.classes(objects)
    measurement_names, name_rows, values = java.measurements(objects)
    cores = [i for i, name in enumerate(names) if name == "TMACoreObject"]
    cells = [i for i, name in enumerate(names) if name == java.CELL]
    return ObjectColumns(
        ids=java.ids(objects),
        kinds=[java.OBJECT_KINDS.get(name, name) for name in names],
        child_counts=java.child_counts(objects),
        class_rows=class_rows,
        classes=classes,
        names=java.names(objects),
        colors=java.colors(objects),
        locked=java.locked(objects),
        probabilities=java.probabilities(objects),
        missing=frozenset(i for i in cores if java.is_missing(objects.get(i))),
        name_rows=name_rows,
        measurement_names=measurement_names,
        values=values,
        metadata=java.metadata(objects),
        outlines=java.outlines(objects, range(len(names))),
        nuclei=java.outlines(objects, cells, nuclei=True),
    )


def rewrite(java: ModuleType, image_data: Any, request: RewriteRequest) -> int:
    """Change objects and write a new file; returns its size in bytes."""
    objects = list(java.objects_of(image_data))
    for position, text in request.ids.items():
        java.set_id(objects[position], text)
    for position, nucleus, outline in request.exact:
        exact = java.roi(outline, java.plane(outline.plane))
        java.set_roi(objects[position], exact, nucleus=nucleus)
    by_id = {}
    if request.changed or request.remove or any(obj.parent for obj in request.add):
        by_id = dict(zip(java.ids(java.objects_of(image_data)), objects, strict=True))
    for obj, fields in request.changed:
        _change(java, by_id[str(obj.id)], obj, set(fields))
    if request.remove:
        java.remove_objects([by_id[text] for text in request.remove])
    add_all(java, image_data, request.add, by_id)
    java.write_image_data(request.target, image_data)
    return Path(request.target).stat().st_size


def add_all(
    java: ModuleType, image_data: Any, added: tuple[SlideObject, ...], by_id: dict[str, Any]
) -> None:
    """Make all new objects, then put those under the image in with one call."""
    if not added:
        return
    # Only here, because it starts the JVM.
    from .adding import make

    # Looking through many values finds no cycles.
    with paused_gc():
        made = make(added)
        top: list[int] = []
        under: dict[str, list[int]] = {}
        if any(obj.parent for obj in added):
            for row, obj in enumerate(added):
                if obj.parent is None:
                    top.append(row)
                else:
                    under.setdefault(str(obj.parent), []).append(row)
    if not under:
        java.add_objects(image_data, made.all())
        return
    rows = {str(obj.id): row for row, obj in enumerate(added)}
    # In the order of their parents, so that the children of each are one part of the list.
    ordered = made.in_order([*top, *chain.from_iterable(under.values())])
    start = len(top)
    for parent, children in under.items():
        above = made.array[rows[parent]] if parent in rows else by_id[parent]
        java.add_children(above, ordered.subList(start, start + len(children)))
        start += len(children)
    if top:
        java.add_objects(image_data, ordered.subList(0, len(top)))


class ObjectMaker:
    """Makes what a changed object gets; planes and classes are made once and shared."""

    def __init__(self, java: ModuleType) -> None:
        self.java = java
        self._planes: dict[Any, Any] = {}
        self._classes: dict[Any, Any] = {}

    def roi(self, outline: Any) -> Any:
        """QuPath's ROI of an outline."""
        if outline.plane not in self._planes:
            self._planes[outline.plane] = self.java.plane(outline.plane)
        return self.java.roi(outline, self._planes[outline.plane])

    def path_class(self, obj: SlideObject) -> Any:
        """QuPath's class of an object, ``None`` if it has none."""
        given = obj.path_class
        if given is None:
            return None
        if given.names not in self._classes:
            argb = None if given.color is None else given.color.to_argb()
            self._classes[given.names] = self.java.path_class(given.names, argb)
        return self._classes[given.names]


def _change(java: ModuleType, target: Any, obj: SlideObject, fields: set[str]) -> None:
    made = ObjectMaker(java)
    if "outline" in fields:
        java.set_roi(target, made.roi(obj.outline))
    if "nucleus" in fields:
        nucleus = None if obj.nucleus is None else made.roi(obj.nucleus)
        java.set_roi(target, nucleus, nucleus=True)
    if fields & {"path_class", "probability"}:
        java.set_class(target, made.path_class(obj), obj.probability)
        # QuPath has just forgotten it.
        fields = fields | {"color"}
    if "color" in fields:
        java.set_color(target, None if obj.color is None else obj.color.to_argb())
    if "name" in fields:
        java.set_name(target, obj.name)
    if "locked" in fields:
        java.set_locked(target, obj.locked)
    if "measurements" in fields:
        java.set_measurements(target, obj.measurements.items(), clear=True)
    if "metadata" in fields:
        java.set_metadata(target, obj.metadata.items(), clear=True)
    if "missing" in fields and obj.kind is ObjectKind.TMA_CORE:
        java.set_missing(target, obj.missing)
