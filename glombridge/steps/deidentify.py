"""What is handed out, with codes for the names of images and patients.

Everything is put together from what is known to hold no name, rather than cleaned of names: a field
that somebody adds to a manifest stays at home until it is named here.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from ..errors import DamagedFileError, ProtectedError
from ..filenames import is_plain_name, require_inside
from ..geojson_codec import load_objects, write_geojson
from ..ledger import Codes, open_codes
from ..ledger.manifest import write_json
from ..objects import SlideObject
from ..qupath.new_folder import new_folder
from ..report.page import Content, Model
from ..tiles.jobs import SlideJob
from ..tiles.writer import WITHHELD
from .project import Project

DATASET = "deidentified"
"""Kind of run of de-identified datasets; the newest of kind ``tiles`` is what training takes."""
SUFFIX = "-deidentified"
"""What the name of a detection folder or report that may be handed out ends with."""

_DETECTION_FACTS = (
    "kind", "run", "state", "weights", "confidence", "confidence_from", "method", "classes", "tiles",
    "batch", "environment",
)  # fmt: skip
_IMAGE_FACTS = (
    "state", "found", "tiles_shown", "tiles", "mpp", "width_px", "height_px", "unreadable",
)  # fmt: skip
_RUN_FACTS = (
    "kind", "run", "finished", "seconds", "seed", "threads", "parameters", "epochs", "best_epoch",
    "stopped_early", "resumed_after_epoch", "tile_metrics_of_best_epoch", "classes", "tiles",
    "weights", "peak_memory_bytes", "peak_gpu_memory_bytes", "hardware", "environment",
)  # fmt: skip
_DATASET_FACTS = ("name", "tiles", "objects")
_OPTION_FACTS = (
    "model", "pretrained", "preset", "epochs", "patience", "batch", "learning_rate", "seed", "threads",
    "validate", "device",
)  # fmt: skip


def coded_jobs(jobs: Sequence[SlideJob], codes: Codes) -> list[SlideJob]:
    """Jobs that cut the same tiles under codes, in an order that tells nothing either."""
    coded = [
        replace(
            job,
            entry_id=codes.entry(job.entry_id),
            image_name=codes.image(job.image_name),
            patient=codes.patient(job.patient),
            frame=replace(job.frame, notes=_coded_notes(job.frame.notes, job.image_name, codes)),
            objects=tuple(_coded(o, codes) for o in job.objects),
            hard_negatives=tuple(_coded(o, codes) for o in job.hard_negatives),
        )
        for job in jobs
    ]
    return sorted(coded, key=lambda job: (job.image_name, job.entry_id))


def hand_out_detections(project: Project, run: Path, out: Path | None = None) -> Path:
    """A copy of a detection run for others, with codes for names.

    Objects and raw boxes are the same; the objects' ids are others. What leads back into the
    project, and when and on which paths the run was made, is left out, so that it cannot be pushed:
    the run itself is there for that.

    Args:
        project: that the run is of.
        run: folder of a finished detection run.
        out: folder to make; beside the run by default.

    Returns:
        The folder made. It is complete or not there.

    Raises:
        ProtectedError: the folder is there already.
        DamagedFileError: a file of the run is no longer what was written.
        MachineError: disk full, no permission.
    """
    out = out or run.with_name(run.name + SUFFIX)
    check_free(out)
    with new_folder(out) as partial, open_codes(project.workspace) as codes:
        _write_detections(run, partial, codes)
    return out


def last_detected(project: Project) -> Path:
    """Folder of the detection run that was finished last; a continued one may have an older number."""
    *_, event = project.workspace.history.events("detect")
    folder = project.workspace.detections / str(event["run"])
    require_inside(folder, project.workspace.detections)
    return folder


def check_free(out: Path) -> None:
    """Refuse a folder that is there already.

    Raises:
        ProtectedError: it is.
    """
    if out.exists():
        msg = f"{out} is there already; give --out a folder to be made"
        raise ProtectedError(msg)


def _write_detections(run: Path, folder: Path, codes: Codes) -> None:
    path = run / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        count = Counter(image["name"] for image in manifest["images"])
        images = []
        for image in manifest["images"]:
            for end in (".parquet", ".geojson", ".scanned.geojson"):
                source = f"{image['file']}{end}"
                if not is_plain_name(source):
                    raise ValueError(source)
                require_inside(run / source, run)
            name, number = codes.image(image["name"]), codes.entry(int(image["id"]))
            file = name if count[image["name"]] == 1 else f"{name}-{number}"
            shutil.copyfile(run / f"{image['file']}.parquet", folder / f"{file}.parquet")
            for end in (".geojson", ".scanned.geojson"):
                objects = load_objects(run / f"{image['file']}{end}").objects
                write_geojson(folder / f"{file}{end}", [_coded(o, codes) for o in objects])
            images.append(
                {
                    "id": number,
                    "name": name,
                    "file": file,
                    **_only(image, _IMAGE_FACTS),
                    "slide_fingerprint": codes.fingerprint(image["slide_fingerprint"]),
                    "notes": list(_coded_notes(image["notes"], image["name"], codes)),
                }
            )
        failed = sorted(codes.image(failure["image"]) for failure in manifest["failed"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path} is not the manifest of a detection run: {error!r}"
        raise DamagedFileError(msg) from error
    document = _only(manifest, _DETECTION_FACTS) | {
        "project": False,
        "deidentified": True,
        "images": sorted(images, key=lambda image: (image["name"], image["id"])),
        "failed": [{"image": image, "reason": WITHHELD} for image in failed],
    }
    write_json(folder / "manifest.json", document)


def coded_content(content: Content, unread: Mapping[str, str], codes: Codes) -> Content:
    """What a report is made of, with codes for names.

    Args:
        content: as it is.
        unread: names of the images that gave no pictures, and why.
        codes: of the project.
    """
    notes = [note for note in content.notes if note not in unread_notes(unread)]
    notes += [f"{codes.image(name)}: no pictures, {WITHHELD}" for name in sorted(unread)]
    return replace(
        content,
        project="de-identified project",
        evaluation=_coded_evaluation(content.evaluation, codes),
        manifest=_coded_manifest(content.manifest, codes),
        models=[
            Model(m.run, m.architecture, _coded_evaluation(m.document, codes))
            for m in content.models
        ],
        notes=notes,
    )


def unread_notes(unread: Mapping[str, str]) -> list[str]:
    """Notes on the images of a report that gave no pictures."""
    return [f"{name}: no pictures, {why}" for name, why in unread.items()]


def _coded_evaluation(document: Mapping[str, Any], codes: Codes) -> dict[str, Any]:
    results = {
        part: {**told, "by_patient": _with_keys(told["by_patient"], codes.patient)}
        for part, told in document["results"].items()
    }
    slides = [
        {
            **slide,
            "id": codes.entry(slide["id"]),
            "image": codes.image(slide["image"]),
            "patient": codes.patient(slide["patient"]),
        }
        for slide in document["slides"]
    ]
    faults = [
        {
            **fault,
            "image": codes.entry(fault["image"]),
            "name": codes.image(fault["name"]),
            "object": None if fault["object"] is None else _coded_text(fault["object"], codes),
        }
        for fault in document["faults"]
    ]
    # The pictures know the faults by their places, so these stay in order.
    slides.sort(key=lambda slide: (slide["part"], slide["image"], slide["id"]))
    return {**document, "results": results, "slides": slides, "faults": faults}


def _coded_manifest(manifest: Mapping[str, Any], codes: Codes) -> dict[str, Any]:
    document = _only(manifest, _RUN_FACTS)
    if "options" in manifest:
        document["options"] = _only(manifest["options"], _OPTION_FACTS)
    if "dataset" in manifest:
        data = manifest["dataset"]
        document["dataset"] = _only(data, _DATASET_FACTS) | {
            "patients": {
                part: sorted(map(codes.patient, patients))
                for part, patients in data["patients"].items()
            }
        }
    return document


def _coded_notes(notes: Sequence[str], image_name: str, codes: Codes) -> tuple[str, ...]:
    return tuple(note.replace(repr(image_name), repr(codes.image(image_name))) for note in notes)


def _coded(obj: SlideObject, codes: Codes) -> SlideObject:
    parent = None if obj.parent is None else codes.object_id(obj.parent)
    return replace(obj, id=codes.object_id(obj.id), parent=parent)


def _coded_text(object_id: str, codes: Codes) -> str:
    return str(codes.object_id(UUID(object_id)))


def _with_keys(told: Mapping[str, Any], code: Callable[[str], str]) -> dict[str, Any]:
    return dict(sorted((code(key), value) for key, value in told.items()))


def _only(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: document[key] for key in keys if key in document}
