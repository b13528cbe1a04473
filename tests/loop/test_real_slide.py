"""A real Aperio slide goes through: project, annotation, tiles, labels, detections, push."""

from __future__ import annotations

import json
import math
import shutil
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest

from glombridge.cli import main
from glombridge.demo.run import DemoResult
from glombridge.geojson_codec import load_objects
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.settings import Settings, TileSettings
from glombridge.slides.reader import Slide
from glombridge.steps.init import init
from glombridge.steps.project import Project
from glombridge.steps.tile import tile
from glombridge.tiles.grid import Grid
from glombridge.tiles.yolo import yolo_to_slide

BOXES = [(300.0, 400.0, 700.0, 820.0), (1500.0, 2000.0, 1900.0, 2400.0)]


@pytest.fixture
def store(tmp_path: Path, data: Path) -> NativeStore:
    slide = tmp_path / "CMU-1-Small-Region.svs"
    shutil.copyfile(data / "slides" / slide.name, slide)
    made = NativeStore.create(tmp_path / "project")
    with Slide(slide) as opened:
        frame = opened.frame
    # Three entries of one slide would leak; the project has one image and says so.
    entry = made.add_image(
        slide,
        metadata=ImageServerInfo(
            width=frame.width_px, height=frame.height_px, mpp_x=frame.mpp_x, mpp_y=frame.mpp_y
        ),
        image_metadata={"patient": "CMU-1"},
    )
    marks = tuple(
        SlideObject(
            uuid.uuid5(uuid.NAMESPACE_OID, str(box)),
            ObjectKind.ANNOTATION,
            Outline.ellipse(*box),
            PathClass(("Glomerulus",)),
        )
        for box in BOXES
    )
    made.write(
        entry.id,
        HierarchyEdit(add=marks),
        expected=made.read(entry.id).stamp,
        snapshot_folder=tmp_path / "kept",
    )
    return made


def test_tiles_and_labels_are_right(store: NativeStore) -> None:
    settings = Settings(tiles=TileSettings(mpp=2.0, width_px=256, height_px=256, overlap="auto"))
    init(store.project_file, settings=settings)
    project = Project.open(store.project_file)
    dataset = tile(project, allow_few_patients=True).dataset
    manifest = json.loads(dataset.manifest.read_text("utf-8"))
    (entry,) = store.images()
    whole = 0
    with project.open_slide(entry) as slide:
        assert slide.frame.mpp_x == pytest.approx(0.499, abs=1e-4)
        tiles = Grid.of(slide.frame, dataset.spec)
        grid = {(math.floor(t.x_px + 0.5), math.floor(t.y_px + 0.5)): t for t in tiles}
        labels = sorted((dataset.folder / "labels" / "train").glob("*.txt"))
        assert len(labels) == manifest["tiles"]["train"] > 0
        for label in labels:
            tile_box = grid[position(label.stem)]
            image = cv2.imread(str(dataset.folder / "images" / "train" / f"{label.stem}.jpg"))
            region = slide.read_region(tile_box.x_px, tile_box.y_px, 256, 256, mpp=2.0)
            # JPEG at quality 90 is not exact; the mean shows that it is the same place.
            difference = np.abs(image[..., ::-1].astype(int) - region.astype(int))
            assert difference.mean() < 6
            for class_index, box in yolo_to_slide(label.read_text("utf-8"), tile_box):
                assert class_index == 0
                nearest = min(BOXES, key=lambda b: abs(b[0] - box[0]) + abs(b[1] - box[1]))
                inside = all(
                    nearest[k] - 3 <= box[k] <= nearest[k + 2] + 3
                    and box[k + 2] <= nearest[k + 2] + 3
                    for k in (0, 1)
                )
                assert inside
                whole += np.allclose(box, nearest, atol=3)
    assert whole >= len(BOXES)


def position(stem: str) -> tuple[int, int]:
    """Left top corner of a tile in QuPath pixels, from its file name."""
    parts = stem.rsplit("__", 1)[1].split("_")
    return int(parts[0].removeprefix("x")), int(parts[1].removeprefix("y"))


def test_detections_are_pushed_back(
    store: NativeStore, walked: DemoResult, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(store.folder)
    settings = Settings(classes={"Glomerulus": ["Glomerulus"]})
    init(store.project_file, settings=settings)
    weights = str(walked.round.train.weights)
    assert main(["detect", folder, "--weights", weights, "--min-confidence", "0.01", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["found"] > 0
    assert main(["push", folder, "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    objects = store.read(1).objects
    proposed = [o for o in objects if str(o.path_class) == "Glomerulus: Proposed"]
    assert len(proposed) == pushed["counts"]["add"] > 0
    assert len(objects) == len(proposed) + len(BOXES)
    for obj in proposed:
        assert obj.outline is not None
        x0, y0, x1, y1 = obj.outline.bounds
        assert 0 <= x0 < x1 <= 2220
        assert 0 <= y0 < y1 <= 2967
    loaded = load_objects(Path(run["folder"]) / f"{run['images'][0]['file']}.geojson")
    assert not loaded.problems
    assert len(loaded.objects) == run["found"]
