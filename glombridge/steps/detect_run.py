"""The folder of a detection run: begun, continued after an interruption, published when complete.

A run is written into ``NAME.partial``. What is needed to continue it lies in ``.work`` there: the
plan (everything that decides the results) and one record per finished slide, written after the
slide's files. The manifest is written last, ``.work`` removed, and the folder renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..documents import parse_json
from ..errors import DeviceError, MachineError, ProtectedError, UsageError
from ..filenames import refuse_ways_out
from ..ledger import Workspace
from ..ledger.manifest import write_json
from ..qupath.leftovers import remove_leftovers
from ..slides.reader import fingerprint

PARTIAL = ".partial"
WORK = ".work"


@dataclass(frozen=True)
class DetectedImage:
    """One image of a detection run.

    Attributes:
        file: stem of its files: ``.parquet`` (raw boxes), ``.geojson`` (objects) and
            ``.scanned.geojson`` (where was looked).
        slide_fingerprint: of the slide file.
        unreadable: left, top, right, bottom in QuPath px of tiles that the file could not give.
        notes: what a reader of the results should know, one sentence each.
    """

    entry_id: int
    name: str
    found: int
    tiles_shown: int
    tiles: int
    file: str
    mpp: float | None
    slide_fingerprint: str
    width_px: int
    height_px: int
    unreadable: tuple[tuple[float, float, float, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """``complete``, or ``partial`` where a part of the slide could not be read."""
        return "partial" if self.unreadable else "complete"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and the manifest."""
        return {
            "id": self.entry_id,
            "name": self.name,
            "state": self.state,
            "found": self.found,
            "tiles_shown": self.tiles_shown,
            "tiles": self.tiles,
            "file": self.file,
            "mpp": self.mpp,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "slide_fingerprint": self.slide_fingerprint,
            "unreadable": [list(box) for box in self.unreadable],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> DetectedImage:
        """What :meth:`as_dict` gave."""
        return cls(
            int(document["id"]),
            document["name"],
            document["found"],
            document["tiles_shown"],
            document["tiles"],
            document["file"],
            document["mpp"],
            document["slide_fingerprint"],
            document["width_px"],
            document["height_px"],
            tuple((box[0], box[1], box[2], box[3]) for box in document["unreadable"]),
            tuple(document["notes"]),
        )


class DetectionRun:
    """A run being written. One process holds it at a time; use with ``with``.

    Attributes:
        folder: where it will lie when it is complete.
        partial: where it lies now.
        batch: tiles shown at once, fixed for the whole run.
        was_begun: whether an interrupted run is continued.
    """

    def __init__(self, partial: Path, lock: FileLock, batch: int, *, was_begun: bool) -> None:
        self.partial = partial
        self.folder = partial.with_name(partial.name.removesuffix(PARTIAL))
        self.batch = batch
        self.was_begun = was_begun
        self._lock = lock

    def __enter__(self) -> DetectionRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @classmethod
    def begin(
        cls, workspace: Workspace | None, out: Path | None, plan: Mapping[str, Any], batch: int
    ) -> DetectionRun:
        """Continue the interrupted run of this plan, or begin a new one.

        Args:
            workspace: of the project; its next run is begun where ``out`` is not given.
            out: the folder to make.
            plan: everything that decides the results.
            batch: tiles shown at once, where none was fixed before.

        Raises:
            ProtectedError: the folder is there already, another process is writing it, or a link in
                what it goes on from leads out.
            MachineError: it cannot be made.
        """
        if out is not None:
            return cls._begin_at(out, plan, batch)
        if workspace is None:
            msg = "without a project a detection run needs a folder to be made"
            raise UsageError(msg)
        for partial in sorted(workspace.detections.glob(f"detect-*{PARTIAL}"), reverse=True):
            refuse_ways_out(partial, partial, depth=2)
            found = _plan_in(partial)
            if found is not None and found["plan"] == plan:
                lock = _locked(partial)
                if lock is not None:
                    return cls(partial, lock, int(found["batch"]), was_begun=True)
        partial = workspace.claim_run(workspace.detections, "detect", suffix=PARTIAL)
        return cls._new(partial, plan, batch)

    @classmethod
    def _begin_at(cls, out: Path, plan: Mapping[str, Any], batch: int) -> DetectionRun:
        partial = out.with_name(out.name + PARTIAL)
        _publish_if_complete(partial)
        if out.exists():
            msg = f"{out} is there already; give --out a folder to be made"
            raise ProtectedError(msg)
        if not partial.exists():
            try:
                partial.mkdir(parents=True)
            except OSError as error:
                msg = f"cannot make {partial}: {error.strerror or error}"
                raise MachineError(msg) from error
            return cls._new(partial, plan, batch)
        refuse_ways_out(partial, partial, depth=2)
        lock = _locked(partial)
        if lock is None:
            msg = f"{partial} is being written by another process. Wait for it, or give another --out."
            raise ProtectedError(msg)
        found = _plan_in(partial)
        if found is not None and found["plan"] == plan:
            return cls(partial, lock, int(found["batch"]), was_begun=True)
        lock.release()
        if any(p.name != WORK for p in partial.iterdir()):
            msg = (
                f"{partial} holds an interrupted run that asked for something else (other images, "
                "weights, options or library versions). Give what was given then, another --out, or "
                "delete that folder."
            )
            raise ProtectedError(msg)
        return cls._new(partial, plan, batch)

    @classmethod
    def _new(cls, partial: Path, plan: Mapping[str, Any], batch: int) -> DetectionRun:
        lock = _locked(partial)
        if lock is None:
            msg = f"{partial} is being written by another process. Try again."
            raise ProtectedError(msg)
        write_json(partial / WORK / "plan.json", {"plan": plan, "batch": batch})
        return cls(partial, lock, batch, was_begun=False)

    def done(self, name: str, slide: Path | None) -> DetectedImage | None:
        """The record of a slide that is finished, if it still is the slide that was looked at.

        Args:
            name: stem of the slide's files.
            slide: its file; ``None`` where it cannot be found now.
        """
        path = record_path(self.partial, name)
        try:
            image = DetectedImage.from_dict(parse_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not finished, or cut: it is done once more
        files = [self.partial / f"{name}{end}" for end in (".parquet", ".geojson")]
        if not all(f.is_file() for f in files):
            return None
        if slide is None or fingerprint(slide) != image.slide_fingerprint:
            return None
        return image

    def publish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest and give the folder its name.

        Raises:
            MachineError: disk full, no permission.
        """
        # What a process that died was writing: no later run looks into this folder.
        remove_leftovers(self.partial)
        write_json(self.partial / "manifest.json", manifest)
        self._lock.release()
        shutil.rmtree(self.partial / WORK)
        self._rename()

    def abandon(self) -> None:
        """Remove a run that has nothing to show."""
        self._lock.release()
        shutil.rmtree(self.partial)

    def _rename(self) -> None:
        try:
            self.partial.rename(self.folder)
        except OSError as error:
            msg = f"cannot rename {self.partial} to {self.folder.name}: {error.strerror or error}"
            raise MachineError(msg) from error


def refuse_another_device(
    workspace: Workspace | None, out: Path | None, plan: Mapping[str, Any]
) -> None:
    """Refuse to begin a run anew on a CPU, unasked, because the GPU of an interrupted one is gone.

    Args:
        workspace: as in :meth:`DetectionRun.begin`.
        out: as there.
        plan: as there; no device was asked for.

    Raises:
        DeviceError: there is such a run, with finished slides.
    """
    if plan["device"] != "cpu":
        return
    if out is not None:
        partials = [out.with_name(out.name + PARTIAL)]
    else:
        partials = sorted(workspace.detections.glob(f"detect-*{PARTIAL}")) if workspace else []
    for partial in partials:
        found = _plan_in(partial)
        if found is None or found["plan"].get("device") in (None, "cpu"):
            continue
        of_device = {key: found["plan"].get(key) for key in ("device", "half")}
        n = sum(1 for p in (partial / WORK).glob("*.json") if p.name != "plan.json")
        if n and found["plan"] == {**plan, **of_device}:
            msg = (
                f"{partial} was interrupted on a GPU after {n} slides, and torch sees no GPU now. See what "
                "'nvidia-smi' and 'glombridge doctor' say of it, and give the same command again when it "
                "is back; or give --device cpu, which begins anew on the CPU."
            )
            raise DeviceError(msg)


def record_path(partial: Path, name: str) -> Path:
    """Where the record of a finished slide lies."""
    return partial / WORK / f"{name}.json"


def publish_complete(parent: Path) -> None:
    """Give their names to runs that were complete when they were killed."""
    for partial in sorted(parent.glob(f"*{PARTIAL}")):
        _publish_if_complete(partial)


def _publish_if_complete(partial: Path) -> None:
    folder = partial.with_name(partial.name.removesuffix(PARTIAL))
    is_complete = (partial / "manifest.json").is_file() and not (partial / WORK).exists()
    if is_complete and not folder.exists():
        partial.rename(folder)


def _plan_in(partial: Path) -> dict[str, Any] | None:
    try:
        document = parse_json((partial / WORK / "plan.json").read_text(encoding="utf-8"))
        return {"plan": document["plan"], "batch": int(document["batch"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _locked(partial: Path) -> FileLock | None:
    """The lock of a run folder, taken; ``None`` if a living process holds it."""
    (partial / WORK).mkdir(exist_ok=True)
    lock = FileLock(partial / WORK / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock
