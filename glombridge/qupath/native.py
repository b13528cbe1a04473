"""The native project store: QuPath projects in plain Python, without Java and without QuPath."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ..errors import InputError, MachineError, ProtectedError
from ..filenames import require_inside
from ..objects import Color, ObjectKind, PathClass
from .classes_file import add_classes, read_classes
from .decoding import decode_and_forget
from .editing import FileEditor
from .hierarchy import DataFile
from .javastream.reader import paused_gc
from .locations import SlideFinder, SlideMap, resolve_slide
from .new_file import new_data_file
from .project_file import ImageServerInfo, ProjectFile, create_project
from .saving import (
    MISSING,
    PROJECT_ENTRY,
    atomic_write,
    check_unchanged,
    folder_for,
    read_stamped,
    remove_file,
    replace_file,
    snapshot_name,
    stamp_of,
)
from .store import FileStamp, HierarchyEdit, ImageContents, ImageEntry, WriteReceipt

_FALLBACK_VERSION = "0.6.0"

_Signature = tuple[int, int, int]
_NEVER: _Signature = (-1, -1, -1)
_COARSEST_CLOCK_NS = 3_000_000_000
"""FAT keeps times to two seconds, some network shares to one."""


class NativeStore:
    """A project on disk; implements :class:`~glombridge.qupath.store.ProjectStore`.

    Each call answers for the files as they are then; the parsed project file is kept only to be
    used again while the file on disk is the same. It does not lock the project and does not look
    for a running QuPath; that is the caller's part.
    """

    compares_all_objects: ClassVar[bool] = False
    """Whether what is written is proved object by object; here the bytes of untouched ones are."""

    def __init__(self, project_file: Path) -> None:
        self._project_file = project_file
        self._known: tuple[_Signature, ProjectFile] | None = None

    @classmethod
    def open(cls, path: Path | str) -> NativeStore:
        """Open a project by its ``.qpproj`` file, or a folder that holds exactly one.

        Raises:
            InputError: no project there, several, or not a project file.
        """
        project = ProjectFile.open(path)
        store = cls(project.path)
        store._known = (_NEVER, project)
        return store

    @classmethod
    def create(cls, path: Path | str, qupath_version: str = _FALLBACK_VERSION) -> NativeStore:
        """Make an empty project in a folder, or at a ``.qpproj`` path.

        Raises:
            ProtectedError: there is a project already.
            MachineError: it cannot be written.
        """
        return cls(create_project(path, qupath_version).path)

    @property
    def project_file(self) -> Path:
        """The ``.qpproj`` file."""
        return self._project_file

    @property
    def folder(self) -> Path:
        """The project folder."""
        return self._project_file.parent

    @property
    def qupath_version(self) -> str:
        """Version of QuPath that saved the project."""
        return self._project().version

    @property
    def classes_file(self) -> Path:
        """``classifiers/classes.json``, there or not."""
        file = self.folder / "classifiers" / "classes.json"
        require_inside(file, self.folder)
        return file

    def _project(self) -> ProjectFile:
        """The project file for reading; to change it, open it anew."""
        # Parsing it for each of 10,000 images would take an hour. The time of the last change
        # is coarse on some shares, so a file changed just now is compared by its content.
        now = _signature(self._project_file)
        if self._known is None:
            project = ProjectFile.open(self._project_file)
        elif now == self._known[0] != _NEVER:
            return self._known[1]
        else:
            project = self._known[1].refreshed()
        self._known = (now, project)
        return project

    def images(self) -> Sequence[ImageEntry]:
        """Every image, in the project's order."""
        return self._project().entries()

    def entry(self, entry_id: int) -> ImageEntry:
        """One image.

        Raises:
            InputError: the project has none with this id.
        """
        return self._project().entry(entry_id)

    def slide_path(self, entry: ImageEntry, slides: SlideMap = SlideMap()) -> Path | None:
        """The slide's file on this machine, ``None`` if it is not found.

        For all images at once :meth:`slide_finder` is much faster.

        Args:
            entry: the image.
            slides: where slides have moved.
        """
        return resolve_slide(entry, self._project(), slides)

    def slide_finder(self, slides: SlideMap = SlideMap()) -> SlideFinder:
        """For one look at the slides of all images."""
        return SlideFinder(self._project(), slides, in_bulk=True)

    def classes(self) -> Sequence[PathClass]:
        """The classes the project offers, with their colours."""
        return read_classes(self.classes_file)

    def add_classes(self, classes: Sequence[PathClass]) -> None:
        """Offer further classes; known ones keep their colour and place."""
        add_classes(self.classes_file, classes)

    def data_file(self, entry_id: int) -> Path:
        """The ``data.qpdata`` of an image, there or not."""
        return self._project().data_file(entry_id)

    def stamp(self, entry_id: int) -> FileStamp:
        """The state of an image's data file now."""
        return stamp_of(self.data_file(entry_id))

    def read(self, entry_id: int) -> ImageContents:
        """All objects of one image; an image without a data file has none.

        Class colours are those of the project where it has the class, as QuPath shows them.

        Raises:
            InputError: no such image.
            DamagedFileError: the data file is cut, or of a layout that is not known.
            ProtectedError: a ``.bkp`` is there, or the file is being written.
        """
        entry = self.entry(entry_id)
        path = self.data_file(entry_id)
        _refuse_backup(path, entry)
        data, stamp = read_stamped(path)
        if not stamp.exists:
            # QuPath may have begun to save since we looked: the file is then away for a moment.
            _refuse_backup(path, entry)
            return ImageContents(entry_id, (), None, MISSING)
        colored = {c.names: c for c in self.classes() if c.color is not None}
        # From first to last: a collection in between would walk the whole graph.
        with paused_gc():
            file = DataFile.parse(data, _title(entry))
            del data
            found = decode_and_forget(file, _seed(entry_id), colored)
        problems, not_understood = [], []
        objects = []
        for place, item in enumerate(found):
            if item.problem is not None:
                kind = item.source.kind.value if item.source.kind else "object"
                problems.append(f"object {place + 1} ({kind} {item.id}): {item.problem}")
                if item.object is None and item.source.kind in (None, ObjectKind.ANNOTATION):
                    not_understood.append(problems[-1])
            if item.object is not None:
                objects.append(item.object)
        return ImageContents(
            entry_id,
            tuple(objects),
            file.image_type,
            stamp,
            tuple(problems),
            tuple(not_understood),
        )

    def write(
        self,
        entry_id: int,
        edit: HierarchyEdit,
        *,
        expected: FileStamp,
        snapshot_folder: Path,
        ready: Callable[[WriteReceipt], None] | None = None,
    ) -> WriteReceipt:
        """Apply an edit; see :meth:`ProjectStore.write`.

        An image without a data file gets one, with its type not set.
        """
        if edit.is_empty:
            return WriteReceipt(entry_id, expected, None, changed=False)
        prepared = self._prepare(entry_id, edit, expected)
        if prepared is None:
            return WriteReceipt(entry_id, expected, None, changed=False)
        editor, data = prepared
        return self._publish(entry_id, data, expected, snapshot_folder, editor.check, ready)

    def check(self, entry_id: int, edit: HierarchyEdit, *, expected: FileStamp) -> bool:
        """Do all :meth:`write` does except writing; returns whether it would change anything.

        Raises:
            GlombridgeError: as :meth:`write` would.
        """
        if edit.is_empty:
            return False
        prepared = self._prepare(entry_id, edit, expected)
        if prepared is None:
            return False
        editor, data = prepared
        editor.check(data)
        return True

    def restore(
        self, entry_id: int, copy: Path | None, *, expected: FileStamp, snapshot_folder: Path
    ) -> WriteReceipt:
        """Put a kept copy of the data file back; what it replaces is kept in turn.

        Args:
            entry_id: the image.
            copy: the kept copy; ``None`` = there was no data file, so there shall be none.
            expected: the stamp of the data file as it is now.
            snapshot_folder: where the replaced file is kept.

        Raises:
            DamagedFileError: the copy cannot be read.
            InputError: there is no such copy.
            ProtectedError: the file changed since ``expected``, or QuPath is saving.
            MachineError: the machine does not let us.
        """
        path = self.data_file(entry_id)
        _refuse_backup(path, self.entry(entry_id))
        if copy is None:
            if not expected.exists:
                check_unchanged(path, expected)
                return WriteReceipt(entry_id, expected, None, changed=False)
            snapshot = snapshot_folder / snapshot_name(entry_id, path.name)
            remove_file(path, expected=expected, snapshot=snapshot)
            return WriteReceipt(entry_id, MISSING, snapshot, changed=True)
        data, stamp = read_stamped(copy)
        if not stamp.exists:
            msg = f"there is no kept copy at {copy}."
            raise InputError(msg)
        DataFile.parse(data, str(copy))
        if check_unchanged(path, expected) == data:
            return WriteReceipt(entry_id, expected, None, changed=False)
        return self._publish(entry_id, data, expected, snapshot_folder, _take_as_it_is)

    def _prepare(
        self, entry_id: int, edit: HierarchyEdit, expected: FileStamp
    ) -> tuple[FileEditor, bytes] | None:
        project = self._project()
        entry = project.entry(entry_id)
        path = project.data_file(entry_id)
        _refuse_backup(path, entry)
        original = check_unchanged(path, expected)
        if not expected.exists:
            original = new_data_file(
                project.server_builder(entry_id),
                qupath_version=project.version or _FALLBACK_VERSION,
            )
        colors: Mapping[tuple[str, ...], Color | None] = {c.names: c.color for c in self.classes()}
        about = None if self.compares_all_objects else edit
        editor = FileEditor(original, _title(entry), _seed(entry_id), colors, about)
        data = editor.apply(edit)
        return None if data == original else (editor, data)

    def _publish(
        self,
        entry_id: int,
        data: bytes,
        expected: FileStamp,
        snapshot_folder: Path,
        verify: Callable[[bytes], None],
        ready: Callable[[WriteReceipt], None] | None = None,
    ) -> WriteReceipt:
        path = self.data_file(entry_id)
        snapshot = snapshot_folder / snapshot_name(entry_id, path.name) if expected.exists else None

        def receipt(stamp: FileStamp) -> WriteReceipt:
            return WriteReceipt(entry_id, stamp, snapshot, changed=True)

        with folder_for(path):
            stamp = replace_file(
                path,
                data,
                expected=expected,
                snapshot=snapshot,
                verify=verify,
                ready=None if ready is None else lambda stamp: ready(receipt(stamp)),
            )
        return receipt(stamp)

    def add_image(
        self,
        path: Path,
        name: str | None = None,
        metadata: ImageServerInfo | None = None,
        image_metadata: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        image_type: str | None = "BRIGHTFIELD_OTHER",
        description: str | None = None,
    ) -> ImageEntry:
        """Add a slide to the project, read with OpenSlide.

        Args:
            path: the slide; need not exist yet.
            name: shown in QuPath; the file name by default.
            metadata: what is known of the slide. Without it QuPath looks into the file.
            image_metadata: the key-value pairs of the project's image list.
            tags: QuPath 0.6 and later show them.
            image_type: kept in a data file without objects; ``None`` = make no data file, and
                QuPath asks when it opens the image.
            description: free text.

        Raises:
            UsageError: an image type QuPath does not have.
            ProtectedError: the project file changed meanwhile, or a stray data file is in the way.
            MachineError: it cannot be written.
        """
        project = ProjectFile.open(self._project_file)
        entry = project.add_image(
            path,
            name=name,
            metadata=metadata,
            image_metadata=image_metadata,
            tags=tags,
            description=description,
        )
        # The data file first: QuPath opens a project with too much in its folders, but the other
        # way round a crash would leave an image without its type.
        if image_type is not None:
            file = project.data_file(entry.id)
            data = new_data_file(
                project.server_builder(entry.id),
                qupath_version=project.version or _FALLBACK_VERSION,
                image_type=image_type,
            )
            check_unchanged(file, MISSING)
            with folder_for(file):
                atomic_write(file, data)
        project.save()
        return project.entry(entry.id)

    def set_image_metadata(self, entry_id: int, values: Mapping[str, str | None]) -> None:
        """Set some of an image's metadata in the project file; ``None`` removes a key.

        Raises:
            InputError: no such image.
            ProtectedError: the project file changed meanwhile.
            MachineError: it cannot be written.
        """
        self.set_metadata_of_images({entry_id: values})

    def set_metadata_of_images(
        self,
        values: Mapping[int, Mapping[str, str | None]],
        *,
        snapshot_folder: Path | None = None,
    ) -> bool:
        """Set some metadata of several images in one write; ``None`` removes a key.

        Args:
            values: by entry id.
            snapshot_folder: where the project file as it was is kept, ``None`` = nowhere.

        Returns:
            Whether anything changed; otherwise nothing was written.

        Raises:
            InputError: no such image.
            ProtectedError: the project file changed meanwhile.
            MachineError: it cannot be written.
        """
        project = ProjectFile.open(self._project_file)
        changed = [project.set_image_metadata(i, wanted) for i, wanted in values.items()]
        if not any(changed):
            return False
        name = snapshot_name(PROJECT_ENTRY, project.path.name)
        project.save(snapshot=None if snapshot_folder is None else snapshot_folder / name)
        return True


def _signature(path: Path) -> _Signature:
    """What changes when a file does, :data:`_NEVER` while that cannot be relied on."""
    try:
        now = path.stat()
    except OSError:
        return _NEVER
    if time.time_ns() - now.st_mtime_ns < _COARSEST_CLOCK_NS:
        return _NEVER
    return now.st_mtime_ns, now.st_size, now.st_ino


def _take_as_it_is(_: bytes) -> None:
    """A kept copy was read before; :func:`replace_file` compares the bytes themselves."""


def _title(entry: ImageEntry) -> str:
    return f"data.qpdata of image {entry.id} ({entry.name!r})"


def _seed(entry_id: int) -> str:
    return f"entry {entry_id}"


def _refuse_backup(path: Path, entry: ImageEntry) -> None:
    backup = path.with_name(path.name + ".bkp")
    try:
        is_there = backup.exists()
    except OSError as error:
        msg = (
            f"{_title(entry)}: cannot look into {path.parent}: {error.strerror or error}. Ask for "
            "permission to read it."
        )
        raise MachineError(msg) from error
    if not is_there:
        return
    state = "beside it" if path.exists() else "and the file itself is missing"
    msg = (
        f"{_title(entry)}: {backup} is there, {state}. QuPath is saving this image, or crashed "
        "while it did. Wait and try again; if it stays, open the image in QuPath, check it and "
        "save it, then delete the .bkp file."
    )
    raise ProtectedError(msg)
