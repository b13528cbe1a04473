"""The paquo store: image data read and written by a real QuPath."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ...errors import DamagedFileError, MachineError, ProtectedError
from ...objects import Color, OutlineKind
from .. import gson
from ..editing import FileEditor
from ..hierarchy import DataFile
from ..javastream import JavaString
from ..native import NativeStore, _refuse_backup, _seed, _title
from ..saving import MISSING, read_stamped
from ..store import FileStamp, HierarchyEdit, ImageContents, WriteReceipt
from .assembling import assemble
from .file_facts import exact_geometry, ids_in_file
from .installation import version_numbers
from .proof import Proof, class_colors
from .transfer import ClassColors, ObjectColumns, ReadRequest, RewriteRequest
from .worker import QuPathFailedError, Worker


class PaquoStore(NativeStore):
    """A project whose image data a real QuPath reads and writes.

    The small JSON files of a project are read and written as by the native store: they are plain
    JSON, and going through QuPath would drop keys it does not know and need the JVM to list images.

    QuPath is only ever shown private copies of data files. What it writes is read back natively and
    compared before it takes a file's place (:class:`~.proof.Proof`), with the stamp checks and the
    kept copy of the native store. So what is refused natively is refused here, too.

    The worker process starts at the first image that is read or written, and ends with
    :meth:`close`, at the end of a ``with`` block, or with the program.
    """

    compares_all_objects = True

    def __init__(self, project_file: Path) -> None:
        super().__init__(project_file)
        self._running: Worker | None = None

    @classmethod
    def open(cls, path: Path | str) -> PaquoStore:
        """Open a project by its ``.qpproj`` file, or a folder that holds exactly one.

        Raises:
            InputError: no project there, several, or not a project file.
        """
        store = super().open(path)
        assert isinstance(store, PaquoStore)  # noqa: S101 (for the type checker)
        return store

    def __enter__(self) -> PaquoStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker process; the next image starts a new one."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def read(self, entry_id: int) -> ImageContents:
        """All objects of one image, as QuPath reads them; see :meth:`ProjectStore.read`.

        The structure of the file is checked natively first: QuPath opens a damaged file as an empty
        image, or never comes back.

        Raises:
            InputError: no such image.
            DamagedFileError: the data file is cut or of an unknown layout, or QuPath refuses it.
            ProtectedError: a ``.bkp`` is there, or the project was saved by a newer QuPath.
            MissingComponentError: QuPath does not start.
            MachineError: the worker process is gone.
        """
        entry = self.entry(entry_id)
        path = self.data_file(entry_id)
        title = _title(entry)
        _refuse_backup(path, entry)
        data, stamp = read_stamped(path)
        if not stamp.exists:
            _refuse_backup(path, entry)
            return ImageContents(entry_id, (), None, MISSING)
        file = DataFile.parse(data, title)
        nodes = list(file.root.walk())[1:]
        ids, stored, problems = ids_in_file(file.root, nodes, _seed(entry_id))
        # As in QuPath, the project's colours win over those in the file.
        colors = class_colors(file.handles)
        colors.update((c.names, c.color) for c in self.classes() if c.color is not None)
        columns = self._columns(data, _packed(colors), title)
        # QuPath turns an unreadable file into an empty image without a word.
        if len(columns.ids) != len(nodes):
            msg = f"{title}: QuPath reads {len(columns.ids)} objects, but there are {len(nodes)}."
            raise DamagedFileError(msg)
        for own, kept, seen in zip(ids, stored, columns.ids, strict=True):
            if kept and str(own) != seen:
                msg = f"{title}: QuPath reads object {own} under the id {seen}."
                raise DamagedFileError(msg)
        found, more, not_understood = assemble(columns, ids, stored)
        if self._worker().rounds_geometry:
            found = [
                None if obj is None else exact_geometry(obj, node)
                for obj, node in zip(found, nodes, strict=True)
            ]
        objects = tuple(obj for obj in found if obj is not None)
        return ImageContents(
            entry_id,
            objects,
            file.image_type,
            stamp,
            (*problems, *more),
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
        """Apply an edit with QuPath; see :meth:`ProjectStore.write`.

        Raises:
            InputError: an object QuPath could not read back.
            ProtectedError: as natively, or QuPath wrote something else than was asked for.
            MissingComponentError: QuPath does not start.
            MachineError: disk full, no permission, the worker process is gone.
        """
        rewritten = self._rewritten(entry_id, edit, expected)
        if rewritten is None:
            return WriteReceipt(entry_id, expected, None, changed=False)
        data, proof = rewritten
        return self._publish(entry_id, data, expected, snapshot_folder, proof.check, ready)

    def check(self, entry_id: int, edit: HierarchyEdit, *, expected: FileStamp) -> bool:
        """Do all :meth:`write` does except writing; returns whether it would change anything.

        Raises:
            GlombridgeError: as :meth:`write` would.
        """
        rewritten = self._rewritten(entry_id, edit, expected)
        if rewritten is None:
            return False
        data, proof = rewritten
        proof.check(data)
        return True

    def _worker(self) -> Worker:
        if self._running is None:
            worker = Worker()
            if version_numbers(self.qupath_version) > version_numbers(worker.version):
                worker.close()
                msg = (
                    f"{self.project_file} was saved by QuPath {self.qupath_version}, and the QuPath "
                    f"found here is {worker.version}, which could drop what it does not know. "
                    "Install that version or a later one, or use the native store."
                )
                raise ProtectedError(msg)
            self._running = worker
        return self._running

    def _ask(self, request: ReadRequest | RewriteRequest) -> Any:
        worker = self._worker()
        try:
            return worker.ask(request)
        except QuPathFailedError:
            raise
        except BaseException:
            # Gone, or interrupted while it works: its answer would be taken for that to the next
            # question. The next call starts another.
            self._running = None
            worker.close()
            raise

    def _columns(self, data: bytes, colors: ClassColors, title: str) -> ObjectColumns:
        with _scratch() as folder:
            source = _copy(Path(folder), data)
            try:
                columns = self._ask(ReadRequest(str(source), colors))
            except QuPathFailedError as error:
                msg = (
                    f"{title} has a known structure, but QuPath cannot read it ({error}). Restore it "
                    "from a backup, or look at it with the native store."
                )
                raise DamagedFileError(msg) from error
        assert isinstance(columns, ObjectColumns)  # noqa: S101 (the worker's only answer)
        return columns

    def _rewritten(
        self, entry_id: int, edit: HierarchyEdit, expected: FileStamp
    ) -> tuple[bytes, Proof] | None:
        """The file as QuPath writes it with the edit, and what it has to be compared with."""
        if edit.is_empty:
            return None
        # The native editor plans the edit and refuses what must be refused; its bytes are not used.
        prepared = self._prepare(entry_id, edit, expected)
        if prepared is None:
            return None
        editor = prepared[0]
        opaque = next((e for e in editor.found if e.object is None), None)
        if opaque is not None:
            msg = (
                f"{editor.name} was not changed: object {opaque.id} is not understood "
                f"({opaque.problem}), so what QuPath makes of it cannot be checked. The native store "
                "leaves such objects as they are."
            )
            raise ProtectedError(msg)
        with _scratch() as folder:
            source = _copy(Path(folder), editor.original)
            target = Path(folder) / "written.qpdata"
            try:
                self._ask(_request(editor, source, target))
            except QuPathFailedError as error:
                msg = f"{editor.name} was not changed: QuPath failed with {error}."
                raise ProtectedError(msg) from error
            data = read_stamped(target)[0]
        builder = self._project().server_builder(entry_id)
        return self._with_server(data, builder, editor.name), Proof(editor)

    def _with_server(self, data: bytes, builder: Any, title: str) -> bytes:
        """Name the image's reader in the file: QuPath had a stand-in for the slide."""
        file = DataFile.parse(data, title)
        head: dict[str, Any] = {"dataVersion": 3, "qupathVersion": self._worker().version}
        if builder is not None:
            head["server"] = builder
        file.contents[1] = JavaString.of(gson.dumps(head, pretty=False).decode("utf-8"))
        return file.emit()


def _request(editor: FileEditor, source: Path, target: Path) -> RewriteRequest:
    exact = []
    for i, entry in enumerate(editor.found):
        obj = entry.object
        for nucleus, outline in ((False, obj and obj.outline), (True, obj and obj.nucleus)):
            if outline is not None and outline.kind is OutlineKind.GEOMETRY:
                exact.append((i, nucleus, outline))
    return RewriteRequest(
        str(source),
        str(target),
        _packed(class_colors(DataFile.parse(editor.original, editor.name).handles)),
        {i: str(e.id) for i, e in enumerate(editor.found) if not e.id_is_stored},
        tuple(exact),
        editor.plan.added,
        tuple((obj, tuple(fields)) for obj, fields in editor.plan.changed.values()),
        tuple(str(object_id) for object_id in sorted(editor.plan.removed)),
    )


def _scratch() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="glombridge-")
    except OSError as error:
        msg = f"cannot make a temporary folder: {error}. Set TMPDIR to one with space."
        raise MachineError(msg) from error


def _copy(folder: Path, data: bytes) -> Path:
    """A private copy for QuPath, which so cannot touch the file nor meet one being saved."""
    path = folder / "read.qpdata"
    try:
        path.write_bytes(data)
    except OSError as error:
        msg = f"cannot write {path}: {error}. Make space there, or set TMPDIR to another folder."
        raise MachineError(msg) from error
    return path


def _packed(colors: Mapping[tuple[str, ...], Color]) -> ClassColors:
    # Parents first, so that they are not made with another colour.
    return tuple((names, colors[names].to_argb()) for names in sorted(colors))
