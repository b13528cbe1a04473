"""The files that describe a dataset: ``manifest.json`` and ultralytics' ``data.yaml``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
import openslide
import shapely

from .. import __version__
from ..geojson_codec import dump_geojson
from .cutting import SlideReport
from .grid import TileSpec
from .jobs import DatasetSettings, SlideJob
from .labels import ClassMap
from .split import PARTS

FORMAT = "glombridge dataset 1"
"""Value of ``format`` in a manifest; tells a dataset of ours from anything else."""


def manifest_text(
    reports: Sequence[SlideReport],
    fingerprints: Mapping[int, str],
    failed: Sequence[tuple[str, str]],
    settings: DatasetSettings,
    spec: TileSpec,
) -> str:
    """Text of ``manifest.json``. It holds no time and no path, so the same input gives the same.

    Args:
        reports: what was cut.
        fingerprints: of the slide file, by entry id.
        failed: image name and reason of slides that could not be read.
        settings: as given.
        spec: the tiles, with the overlap that was used.
    """
    names = settings.class_map.names
    document = {
        "format": FORMAT,
        "class_names": list(names),
        "settings": {
            "classes": dict(settings.class_map.index_of),
            "tile": asdict(spec),
            "tile_overlap_px": spec.overlap_px,
            "overlap_requested": settings.spec.overlap,
            "visible": asdict(settings.rule),
            "background_ratio": settings.background_ratio,
            "background_empty_slide": settings.background_empty_slide,
            "seed": settings.seed,
            "jpeg_quality": settings.jpeg_quality,
        },
        "versions": versions(),
        "patients": {
            part: sorted({r.job.patient for r in reports if r.job.part == part}) for part in PARTS
        },
        "tiles": part_tiles(reports),
        "objects": part_objects(reports, settings.class_map),
        "labels": {
            part: {
                name: sum(r.labels.get(i, 0) for r in reports if r.job.part == part)
                for i, name in enumerate(names)
            }
            for part in PARTS
        },
        "slides": [_slide_entry(report, fingerprints, names) for report in reports],
        "failed": [{"image": image, "reason": reason} for image, reason in failed],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def data_yaml_text(class_map: ClassMap) -> str:
    """Text of ``data.yaml``. Without ``path``, ultralytics looks beside the file itself."""
    # A JSON string is a YAML string whatever it holds.
    names = [f"  {i}: {json.dumps(n, ensure_ascii=False)}" for i, n in enumerate(class_map.names)]
    parts = [f"{part}: images/{part}" for part in PARTS]
    return "\n".join([*parts, "names:", *names]) + "\n"


def annotations_hash(job: SlideJob) -> str:
    """Hash of everything a human's marks contribute to an image's labels."""
    areas = job.areas
    digest = hashlib.sha256(dump_geojson((*job.objects, *job.hard_negatives)))
    for area in (areas.searched, areas.ignored, areas.pending, areas.cleared):
        digest.update(b"\0" if area is None else b"\1" + shapely.to_wkb(area, byte_order=1))
    return digest.hexdigest()


def part_tiles(reports: Sequence[SlideReport]) -> dict[str, int]:
    """Tiles written per part."""
    return {
        part: sum(sum(r.tiles.values()) for r in reports if r.job.part == part) for part in PARTS
    }


def part_objects(reports: Sequence[SlideReport], class_map: ClassMap) -> dict[str, dict[str, int]]:
    """Objects (not views of them) per part and class name."""
    return {
        part: {
            name: sum(r.objects.get(i, 0) for r in reports if r.job.part == part)
            for i, name in enumerate(class_map.names)
        }
        for part in PARTS
    }


def versions() -> dict[str, str]:
    """Versions of what decides a dataset's bytes."""
    return {
        "glombridge": __version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "openslide": openslide.__library_version__,
        "shapely": shapely.__version__,
    }


def _slide_entry(
    report: SlideReport, fingerprints: Mapping[int, str], names: Sequence[str]
) -> dict[str, Any]:
    job = report.job
    return {
        "image": job.image_name,
        "entry_id": job.entry_id,
        "file_prefix": report.prefix,
        "patient": job.patient,
        "part": job.part,
        "slide_fingerprint": fingerprints[job.entry_id],
        "annotations_sha256": annotations_hash(job),
        "size_px": [job.frame.width_px, job.frame.height_px],
        "mpp": [job.frame.mpp_x, job.frame.mpp_y],
        "notes": list(job.frame.notes),
        "tiles": dict(report.tiles),
        "objects": {names[i]: n for i, n in report.objects.items()},
        "labels": {names[i]: n for i, n in report.labels.items()},
        "views_painted_out": report.slivers,
        "not_whole_in_any_tile": list(report.not_whole),
    }
