"""``copy``: a blinded copy of a project for one reader, in a folder of its own."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GlombridgeError, MachineError, ProtectedError, UsageError
from ..filenames import safe_name, shown_line
from ..ledger import Ledger, ProjectLock, Workspace
from ..ledger.pushed import record_of
from ..ledger.schema import REVIEW, WRITE_BEGUN, WRITE_DONE
from ..objects import PathClass, SlideObject
from ..progress import SILENT, Reporter, Task
from ..qupath import NativeStore
from ..qupath.copying import copy_images
from ..qupath.new_folder import new_folder
from ..qupath.project_file import ProjectFile
from ..qupath.saving import atomic_write
from ..qupath.store import HierarchyEdit, ImageContents
from ..qupath.stored_form import differences
from ..review.blinding import (
    COPY_LAYER,
    COPY_RUN,
    BlindedImage,
    Shown,
    blind,
    blinded_classes,
    blinded_settings,
    is_blind,
)
from ..review.readers import check_reader, write_reader
from ..schemes import SHIPPED
from ..settings import Settings
from ..sync.look import look_at
from ..sync.writing import each_image, read_seen
from ..tiles.patients import IMAGE_COLUMN, PATIENT_COLUMN, PatientTable
from .project import Project

COPIED = "copied"
"""The event with which the history of a copy begins."""

SCHEME_FILE = "scheme.json"

_WRITE = "write-001"
_TABLE = "patients.csv"


@dataclass(frozen=True)
class CopiedImage:
    """One image of a copy.

    Attributes:
        objects: that the reader gets.
        left_out: what does not go over, counted by what it is.
    """

    id: int
    name: str
    objects: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class CopyResult:
    """A blinded copy.

    Attributes:
        folder: of the new project.
        notes: what the one who gives it to the reader should know.
    """

    folder: Path
    reader: str
    shown: Shown
    seed: int
    images: tuple[CopiedImage, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "copy": str(self.folder),
            "reader": self.reader,
            "with": self.shown.value,
            "seed": self.seed,
            "images": [
                {"id": i.id, "name": i.name, "objects": i.objects, "left_out": dict(i.left_out)}
                for i in self.images
            ],
            "notes": list(self.notes),
        }


def copy(
    project: Project,
    reader: str,
    *,
    out: Path | None = None,
    shown: Shown = Shown.PROPOSALS,
    seed: int | None = None,
    metadata_keys: Iterable[str] = (),
    reporter: Reporter = SILENT,
) -> CopyResult:
    """Make a copy of a project in which one reader sees nobody's marks and no scores.

    The source is only read. Slides are not copied. The copy appears whole or not at all.

    Args:
        project: the source.
        reader: name of the reader, kept in the copy.
        out: folder of the copy; must not exist or be empty. By default beside the source, with the
            reader's name appended.
        shown: what the reader is to judge.
        seed: of the order of the queue; by default that of the settings.
        metadata_keys: metadata of images that goes over, beside patient and stain.
        reporter: for progress.

    Raises:
        UsageError: a name that cannot be a reader's, or metadata that no image has.
        ProtectedError: the folder is not empty, or lies inside the source.
        GlombridgeError: some image could not be read; each is named, nothing was written.
        MachineError: the copy cannot be written.
    """
    reader = check_reader(reader)
    metadata_keys = set(metadata_keys)
    _require_known(project, metadata_keys)
    folder = _free_folder(project, reader, out)
    chosen_seed = project.settings.seed if seed is None else seed
    contents = _read(project, reporter)
    blinded = blind(
        {c.entry_id: c.objects for c in contents},
        project.settings,
        shown,
        reader=reader,
        seed=chosen_seed,
    )
    settings = project.settings
    keys = {settings.patients.key, settings.split.stain_key, settings.evaluate.stain_key}
    with new_folder(folder) as hidden:
        store, missing = copy_images(
            ProjectFile.open(project.store.project_file),
            hidden,
            place=folder,
            image_types={c.entry_id: c.image_type for c in contents if c.stamp.exists},
            metadata_keys=keys.union(metadata_keys),
            slides=project.slides,
        )
        made = _Making(project, store, Workspace(hidden), blinded_settings(settings), reader)
        made.set_up(shown, chosen_seed, blinded)
        with reporter.task("copy", len(blinded)) as task:
            made.fill(blinded, shown, task)
    names = {e.id: e.name for e in project.store.images()}
    images = tuple(
        CopiedImage(b.image, names[b.image], len(b.objects), b.left_out) for b in blinded
    )
    notes = _notes(project, contents, images, missing, shown)
    return CopyResult(folder, reader, shown, chosen_seed, images, notes)


def _require_known(project: Project, keys: set[str]) -> None:
    there = {key for entry in project.store.images() for key in entry.metadata}
    if unknown := sorted(keys - there):
        names = ", ".join(map(repr, sorted(there))) or "none"
        msg = f"no image has metadata {', '.join(map(repr, unknown))} (what images have: {names})"
        raise UsageError(msg)


@dataclass(frozen=True)
class _Making:
    """One copy under way, in a folder that nobody sees yet."""

    source: Project
    store: NativeStore
    workspace: Workspace
    settings: Settings
    reader: str

    def set_up(self, shown: Shown, seed: int, blinded: Sequence[BlindedImage]) -> None:
        """Everything but the objects: classes, settings, patients, the reader, the first event."""
        classes = blinded_classes(self.source.store.classes(), self.settings)
        used = {o.path_class for b in blinded for o in b.objects if o.path_class is not None}
        rejected = [PathClass.parse(name) for name in self.settings.rejected]
        self.store.add_classes([*classes, *sorted(used, key=str), *rejected])
        self.workspace.create(self._relocated_settings())
        write_reader(self.workspace.folder, self.reader)
        scheme = self.source.workspace.folder / SCHEME_FILE
        if scheme.is_file():
            atomic_write(self.workspace.folder / SCHEME_FILE, scheme.read_bytes())
        history = self.workspace.history
        history.append(
            COPIED,
            source=self.source.store.folder.resolve().name,
            reader=self.reader,
            **{"with": shown.value},
            seed=seed,
            images=len(blinded),
        )
        parts = self.source.parts()
        if parts:
            # Once a test patient, always one, in a copy as well.
            source = self.source.recorded_patient_source
            with self.source.workspace.ledger_view() as ledger:
                images = {str(i): name for i, name in ledger.patients_of_images().items()}
            history.append("split", patients=dict(parts), images=images, patient_from=source)

    def _relocated_settings(self) -> Settings:
        """The settings with places that do not depend on the project's folder."""
        settings = self.settings
        slides = {str(old): str(new) for old, new in self.source.slides.rules}
        project = settings.project.model_copy(update={"slides": slides})
        patients = settings.patients
        if patients.source == "csv":
            table = PatientTable.read(self.source.store.folder / patients.file)
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow([IMAGE_COLUMN, PATIENT_COLUMN])
            rows.writerows(table.patients.items())
            atomic_write(self.store.folder / _TABLE, text.getvalue().encode())
            patients = patients.model_copy(update={"file": _TABLE})
        review = settings.review
        if review.scheme is not None and review.scheme not in SHIPPED:
            file = self.source.workspace.folder / review.scheme
            atomic_write(self.workspace.folder / file.name, file.read_bytes())
            review = review.model_copy(update={"scheme": file.name})
        changes = {"project": project, "patients": patients, "review": review}
        return settings.model_copy(update=changes)

    def fill(self, blinded: Sequence[BlindedImage], shown: Shown, task: Task) -> None:
        """Write the objects, read every file back, and put them on record."""
        with ProjectLock(self.workspace.lock_file), self.workspace.ledger() as ledger:
            for image in blinded:
                if image.objects:
                    self._write(image, ledger, is_followed=shown is Shown.PROPOSALS)
                self._prove(image)
                task.advance()
        shutil.rmtree(self._replaced, ignore_errors=True)

    @property
    def _replaced(self) -> Path:
        """Where the files without objects go that writes replace; nobody will want them back."""
        return self.workspace.folder / "replaced"

    def _write(self, image: BlindedImage, ledger: Ledger, *, is_followed: bool) -> None:
        self.store.write(
            image.image,
            HierarchyEdit(add=image.objects),
            expected=self.store.stamp(image.image),
            snapshot_folder=self._replaced,
        )
        if is_followed:
            # Without hashes of files: to undo the making of a copy would leave an empty one.
            ledger.record(
                WRITE_BEGUN,
                command="copy",
                write=_WRITE,
                image=image.image,
                run=COPY_RUN,
                layer=COPY_LAYER,
                model=None,
                sha256="",
                replaced="",
                snapshot=None,
                shared={},
                add=[record_of(obj, {}) for obj in image.objects],
                update=[],
                withdraw=[],
            )
            ledger.record(WRITE_DONE, write=_WRITE, image=image.image)
            return
        # Outlines of humans are followed as theirs. What is there now is nobody's decision here.
        look = look_at([], {}, self.store.read(image.image).objects, self.settings)
        decisions = [d.as_dict() for d in look.decisions]
        ledger.record(REVIEW, image=image.image, after=None, decisions=decisions)

    def _prove(self, image: BlindedImage) -> None:
        """Compare what the file says with what was asked for."""
        there = {obj.id: obj for obj in self.store.read(image.image).objects}
        wanted = {obj.id: obj for obj in image.objects}
        differing = there.keys() ^ wanted.keys() or [
            key for key, obj in there.items() if not _is_as_asked(obj, wanted[key])
        ]
        if differing:
            msg = (
                f"image {image.image} of the copy does not read back as it was written (object "
                f"{sorted(differing)[0]}). Nothing was made. This is a bug; please report it."
            )
            raise ProtectedError(msg)


def _is_as_asked(there: SlideObject, wanted: SlideObject) -> bool:
    apart = set(differences(there, wanted)) - {
        "outline"
    }  # 32 bits of a polygon; proven when written
    return not apart and is_blind(there)


def _free_folder(project: Project, reader: str, out: Path | None) -> Path:
    source = project.store.folder.resolve()
    default = source.with_name(f"{source.name}-{safe_name(reader)}")
    folder = Path(os.path.abspath(out or default))  # noqa: PTH100 (resolve() would follow links)
    if folder.resolve() == source or source in folder.resolve().parents:
        msg = f"{folder} is inside the project that is copied. Choose a folder outside: --out DIR."
        raise ProtectedError(msg)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        msg = f"{folder} is there already and no folder. Choose another one: --out DIR."
        raise ProtectedError(msg)
    try:
        is_full = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        msg = f"cannot look into {folder}: {error.strerror or error}"
        raise MachineError(msg) from error
    if is_full:
        told = _whole_copy(folder)
        msg = (
            f"{folder} {told or 'is not empty'}. A copy is never written over anything: choose another "
            "folder with --out DIR, or remove that one yourself."
        )
        raise ProtectedError(msg)
    return folder


def _whole_copy(folder: Path) -> str | None:
    """What to say of a folder that is a copy; it appeared whole, whatever became of who made it."""
    try:
        made = next(Workspace(folder).history.events(), None)
    except (GlombridgeError, OSError):
        return None
    if made is None or made["event"] != COPIED:
        return None
    source, reader = (shown_line(str(made.get(key))) for key in ("source", "reader"))
    return f"is a whole copy of {source} for {reader}, made at {shown_line(str(made.get('at')))}"


def _read(project: Project, reporter: Reporter) -> list[ImageContents]:
    """Every image, or none: a missing one must never look like an image without objects."""
    with project.workspace.ledger_view() as ledger:
        outcomes = each_image(
            project.store.images(),
            lambda entry: read_seen(project.store, ledger, entry.id),
            title="read annotations",
            reporter=reporter,
        )
    if outcomes.last_error is not None:
        lines = "\n".join(outcomes.failed)
        msg = f"no copy was made, these images cannot be read:\n{lines}"
        raise type(outcomes.last_error)(msg)
    return outcomes.done


def _notes(
    project: Project,
    contents: Sequence[ImageContents],
    images: Sequence[CopiedImage],
    missing: Sequence[str],
    shown: Shown,
) -> tuple[str, ...]:
    notes = []
    if missing:
        notes.append(
            f"the slides of {len(missing)} images are not found on this machine ({missing[0]}, ...); "
            "their places are kept as the project has them"
        )
    left_out: Counter[str] = Counter()
    for image in images:
        left_out.update(image.left_out)
    if left_out:
        said = ", ".join(f"{n} {what}" for what, n in sorted(left_out.items()))
        notes.append(f"not in the copy: {said}")
    names = {e.id: e.name for e in project.store.images()}
    for c in contents:
        notes += [f"not in the copy: {names[c.entry_id]}: {problem}" for problem in c.problems]
    if shown is not Shown.NOTHING and len(project.settings.class_names) > 1:
        notes.append(
            "the settings know several classes; the copy shows of each object which of them "
            f"({', '.join(map(shown_line, project.settings.class_names))}) it was"
        )
    return tuple(notes)
