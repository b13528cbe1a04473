"""A slide with known truth, and what an honest detector reports of it through a real grid.

Objects are turned ellipses that never overlap; many touch a neighbour. A tile shows the part of an
object inside it, boxed as a detector boxes it: around what is visible, not around the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from shapely import affinity

from glombridge.detection.boxes import Boxes
from glombridge.detection.views import cut_sides
from glombridge.frames import Frame
from glombridge.tiles.grid import Grid, TileSpec

TILE_PX = 400


@dataclass(frozen=True)
class World:
    """Objects of a slide.

    Attributes:
        shapes: outlines, slide pixels.
        xyxy: (N, 4) their boxes.
        touching: (M, 2) pairs that were placed side by side without a gap.
    """

    shapes: np.ndarray
    xyxy: np.ndarray
    touching: np.ndarray
    side_px: int

    @property
    def extent_px(self) -> np.ndarray:
        """(N,) the longer side of each object's box."""
        return (self.xyxy[:, 2:] - self.xyxy[:, :2]).max(axis=1)


def ellipse(x: float, y: float, size_px: float, ratio: float, angle: float) -> shapely.Polygon:
    """A turned ellipse of 48 corners."""
    circle = shapely.Point(0, 0).buffer(0.5, quad_segs=12)
    return affinity.translate(
        affinity.rotate(affinity.scale(circle, size_px, size_px * ratio), angle), x, y
    )


@lru_cache(maxsize=8)
def make_world(
    n: int,
    *,
    tiles_wide: int,
    sizes: tuple[float, float] = (0.2, 2.0),
    touching_share: float = 0.3,
    seed: int = 0,
    tile_px: int = TILE_PX,
) -> World:
    """Place about ``n`` objects; sizes are drawn evenly over their logarithm, in tiles."""
    rng = np.random.default_rng(seed)
    side = tiles_wide * tile_px
    placed: list[shapely.Polygon] = []
    touching: list[tuple[int, int]] = []
    cell: dict[tuple[int, int], list[int]] = {}
    step = sizes[1] * tile_px

    def cells(shape: shapely.Polygon) -> list[tuple[int, int]]:
        x0, y0, x1, y1 = (int(v // step) for v in shape.bounds)
        return [(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)]

    def is_free(shape: shapely.Polygon) -> bool:
        x0, y0, x1, y1 = shape.bounds
        if min(x0, y0) < 0 or max(x1, y1) > side:
            return False
        near = {k for c in cells(shape) for k in cell.get(c, [])}
        return not any(shape.intersects(placed[k]) for k in near)

    for _ in range(12 * n):
        if len(placed) >= n:
            break
        size = tile_px * float(np.exp(rng.uniform(*np.log(sizes))))
        shape = ellipse(0, 0, size, rng.uniform(0.65, 1), rng.uniform(0, 180))
        neighbour = None
        if placed and rng.random() < touching_share:
            neighbour = int(rng.integers(len(placed)))
            other = placed[neighbour]
            angle = rng.uniform(0, 2 * np.pi)
            direction = np.array([np.cos(angle), np.sin(angle)])
            low, high = 0.0, 4 * step
            for _ in range(30):  # up to the point where the two just do not meet
                middle = (low + high) / 2
                x, y = np.array(other.centroid.coords[0]) + middle * direction
                meets = affinity.translate(shape, x, y).intersects(other)
                low, high = (middle, high) if meets else (low, middle)
            x, y = np.array(other.centroid.coords[0]) + high * direction
        else:
            x, y = rng.uniform(0, side, 2)
            # Some objects lie against the slide's edge, where nothing is cut.
            if rng.random() < 0.05:
                x = -shape.bounds[0] + 1e-6
        shape = affinity.translate(shape, x, y)
        if is_free(shape):
            if neighbour is not None:
                touching.append((neighbour, len(placed)))
            for key in cells(shape):
                cell.setdefault(key, []).append(len(placed))
            placed.append(shape)
    shapes = np.array(placed, object)
    pairs = np.array(touching, int).reshape(-1, 2)
    return World(shapes, shapely.bounds(shapes), pairs, side)


@dataclass(frozen=True)
class Noise:
    """What is wrong with the detector.

    Attributes:
        jitter: each side is off by up to this share of the box, evenly.
        missed: share of views that are not reported.
        least_visible: share of an object's area below which a view is not reported.
        fragments_score: whether a part scores as high as the whole; else in proportion.
    """

    jitter: float = 0.03
    missed: float = 0.0
    least_visible: float = 0.1
    fragments_score: bool = True


def look(
    world: World,
    noise: Noise,
    *,
    overlap: float = 1 / 3,
    seed: int = 1,
    tile_px: int = TILE_PX,
    outlines: bool = False,
) -> Boxes:
    """What is reported of a world, tile by tile; outlines are drawn out with their boxes."""
    rng = np.random.default_rng(seed)
    grid = Grid.of(Frame("sim", world.side_px, world.side_px), TileSpec(tile_px, tile_px, overlap))
    tiles = grid.boxes_px()
    squares = shapely.box(*tiles.T)
    tile, item = shapely.STRtree(world.shapes).query(squares, predicate="intersects")
    order = np.lexsort((item, tile))
    tile, item = tile[order], item[order]
    parts = shapely.intersection(squares[tile], world.shapes[item])
    share = shapely.area(parts) / shapely.area(world.shapes[item])
    keep = (share >= noise.least_visible) & (rng.random(len(share)) >= noise.missed)
    tile, share, seen = tile[keep], share[keep], shapely.bounds(parts[keep])
    size = np.tile(seen[:, 2:] - seen[:, :2], 2)
    xyxy = seen + rng.uniform(-noise.jitter, noise.jitter, seen.shape) * size
    xyxy = np.clip(xyxy, np.tile(tiles[tile, :2], 2), np.tile(tiles[tile, 2:], 2))
    score = rng.uniform(0.3, 1, len(xyxy))
    if not noise.fragments_score:
        score *= 0.3 + 0.7 * share
    frame = (world.side_px, world.side_px)
    return Boxes(
        xyxy,
        score,
        np.zeros(len(xyxy), np.int64),
        cut_sides(xyxy, tiles[tile], frame),
        tile,
        tiles,
        outline=fitted(parts[keep], seen, xyxy) if outlines else None,
    )


def fitted(parts: np.ndarray, seen: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
    """Outlines drawn out from their bounds to other bounds."""
    xy, of = shapely.get_coordinates(parts, return_index=True)
    scale = (xyxy[:, 2:] - xyxy[:, :2]) / (seen[:, 2:] - seen[:, :2])
    return shapely.set_coordinates(parts.copy(), (xy - seen[of, :2]) * scale[of] + xyxy[of, :2])


@dataclass(frozen=True)
class Outcome:
    """Found against truth, one to one at IoU 0.5.

    Attributes:
        lost: positions of the objects that nothing found.
        extra: positions of the found boxes that are no object: duplicates, fragments, unions.
    """

    n_truth: int
    n_found: int
    lost: np.ndarray
    extra: np.ndarray

    @property
    def f1(self) -> float:
        hits = self.n_truth - len(self.lost)
        return 2 * hits / max(1, self.n_truth + self.n_found)


def outcome(found: Boxes, truth_xyxy: np.ndarray) -> Outcome:
    """Compare stitched boxes with the truth."""
    from glombridge.evaluation.matching import match_boxes

    truth_of = match_boxes(found, truth_xyxy, min_iou=0.5).truth_of
    hit = np.zeros(len(truth_xyxy), bool)
    hit[truth_of[truth_of >= 0]] = True
    return Outcome(
        len(truth_xyxy), len(found), np.flatnonzero(~hit), np.flatnonzero(np.asarray(truth_of) < 0)
    )


def lattice(n_boxes: int, *, jitter: float = 0.03, seed: int = 0) -> tuple[Boxes, int]:
    """About ``n_boxes`` boxes of rectangles on a loose lattice, made at once: for timings.

    Returns:
        The boxes, and the number of rectangles they are views of.
    """
    rng = np.random.default_rng(seed)
    tile_px, step = 1000, 140
    side = int(np.sqrt(n_boxes / 2.6) * step)
    grid = Grid.of(Frame("lattice", side, side), TileSpec(tile_px, tile_px, 1 / 3))
    tiles = grid.boxes_px()
    k = side // step
    corner = np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2) * step
    corner = corner + rng.uniform(0, 30, corner.shape)
    items = np.hstack([corner, corner + rng.uniform(50, 150, corner.shape)])
    items = np.minimum(items, side)
    ranges = []
    for axis, starts in ((0, np.array(grid.x_starts)), (1, np.array(grid.y_starts))):
        first = np.searchsorted(starts + tile_px, items[:, axis], side="right")
        last = np.searchsorted(starts, items[:, axis + 2], side="left") - 1
        ranges.append((first, last))
    (x0, x1), (y0, y1) = ranges
    seen = [
        (item, (y0[item] + dy) * len(grid.x_starts) + x0[item] + dx)
        for dx in range(4)
        for dy in range(4)
        for item in [np.flatnonzero((x0 + dx <= x1) & (y0 + dy <= y1))]
    ]
    item, tile = (np.concatenate(column) for column in zip(*seen, strict=True))
    low = np.maximum(items[item, :2], tiles[tile, :2])
    high = np.minimum(items[item, 2:], tiles[tile, 2:])
    share = np.prod(high - low, axis=1) / np.prod(items[item, 2:] - items[item, :2], axis=1)
    keep = share > 0.1
    item, tile, xyxy = item[keep], tile[keep], np.hstack([low, high])[keep]
    xyxy = xyxy + np.tile(xyxy[:, 2:] - xyxy[:, :2], 2) * rng.uniform(-jitter, jitter, xyxy.shape)
    xyxy = np.clip(xyxy, np.tile(tiles[tile, :2], 2), np.tile(tiles[tile, 2:], 2))
    boxes = Boxes(
        xyxy,
        rng.uniform(0.05, 1, len(xyxy)),
        np.zeros(len(xyxy), np.int64),
        cut_sides(xyxy, tiles[tile], (side, side)),
        tile,
        tiles,
    )
    return boxes, len(items)
