"""Taking annotations out of a QuPath project: GeoJSON per image and a manifest; writes nothing into it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shapely.geometry.base import BaseGeometry

from ..documents import expecting, parse_json
from ..errors import GlombridgeError, PartlyDoneError, ProtectedError
from ..filenames import safe_name
from ..geojson_codec import dump_objects
from ..ledger import Workspace
from ..ledger.history import utc_now
from ..ledger.manifest import environment, write_json
from ..objects import SlideObject
from ..progress import SILENT, Reporter
from ..qupath.saving import atomic_write
from ..qupath.store import ImageContents, ImageEntry, ProjectStore
from ..settings import Settings
from .judgements import problems_of_review
from .look import Decision
from .roles import (
    LabelledObject,
    Roles,
    SearchedBy,
    assign_roles,
    says_something,
    searched_area,
    searched_by,
)
from .writing import Desk, settle_writes

__all__ = ["ImageAnnotations", "LabelledObject", "Pull", "pull", "read_annotations"]


@dataclass(frozen=True)
class ImageAnnotations:
    """What one image of the project says.

    Attributes:
        objects: the objects pulled, in the project's order.
        roles: what they are to us.
        searched: where every object was marked, QuPath pixels; ``None`` = nowhere.
        sha256: of the objects as GeoJSON text: changes exactly when an annotation does.
        problems: objects that could not be understood, and reviews that contradict themselves, one
            line each.
        searched_by: why an area counts as searched.
        not_understood: annotations that are in ``problems`` and not in ``objects``.
    """

    entry: ImageEntry
    objects: tuple[SlideObject, ...]
    roles: Roles
    searched: BaseGeometry | None
    geojson: str
    problems: tuple[str, ...] = ()
    searched_by: SearchedBy = SearchedBy.NOWHERE
    not_understood: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the objects as GeoJSON text."""
        return hashlib.sha256(self.geojson.encode()).hexdigest()


@dataclass(frozen=True)
class Pull:
    """One taking of annotations, complete or not at all.

    Attributes:
        folder: where the GeoJSON files lie, ``None`` if nothing was written.
        changed: whether anything differs from the pull before.
        decisions: by entry id, what humans did since the last look at the image.
    """

    folder: Path | None
    images: tuple[ImageAnnotations, ...]
    sha256: str
    changed: bool
    decisions: Mapping[int, tuple[Decision, ...]] = field(default_factory=dict)

    @property
    def n_truth(self) -> int:
        """Truth objects over all images."""
        return sum(len(i.roles.truth) for i in self.images)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "pull": self.folder.name if self.folder else None,
            "sha256": self.sha256,
            "changed": self.changed,
            "images": [
                {
                    **_summary(i),
                    "decisions": [d.as_dict() for d in self.decisions.get(i.entry.id, ())],
                }
                for i in self.images
            ],
        }


def read_annotations(
    store: ProjectStore,
    settings: Settings,
    *,
    every_kind: bool = False,
    on_image: Callable[[ImageContents], None] | None = None,
    reporter: Reporter = SILENT,
) -> list[ImageAnnotations]:
    """Read every image of a project.

    Args:
        every_kind: all detections, cells, tiles and cores too, not only annotations and what we
            pushed as detections.
        on_image: is shown each image as it was read.

    Raises:
        PartlyDoneError: some image could not be read; each is named. Nothing is returned, because
            a missing image must never look like an image without annotations.
    """
    entries = store.images()
    images: list[ImageAnnotations] = []
    failed: list[str] = []
    colors = {str(c): c.color for c in store.classes() if c.color is not None}
    with reporter.task("read annotations", len(entries)) as task:
        for entry in entries:
            try:
                contents = store.read(entry.id)
                if on_image is not None:
                    on_image(contents)
            except GlombridgeError as error:
                failed.append(f"  image {entry.name!r} (entry {entry.id}): {error}")
                task.advance()
                continue
            wanted = tuple(o for o in contents.objects if every_kind or says_something(o))
            roles = assign_roles(contents.objects, settings)
            document = dump_objects(wanted, class_colors=colors)
            images.append(
                ImageAnnotations(
                    entry,
                    wanted,
                    roles,
                    searched_area(entry, roles, settings),
                    json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
                    (*contents.problems, *problems_of_review(wanted, settings)),
                    searched_by(entry, roles, settings),
                    contents.not_understood,
                )
            )
            task.advance(note=entry.name)
    if failed:
        msg = f"{len(failed)} of {len(entries)} images could not be read:\n" + "\n".join(failed)
        raise PartlyDoneError(msg)
    return images


def pull(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    *,
    out: Path | None = None,
    every_kind: bool = False,
    reporter: Reporter = SILENT,
) -> Pull:
    """Write one GeoJSON file per image and a manifest, and record what humans decided.

    Nothing of QuPath's is written. To be called by the holder of the project lock.

    Without ``out`` the files go to the next folder under ``glombridge/pulls``; when nothing changed
    since the last pull, that one is given back and nothing is written.

    Raises:
        PartlyDoneError: some image could not be read; nothing was written.
        ProtectedError: ``out`` is no folder, or the manifest in it is not that of a pull.
        MachineError: the folder cannot be written.
    """
    if out is not None:
        _check_target(out)
    with workspace.ledger() as ledger:
        settle_writes(store, ledger)
        desk = Desk(store, workspace, ledger, settings)
        decisions: dict[int, tuple[Decision, ...]] = {}

        def look(contents: ImageContents) -> None:
            found = desk.look(contents).decisions
            if found:
                decisions[contents.entry_id] = found

        # Nothing is put on record before every image could be read.
        images = tuple(
            read_annotations(
                store, settings, every_kind=every_kind, on_image=look, reporter=reporter
            )
        )
        for image, found in decisions.items():
            desk.record_decisions(image, found)
    return _written(workspace, store, settings, images, decisions, out=out, every_kind=every_kind)


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is there already and is no folder. Choose another one with --out."
        raise ProtectedError(msg)
    manifest = folder / "manifest.json"
    if manifest.exists() and not _is_of_a_pull(manifest):
        msg = (
            f"{manifest} is there already and not of a pull; it is left as it is. Choose another "
            "folder with --out."
        )
        raise ProtectedError(msg)


def _is_of_a_pull(manifest: Path) -> bool:
    try:
        document = parse_json(manifest.read_bytes())
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("kind") == "pull"


def _written(
    workspace: Workspace,
    store: ProjectStore,
    settings: Settings,
    images: tuple[ImageAnnotations, ...],
    decisions: Mapping[int, tuple[Decision, ...]],
    *,
    out: Path | None,
    every_kind: bool,
) -> Pull:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.entry.id}\0{image.sha256}\0{_searched_text(image)}\n".encode())
    digest.update(
        settings.model_dump_json(include={"classes", "ignore", "regions", "rejected"}).encode()
    )
    # What a scheme adds is said apart: a project without one keeps the hash it always had.
    if settings.graded_classes:
        digest.update(json.dumps(settings.graded_classes, sort_keys=True).encode())
    sha256 = digest.hexdigest()
    if out is None:
        last = workspace.latest_run(workspace.pulls, "pull")
        if last is not None:
            file = last / "manifest.json"
            with expecting(file, "the manifest of a pull", f"Remove {last}, and pull again."):
                known = parse_json(file.read_text(encoding="utf-8"))
                is_same = known["sha256"] == sha256 and known["every_kind"] == every_kind
            if is_same:
                return Pull(last, images, sha256, changed=False, decisions=decisions)
    folder = out or workspace.new_run(workspace.pulls, "pull")
    partial = folder.with_name(folder.name + ".partial") if out is None else folder
    if out is None and partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    # Of an earlier pull into this folder: it comes last, and says that all files are of one pull.
    (partial / "manifest.json").unlink(missing_ok=True)
    for image in images:
        atomic_write(partial / file_name(image.entry), image.geojson.encode())
    write_json(
        partial / "manifest.json",
        {
            "kind": "pull",
            "pull": folder.name,
            "finished": utc_now(),
            "sha256": sha256,
            "every_kind": every_kind,
            "qupath": store.qupath_version,
            "searched": settings.project.searched,
            "classes": settings.class_aliases,
            "regions": settings.regions,
            "ignore": settings.ignore,
            "rejected": settings.rejected,
            "images": [_summary(i) for i in images],
            "environment": environment(),
        },
    )
    if out is None:
        partial.rename(folder)
        workspace.history.append(
            "pull",
            pull=folder.name,
            sha256=sha256,
            images={str(i.entry.id): i.sha256 for i in images},
        )
    return Pull(folder, images, sha256, changed=True, decisions=decisions)


def file_name(entry: ImageEntry) -> str:
    """Name of an image's GeoJSON file: its entry id keeps two images of one name apart."""
    return f"{entry.id:04d}_{safe_name(entry.name)}.geojson"


def _searched_text(image: ImageAnnotations) -> str:
    return "nowhere" if image.searched is None else image.searched.wkt


def _summary(image: ImageAnnotations) -> dict[str, Any]:
    roles = image.roles
    return {
        "id": image.entry.id,
        "name": image.entry.name,
        "file": file_name(image.entry),
        "sha256": image.sha256,
        "objects": len(image.objects),
        "truth": len(roles.truth),
        "pending": len(roles.pending),
        "rejected": len(roles.rejected),
        "hard_negatives": len(roles.hard_negatives),
        "ignored": len(roles.ignored),
        "errors": len(roles.errors),
        "searched": "nowhere"
        if image.searched is None
        else "regions"
        if image.searched_by is SearchedBy.REGIONS
        else "whole image",
        "searched_by": image.searched_by.value,
        "unknown_classes": dict(roles.unknown),
        "unusable": [str(o.id) for o in roles.unusable],
        "problems": list(image.problems),
    }
