"""The files that describe a dataset: ``manifest.json`` and ultralytics' ``data.yaml``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
import openslide
import shapely

from .. import __version__
from ..filenames import shown_text
from ..geojson_codec import dump_geojson
from ..objects import sound_area
from .grid import TileSpec
from .jobs import DatasetSettings, SlideJob
from .labels import ClassMap
from .leaks import LeakCheck
from .records import SlideRecord
from .split import PARTS

FORMAT = "glombridge dataset 1"
"""Value of ``format`` in a manifest; tells a dataset of ours from anything else."""


def manifest_text(
    records: Sequence[SlideRecord],
    failed: Sequence[tuple[str, str]],
    settings: DatasetSettings,
    spec: TileSpec,
    leaks: LeakCheck,
) -> str:
    """Text of ``manifest.json``. It holds no time and no path, so the same input gives the same.

    Args:
        records: what was cut.
        failed: image name and reason of slides that could not be read.
        settings: as given.
        spec: the tiles, with the overlap that was used.
        leaks: what comparing the slides found.
    """
    names = settings.class_map.names
    document = {
        "format": FORMAT,
        "class_names": list(names),
        "settings": settings_document(settings, spec),
        "versions": versions(),
        "patients": {
            part: sorted({r.patient for r in records if r.part == part}) for part in PARTS
        },
        "stains": {
            part: _sums({r.stain or "unknown": 1} for r in records if r.part == part)
            for part in PARTS
        },
        "leak_check": leaks.as_dict(),
        "tiles": part_tiles(records),
        "tile_kinds": {part: _sums(r.kinds() for r in records if r.part == part) for part in PARTS},
        "objects": part_objects(records, settings.class_map),
        "labels": {
            part: {
                name: sum(r.labels.get(name, 0) for r in records if r.part == part)
                for name in names
            }
            for part in PARTS
        },
        "slides": [_slide_entry(record) for record in records],
        "failed": [{"image": image, "reason": reason} for image, reason in failed],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def settings_document(settings: DatasetSettings, spec: TileSpec) -> dict[str, Any]:
    """Every setting that decides a tile, for a manifest and for :func:`slide_key`."""
    return {
        "task": settings.task,
        "classes": dict(settings.class_map.index_of),
        "tile": asdict(spec),
        "tile_overlap_px": spec.overlap_px,
        "overlap_requested": settings.spec.overlap,
        "visible": asdict(settings.rule),
        "background_ratio": settings.background_ratio,
        "background_empty_slide": settings.background_empty_slide,
        "seed": settings.seed,
        "jpeg_quality": settings.jpeg_quality,
    }


def slide_key(
    job: SlideJob, fingerprint: str, prefix: str, settings: DatasetSettings, spec: TileSpec
) -> str:
    """Hash of everything that decides the tiles of a slide: with the same key they are the same.

    Those are the file's content, the image's frame, what humans marked, its name and side, the
    settings, and the versions of the libraries that decode and encode.
    """
    frame = asdict(job.frame)
    document = {
        "fingerprint": fingerprint,
        "frame": frame,
        "annotations": annotations_hash(job),
        "image": [job.image_name, job.entry_id, job.patient, job.part, job.stain, prefix],
        "settings": settings_document(settings, spec),
        "versions": versions(),
    }
    names = list(settings.class_map.names)  # a record counts its objects by them
    if names != _usual_names(settings.class_map):
        # Else left out, as in earlier versions: what they cut need not be cut again.
        document["names"] = names
    text = json.dumps(document, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _usual_names(class_map: ClassMap) -> list[str]:
    """Each class called as the first QuPath class, by alphabet, that counts as it."""
    first: dict[int, str] = {}
    for alias, index in sorted(class_map.index_of.items()):
        first.setdefault(index, alias)
    return [name for _, name in sorted(first.items())]


def data_yaml_text(class_map: ClassMap) -> str:
    """Text of ``data.yaml``. Without ``path``, ultralytics looks beside the file itself."""
    # A JSON string is a YAML string, once what YAML does not take as it is has been spelt out.
    quoted = (shown_text(json.dumps(n, ensure_ascii=False)) for n in class_map.names)
    names = [f"  {i}: {name}" for i, name in enumerate(quoted)]
    parts = [f"{part}: images/{part}" for part in PARTS]
    return "\n".join([*parts, "names:", *names]) + "\n"


def annotations_hash(job: SlideJob) -> str:
    """Hash of everything a human's marks contribute to an image's labels."""
    areas = job.areas
    digest = hashlib.sha256(dump_geojson((*job.objects, *job.hard_negatives)))
    for area in (areas.searched, areas.ignored, areas.pending, areas.cleared):
        digest.update(b"\0" if area is None else b"\1" + shapely.to_wkb(area, byte_order=1))
    if areas.pending is not None and areas.cleared is not None:
        both = shapely.intersects(sound_area(areas.pending), sound_area(areas.cleared))
        # Earlier versions took such places for background; those slides are cut once more.
        digest.update(b"\2" if both else b"")
    return digest.hexdigest()


def part_tiles(records: Sequence[SlideRecord]) -> dict[str, int]:
    """Tiles written per part."""
    return {part: sum(len(r.tiles) for r in records if r.part == part) for part in PARTS}


def part_objects(records: Sequence[SlideRecord], class_map: ClassMap) -> dict[str, dict[str, int]]:
    """Objects (not views of them) per part and class name."""
    return {
        part: {
            name: sum(r.objects.get(name, 0) for r in records if r.part == part)
            for name in class_map.names
        }
        for part in PARTS
    }


def versions() -> dict[str, str]:
    """Versions of what decides a dataset's bytes."""
    return {
        "glombridge": __version__,
        "imagecodecs": version("imagecodecs"),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "openslide": openslide.__library_version__,
        "shapely": shapely.__version__,
        "tifffile": version("tifffile"),
    }


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _slide_entry(record: SlideRecord) -> dict[str, Any]:
    return {
        "image": record.image_name,
        "entry_id": record.entry_id,
        "file_prefix": record.prefix,
        "patient": record.patient,
        "part": record.part,
        "stain": record.stain,
        "slide_fingerprint": record.look.fingerprint,
        "annotations_sha256": record.annotations_sha256,
        "key": record.key,
        "files_sha256": record.files_sha256,
        "size_px": record.size_px,
        "mpp": record.mpp,
        "notes": record.notes,
        "grid_tiles": record.grid_tiles,
        "tiles": record.kinds(),
        "objects": record.objects,
        "labels": record.labels,
        "views_painted_out": record.slivers,
        "not_whole_in_any_tile": record.not_whole,
    }
