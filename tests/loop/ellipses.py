"""Slides with dark ellipses whose outlines are known exactly, and a project that marks them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import shapely
import tifffile
from shapely import affinity

from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.settings import (
    EvaluateSettings,
    PatientSettings,
    Settings,
    TileSettings,
    TrainSettings,
)

MPP = 4.0
WIDTH, HEIGHT = 1100, 520
TILE_PX = 128
TISSUE, DARK = (225, 185, 215), (110, 50, 110)


def settings() -> Settings:
    """Outlines, by a small network that learns these in about half a minute."""
    return Settings(
        seed=1,
        classes={"Glomerulus": ["Glomerulus"]},
        patients=PatientSettings(source="metadata", key="patient"),
        tiles=TileSettings(
            task="segment", mpp=MPP, width_px=TILE_PX, height_px=TILE_PX, overlap="48 px"
        ),
        train=TrainSettings(
            model=str(Path(__file__).with_suffix(".yaml")),
            epochs=24,
            batch=4,
            learning_rate=0.004,
            threads=1,
            validate_epochs=False,
        ),
        evaluate=EvaluateSettings(target="f1"),
    )


def ellipse(x: float, y: float, width: float, height: float, angle: float) -> shapely.Polygon:
    """A turned ellipse of 64 corners."""
    circle = shapely.Point(0, 0).buffer(0.5, quad_segs=16)
    turned = affinity.rotate(affinity.scale(circle, width, height), angle)
    return affinity.translate(turned, x, y)


def ellipses(seed: int) -> list[shapely.Polygon]:
    """Small ones on a loose lattice on the left; on the right pairs that touch, and some that tiles cut."""
    rng = np.random.default_rng(seed)
    shapes = []
    for y in range(95, 460, 85):
        for x in range(95, 560, 85):
            size = rng.uniform(24, 46)
            place = (x + rng.uniform(-15, 15), y + rng.uniform(-15, 15))
            shapes.append(ellipse(*place, size, size * rng.uniform(0.6, 1), rng.uniform(0, 180)))
    for y in range(95, 460, 85):
        left, right = rng.uniform(28, 42, 2)
        x, height = 640 + rng.uniform(-10, 10), rng.uniform(0.7, 1)
        shapes.append(ellipse(x - left / 2 - 0.5, y, left, left * height, 0))
        shapes.append(ellipse(x + right / 2 + 0.5, y, right, right * height, 0))
    for y in (115, 240, 365):
        for x in (790, 910, 1030):
            sizes = rng.uniform(60, 95), rng.uniform(55, 80)
            shapes.append(ellipse(x + rng.uniform(-8, 8), y, *sizes, rng.uniform(0, 180)))
    return shapes


def paint(path: Path, shapes: list[shapely.Polygon], seed: int) -> Path:
    """Ellipses on tissue: a tiled, JPEG-compressed slide, drawn finely and made smaller."""
    fine = 4
    rgb = np.full((HEIGHT * fine, WIDTH * fine, 3), TISSUE, np.uint8)
    for shape in shapes:
        # A pixel covers the ground from its number to the next: its middle is half a pixel on.
        corners = np.asarray(shape.exterior.coords) * fine - 0.5
        cv2.fillPoly(rgb, [np.round(corners * 16).astype(np.int32)], DARK, shift=4)
    rgb = cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(seed).normal(0, 5, (HEIGHT, WIDTH, 1))
    rgb = (rgb + noise).clip(0, 255).astype(np.uint8)
    rgb[:40] = rgb[:, :40] = 245
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "ycbcr"}
    options |= {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(rgb, **options)
        tiff.write(cv2.resize(rgb, None, fx=0.25, fy=0.25), subfiletype=1, **options)
    return path


def make_project(
    folder: Path, worlds: dict[str, list[shapely.Polygon]], *, unmarked: set[str]
) -> Path:
    """A project of one slide per world, each of a patient of its own; returns its folder."""
    store = NativeStore.create(folder / "project")
    store.add_classes([PathClass(("Glomerulus",))])
    for number, (name, shapes) in enumerate(worlds.items()):
        paint(folder / f"{name}.tif", shapes, number)
        entry = store.add_image(
            folder / f"{name}.tif",
            name=f"{name}.tif",
            metadata=ImageServerInfo(width=WIDTH, height=HEIGHT, mpp_x=MPP, mpp_y=MPP),
            image_metadata={"patient": f"p-{name}"},
        )
        if name in unmarked:
            continue
        marks = tuple(
            SlideObject(
                UUID(int=number * 1000 + k + 1),
                ObjectKind.ANNOTATION,
                Outline.of(shape),
                PathClass(("Glomerulus",)),
            )
            for k, shape in enumerate(shapes)
        )
        store.write(
            entry.id,
            HierarchyEdit(add=marks),
            expected=store.read(entry.id).stamp,
            snapshot_folder=folder / "kept",
        )
    return folder / "project"
