"""What a finished detection run proposes, read back from its folder for ``push``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import shapely
from shapely.geometry.base import BaseGeometry

from ..detection.pipeline import SlideDetections
from ..detection.stitch import stitch
from ..documents import expecting, parse_json, parse_wkt
from ..errors import DamagedFileError, InputError
from ..evaluation.calibration import Calibration
from ..filenames import is_plain_name, require_inside
from ..ledger import Workspace
from ..sync.proposals import Proposals
from .project import Project


def load_proposals(
    project: Project, folder: Path | None = None, *, min_confidence: float | None = None
) -> tuple[list[Proposals], str, str]:
    """What a detection run proposes, stitched at its threshold or another one.

    Returns:
        Proposals per image, the run's id, and the short hash of its weights.

    Raises:
        InputError: the folder is not a finished detection run, or its classes are not the project's.
        ProtectedError: its manifest is a link that leads out of it.
    """
    workspace = project.workspace
    folder = newest_detections(workspace) if folder is None else _named(workspace, folder)
    path = folder / "manifest.json"
    if not path.is_file():
        runs = workspace.finished_runs(workspace.detections, "detect")
        known = ", ".join(run.name for run in runs) or "none"
        msg = (
            f"{folder} is not a finished detection run: it has no manifest.json (runs of this "
            f"project: {known})"
        )
        raise InputError(msg)
    require_inside(path, folder)
    with expecting(path, "the manifest of a detection run", "Run 'glombridge detect' again."):
        manifest = parse_json(path.read_text(encoding="utf-8"))
        if manifest["kind"] != "detect":
            msg = f"{folder} is a run of kind {manifest['kind']!r}, not of detections"
            raise InputError(msg)
        if manifest["classes"] != project.settings.class_names:
            msg = (
                f"{folder} detects {manifest['classes']}, but [classes] of the settings says "
                f"{project.settings.class_names}"
            )
            raise InputError(msg)
        if manifest.get("deidentified"):
            msg = (
                f"{folder} holds codes instead of the project's images, so that nobody can push it. "
                f"Push the run it is a copy of: glombridge/detections/{manifest['run']}."
            )
            raise InputError(msg)
        if not manifest["project"]:
            msg = (
                f"{folder} was made from slide files, not from the images of a project, so nobody "
                "knows which image is which. Run 'glombridge detect PROJECT' instead."
            )
            raise InputError(msg)
        confidence = float(manifest["confidence"]) if min_confidence is None else min_confidence
        plans = {int(target["id"]): target for target in manifest["plan"]["images"]}
        told = manifest["plan"].get("calibration")  # runs of earlier versions do not name it
        calibration = None if told is None else Calibration.from_dict(told)
        proposals = []
        for image in manifest["images"]:
            seen = SlideDetections.load(_inside(folder, image["file"]))
            found = stitch(seen.boxes.above(confidence), manifest["method"])
            plan = plans[int(image["id"])]
            proposals.append(
                Proposals(
                    int(image["id"]),
                    found.xyxy,
                    found.score,
                    found.class_index,
                    None if image["mpp"] is None else float(image["mpp"]),
                    str(image["slide_fingerprint"]),
                    _searched(seen, plan["regions"]),
                    (int(image["width_px"]), int(image["height_px"])),
                    str(image["name"]),
                    tuple(plan["roi_classes"]),
                    str(plan["roi_sha256"]),
                    found.score_sd,
                    found.outline,
                    None if calibration is None else calibration.probability(found.score),
                )
            )
        return proposals, str(manifest["run"]), str(manifest["weights"]["sha256"])[:12]


def _named(workspace: Workspace, folder: Path) -> Path:
    """A run by its id, as 'layers' and 'status' name it, or any folder."""
    run = workspace.detections / folder.name
    return run if len(folder.parts) == 1 and not folder.exists() and run.is_dir() else folder


def _inside(folder: Path, stem: str) -> Path:
    """The boxes of an image, which lie in the run's own folder whatever its manifest says."""
    file = folder / f"{stem}.parquet"
    if not is_plain_name(f"{stem}.parquet") or file.is_symlink():
        msg = (
            f"{folder / 'manifest.json'} names the file {str(stem)[:200]!r}, which is not one of its own "
            "folder. Run 'glombridge detect' again."
        )
        raise DamagedFileError(msg)
    return file


def _searched(seen: SlideDetections, regions: Sequence[str]) -> BaseGeometry:
    """What a run looked at: of a tile that reaches out of the regions asked for only what is inside."""
    if not regions:
        return seen.scanned_area
    try:
        asked = shapely.union_all([parse_wkt(text) for text in regions])
        return shapely.intersection(seen.scanned_area, asked)
    except shapely.errors.ShapelyError as error:
        raise ValueError(*error.args) from error


def newest_detections(workspace: Workspace) -> Path:
    """Folder of the newest finished detection run.

    Raises:
        InputError: there is none.
    """
    run = workspace.latest_run(workspace.detections, "detect")
    if run is None:
        msg = (
            f"project {workspace.project_folder} has no detections. Run 'glombridge detect' first."
        )
        raise InputError(msg)
    return run
