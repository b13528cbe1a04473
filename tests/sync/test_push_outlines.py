"""Proposals with outlines: what they carry, how they merge, and what an accepted one teaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry
from small_project import SmallProject

from glombridge.frames import Frame
from glombridge.objects import ObjectKind, Outline, OutlineKind, PathClass, SlideObject
from glombridge.sync import push
from glombridge.sync.push import Proposals, PushResult
from glombridge.tiles.grid import Grid, TileSpec
from glombridge.tiles.labels import ClassMap, is_only_a_box, label_tiles

ROUND = Point(1000.123, 900.456).buffer(100.0, quad_segs=12)
HOLED = ROUND.difference(Point(1000, 900).buffer(40))
TORN = MultiPolygon([Point(1000, 900).buffer(60), Point(1150, 900).buffer(50)])
SHAPES = [
    pytest.param(ROUND, OutlineKind.POLYGON, id="polygon"),
    pytest.param(HOLED, OutlineKind.GEOMETRY, id="hole"),
    pytest.param(TORN, OutlineKind.GEOMETRY, id="parts"),
]


def proposals(image: int, *outlines: BaseGeometry | None, boxes: list | None = None) -> Proposals:
    """As a detection run gives them; ``None`` is an object whose mask was empty."""
    bounds = boxes or [o.bounds for o in outlines if o is not None]
    n = len(outlines)
    drawn = np.full(n, None, object)
    drawn[:] = outlines
    whole = shapely.box(0, 0, 4000, 3000)
    return Proposals(
        image,
        np.array(bounds, float).reshape(-1, 4),
        np.full(n, 0.8),
        np.zeros(n, np.int64),
        0.5,
        "slide",
        whole,
        outline=drawn,
    )


def run_push(project: SmallProject, wanted: Proposals, run: str = "detect-001") -> PushResult:
    return push(project.store, project.workspace, project.settings, [wanted], run=run, model="abc")


def only(project: SmallProject) -> SlideObject:
    (obj,) = project.objects(project.first).values()
    return obj


@pytest.mark.parametrize("kind", list(ObjectKind)[:2], ids=lambda k: k.value)
@pytest.mark.parametrize(("shape", "stored_as"), SHAPES)
def test_an_outline_is_proposed_as_it_is_with_its_area(
    project: SmallProject, shape: BaseGeometry, stored_as: OutlineKind, kind: ObjectKind
) -> None:
    wanted = proposals(project.first, shape)
    options = {"run": "detect-001", "model": "abc", "objects": kind}
    push(project.store, project.workspace, project.settings, [wanted], **options)
    obj = only(project)
    assert obj.outline is not None
    assert obj.outline.kind is stored_as
    assert obj.outline.geometry.is_valid
    assert obj.outline.geometry.symmetric_difference(shape).area < 0.01 * shape.length
    # 0.5 µm per pixel: a quarter of the pixels.
    assert obj.measurements["Area um2"] == pytest.approx(shape.area / 4, rel=1e-3)
    assert obj.measurements["Diameter um"] > 0
    assert "glombridge.box" not in obj.metadata
    assert obj.metadata["glombridge.state"] == "proposal"
    before = project.bytes_of_everything()
    again = push(project.store, project.workspace, project.settings, [wanted], **options)
    assert (again.written, again.count("kept")) == ((), 1)
    assert project.bytes_of_everything() == before


def test_an_object_without_an_outline_is_proposed_as_a_box(project: SmallProject) -> None:
    run_push(project, proposals(project.first, None, boxes=[(10, 20, 110, 140)]))
    obj = only(project)
    assert obj.outline is not None
    assert (obj.outline.kind, obj.metadata["glombridge.box"]) == (OutlineKind.RECTANGLE, "true")
    assert "Area um2" not in obj.measurements


def test_the_box_is_the_place_so_an_outline_that_wavers_keeps_its_id(
    project: SmallProject,
) -> None:
    dented = ROUND.difference(Point(1000, 900).buffer(30))
    bounds = [ROUND.bounds]
    ids = set()
    for shape in (ROUND, dented):
        run_push(project, proposals(project.first, shape, boxes=bounds))
        ids.add(only(project).id)
    assert len(ids) == 1
    assert only(project).outline.geometry.interiors  # type: ignore[union-attr]


def test_a_box_becomes_an_outline_and_a_box_again_under_one_id(project: SmallProject) -> None:
    boxed = replace(proposals(project.first, None, boxes=[ROUND.bounds]), outline=None)
    run_push(project, boxed)
    first = only(project)
    assert run_push(project, proposals(project.first, ROUND), "detect-002").count("update") == 1
    second = only(project)
    assert run_push(project, boxed, "detect-003").count("update") == 1
    third = only(project)
    assert first.id == second.id == third.id
    flags = ["glombridge.box" in o.metadata for o in (first, second, third)]
    assert flags == [True, False, True]
    kinds = [o.outline.kind for o in (first, second, third) if o.outline]
    assert kinds == [OutlineKind.RECTANGLE, OutlineKind.POLYGON, OutlineKind.RECTANGLE]


def test_neighbours_that_touch_stay_two_and_a_later_run_moves_each(project: SmallProject) -> None:
    left, right = Point(900, 900).buffer(100), Point(1100, 900).buffer(100)
    run_push(project, proposals(project.first, left, right))
    before = {o.id: o for o in project.objects(project.first).values()}
    shifted = [shapely.affinity.translate(s, 6, 3) for s in (right, left)]
    result = run_push(project, proposals(project.first, *shifted), "detect-002")
    assert (result.added, result.count("update")) == (0, 2)
    after = project.objects(project.first)
    assert after.keys() == before.keys()
    for key, obj in after.items():
        moved = np.subtract(obj.outline.bounds, before[key].outline.bounds)  # type: ignore[union-attr]
        assert moved == pytest.approx([6, 3, 6, 3], abs=0.02)


@pytest.mark.parametrize(("shape", "stored_as"), SHAPES)
def test_a_save_in_qupath_rounds_corners_and_is_nobodys_decision(
    project: SmallProject, shape: BaseGeometry, stored_as: OutlineKind
) -> None:
    """QuPath keeps polygons with 32 bits and rounds geometries to a hundredth."""
    run_push(project, proposals(project.first, shape))
    obj = only(project)
    assert obj.outline is not None
    rounded = shapely.transform(
        obj.outline.geometry, lambda xy: np.round(xy.astype(np.float32).astype(float) + 1e-3, 2)
    )
    project.edit(
        project.first,
        replace=[replace(obj, outline=Outline(rounded, stored_as))],
    )
    again = run_push(project, proposals(project.first, shape), "detect-002")
    assert (again.added, again.count("update")) == (0, 1)


def test_what_is_accepted_trains_a_segmentation_if_it_is_an_outline(project: SmallProject) -> None:
    boxed = (2000.0, 900.0, 2200.0, 1100.0)
    wanted = proposals(project.first, HOLED, None, boxes=[HOLED.bounds, boxed])
    run_push(project, wanted)
    glomerulus = PathClass(("Glomerulus",))
    accepted = [replace(o, path_class=glomerulus) for o in project.objects(project.first).values()]
    project.edit(project.first, replace=accepted)
    run_push(project, wanted, "detect-002")
    there = list(project.objects(project.first).values())
    assert sorted(is_only_a_box(o) for o in there) == [False, True]
    grid = Grid.of(Frame("a", 4000, 3000, 0.5, 0.5), TileSpec(4000, 3000, 0))
    (tile,) = label_tiles(grid, there, ClassMap.of(["Glomerulus"]), task="segment")
    (label,) = tile.boxes
    assert isinstance(label.area, Polygon)
    assert label.area.symmetric_difference(HOLED).area < 0.01 * HOLED.length
    # The box is neither object nor background.
    assert tile.painted is not None
    assert tile.painted.equals(shapely.box(*boxed))
