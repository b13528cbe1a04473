"""What the objects of a slide teach in each of its tiles: pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args, overload
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..errors import UsageError
from ..objects import Outline, OutlineKind, PathClass, SlideObject, box_polygons, sound_area
from ..provenance import BOX
from .grid import Grid, TileBox

Task = Literal["detect", "segment"]
"""What the labels are for: boxes, or outlines."""
TASKS: tuple[Task, ...] = get_args(Task)

_WHOLE_BOX = 0.999  # share of its bounds that a box fills whatever kind it is stored as
_TOGETHER = 1 << 15  # tiles that are shapes at once; a shape takes half a kB
_MOSTLY = 0.5  # share of an object's area that decides whether it counts as inside an area


@dataclass(frozen=True)
class ClassMap:
    """Which QuPath class is which YOLO class.

    Attributes:
        names: display name of each YOLO class, by index.
        index_of: QuPath class as display text, to YOLO index. Whole names only:
            ``Glomerulus: Proposed`` is never ``Glomerulus``.
    """

    names: tuple[str, ...]
    index_of: Mapping[str, int]

    @classmethod
    def of(
        cls, classes: Mapping[str, int] | Sequence[str], aliases: Mapping[str, str] | None = None
    ) -> ClassMap:
        """From the settings.

        Args:
            classes: display text to YOLO index, or just the texts in order.
            aliases: further display texts, each with the text in ``classes`` it counts as.

        Raises:
            UsageError: indices that are not 0, 1, 2, ..., no class, or an alias of nothing.
        """
        if not isinstance(classes, Mapping):
            classes = {name: i for i, name in enumerate(classes)}
        by_index: dict[int, str] = {}
        for name, index in classes.items():
            by_index.setdefault(index, name)
        if sorted(by_index) != list(range(len(by_index))) or not by_index:
            msg = f"class indices must be 0, 1, 2, ... without a gap, got {dict(classes)}"
            raise UsageError(msg)
        index_of = dict(classes)
        for alias, name in (aliases or {}).items():
            if name not in classes:
                msg = f"class {alias!r} is given as an alias of {name!r}, which is not a class"
                raise UsageError(msg)
            index_of[alias] = classes[name]
        return cls(tuple(by_index[i] for i in range(len(by_index))), index_of)

    def index(self, path_class: PathClass | None) -> int | None:
        """YOLO index of a class, ``None`` if it is not to be detected."""
        return None if path_class is None else self.index_of.get(str(path_class))


@dataclass(frozen=True)
class VisibleRule:
    """What becomes of an object that a tile's border cuts, by the share of its area still inside.

    From ``keep`` upwards it is labelled; between ``drop`` and ``keep`` it is neither object nor
    background, and is painted out; below ``drop`` it is left alone.
    """

    keep: float = 0.5
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= self.keep <= 1:
            msg = f"visible shares must be 0 <= drop <= keep <= 1, got {self.drop} and {self.keep}"
            raise UsageError(msg)


@dataclass(frozen=True)
class Areas:
    """Where an image may be learnt from; every geometry in QuPath px, ``None`` = none given.

    Attributes:
        searched: where every object has been marked; ``None`` = the whole image.
        ignored: what a human marked to be ignored. Objects mostly inside are not used.
        pending: proposals nobody has judged: neither object nor background, except where a truth
            object lies over them.
        cleared: rejected proposals, where a human looked and found nothing: background even where
            nothing has been searched, except where something is pending.
    """

    searched: BaseGeometry | None = None
    ignored: BaseGeometry | None = None
    pending: BaseGeometry | None = None
    cleared: BaseGeometry | None = None


@dataclass(frozen=True)
class LabelBox:
    """One labelled object in one tile.

    Attributes:
        class_index: of YOLO.
        x0, y0, x1, y1: box of the visible part, in target px from the tile's left top corner.
        object_id: the object.
        visible_share: of its area.
        area: the visible part itself, in the same px.
    """

    class_index: int
    x0: float
    y0: float
    x1: float
    y1: float
    object_id: UUID
    visible_share: float
    area: BaseGeometry


@dataclass(frozen=True)
class TileLabels:
    """What one tile teaches.

    Attributes:
        tile: the tile.
        boxes: its labels, in the order of the objects.
        slivers: ids of objects in the ignore band.
        painted: what must be painted out, in target px from the tile's left top corner; ``None`` =
            nothing.
        usable_share: share of the tile that is not painted out.
    """

    tile: TileBox
    boxes: tuple[LabelBox, ...]
    slivers: tuple[UUID, ...]
    painted: BaseGeometry | None
    usable_share: float


def is_only_a_box(obj: SlideObject) -> bool:
    """Whether the outline says no more than where the object ends on four sides.

    So it is for every rectangle: those a detector proposed (metadata ``glombridge.box``) and those
    a human drew with the rectangle tool. A box that a human has since redrawn is none any more,
    though QuPath keeps its metadata.
    """
    if obj.outline is None:
        return False
    is_flagged = obj.metadata.get(BOX, "").lower() == "true"
    return obj.outline.kind is OutlineKind.RECTANGLE or (is_flagged and _fills_its_box(obj.outline))


def labelled_objects(
    objects: Iterable[SlideObject],
    class_map: ClassMap,
    areas: Areas = Areas(),
    *,
    task: Task = "detect",
) -> list[SlideObject]:
    """The objects that are used: of a mapped class, mostly searched and not mostly ignored.

    For ``"segment"`` without those that are only boxes.
    """
    candidates = [
        o
        for o in objects
        if o.outline is not None
        and o.outline.is_area
        and class_map.index(o.path_class) is not None
        and not (task == "segment" and is_only_a_box(o))
    ]
    if not candidates:
        return []
    shapes = _valid_shapes(candidates)
    # Measured when valid: the signed area of an outline that crosses itself can be 0.
    used = shapely.area(shapes) > 0
    if areas.searched is not None:
        used &= _share_inside(shapes, areas.searched) >= _MOSTLY
    if areas.ignored is not None:
        used &= _share_inside(shapes, areas.ignored) < _MOSTLY
    return [o for o, use in zip(candidates, used, strict=True) if use]


View = tuple[int, float, BaseGeometry]
"""What a tile shows of an object: its number, the share of its area, and the visible part in QuPath px."""


@dataclass(frozen=True)
class GridLabels(Sequence[TileLabels]):
    """Labels of every tile of a grid, in its order.

    Each is put together when it is asked for: a slide may have two million tiles, most of which teach
    nothing or are painted out whole.

    Attributes:
        grid: the tiles.
        objects: those used, and
        class_indices: of YOLO, of each.
        rule: what becomes of objects cut by a tile's border.
        shown: by tile, what it shows of objects.
        hidden: by tile, what must not be learnt from, QuPath px; ``None`` = all of the tile.
    """

    grid: Grid
    objects: Sequence[SlideObject]
    class_indices: Sequence[int]
    rule: VisibleRule
    shown: Mapping[int, Sequence[View]]
    hidden: Mapping[int, BaseGeometry | None]

    def __len__(self) -> int:
        return len(self.grid)

    @overload
    def __getitem__(self, index: int) -> TileLabels: ...
    @overload
    def __getitem__(self, index: slice) -> list[TileLabels]: ...
    def __getitem__(self, index: int | slice) -> TileLabels | list[TileLabels]:
        if isinstance(index, slice):
            return [self._of(tile) for tile in self.grid[index]]
        return self._of(self.grid[index])

    def __iter__(self) -> Iterator[TileLabels]:
        return map(self._of, self.grid)

    def _of(self, tile: TileBox) -> TileLabels:
        views = self.shown.get(tile.index, ())
        if not views:
            if tile.index not in self.hidden:
                return TileLabels(tile, (), (), None, 1.0)
            if self.hidden[tile.index] is None:
                whole = shapely.box(0, 0, tile.width_target_px, tile.height_target_px)
                return TileLabels(tile, (), (), whole, 0.0)
        kept = [view for view in views if view[1] >= self.rule.keep]
        slivers = [view for view in views if view[1] < self.rule.keep]
        hidden = self.hidden.get(tile.index)
        painted = _painted(hidden, [v[2] for v in slivers], [v[2] for v in kept])
        usable = 1.0 if painted is None else 1 - painted.area / self._area_px(tile)
        return TileLabels(
            tile,
            tuple(
                _label(self.class_indices[o], self.objects[o].id, share, part, tile)
                for o, share, part in kept
            ),
            tuple(self.objects[o].id for o, _, _ in slivers),
            None if painted is None else _geometry_in_tile(painted, tile),
            max(0.0, usable),
        )

    def _area_px(self, tile: TileBox) -> float:
        """Of what the tile shows of the image."""
        frame = self.grid.frame
        box = shapely.box(
            tile.x_px, tile.y_px, tile.x_px + tile.width_px, tile.y_px + tile.height_px
        )
        return float((box & shapely.box(0, 0, frame.width_px, frame.height_px)).area)


def label_tiles(
    grid: Grid,
    objects: Sequence[SlideObject],
    class_map: ClassMap,
    *,
    areas: Areas = Areas(),
    rule: VisibleRule = VisibleRule(),
    task: Task = "detect",
) -> GridLabels:
    """Labels of every tile of a grid, in its order.

    A labelled object is never painted over, also where it reaches out of the searched area.

    Args:
        grid: the tiles.
        objects: truth objects of the image in QuPath px; those of other classes are left out.
        class_map: what to detect.
        areas: where the image may be learnt from.
        rule: what becomes of objects cut by a tile's border.
        task: for ``"segment"`` objects that are only boxes are neither object nor background.
    """
    used = labelled_objects(objects, class_map, areas, task=task)
    if task == "segment":
        areas = _with_boxes_hidden(areas, labelled_objects(objects, class_map, areas))
    shapes = _valid_shapes(used)
    objects_at = shapely.STRtree(shapes)
    hidden_at = shapely.STRtree(_hidden_pieces(grid, areas))
    boxes_px = grid.boxes_px()
    shown: defaultdict[int, list[View]] = defaultdict(list)
    hidden: dict[int, BaseGeometry | None] = {}
    for first in range(0, len(grid), _TOGETHER):
        tiles = box_polygons(boxes_px[first : first + _TOGETHER])
        _show(tiles, first, objects_at, rule, shown)
        _hide(tiles, first, hidden_at, shown, hidden)
    class_indices = [class_map.index_of[str(o.path_class)] for o in used]
    return GridLabels(grid, used, class_indices, rule, shown, hidden)


def _show(
    tiles: NDArray[np.object_],
    first: int,
    objects_at: shapely.STRtree,
    rule: VisibleRule,
    shown: defaultdict[int, list[View]],
) -> None:
    """Find what some tiles, of which ``first`` is the number of the first, show of objects."""
    shapes = objects_at.geometries
    tile_of, object_of = objects_at.query(tiles, predicate="intersects")
    # A tile's labels keep the order of the objects, so that its file is always the same.
    order = np.lexsort((object_of, tile_of))
    tile_of, object_of = tile_of[order], object_of[order]
    parts = shapely.intersection(shapes[object_of], tiles[tile_of])
    shares = shapely.area(parts) / shapely.area(shapes[object_of])
    for t, o, share, part in zip(
        tile_of.tolist(), object_of.tolist(), shares.tolist(), parts, strict=True
    ):
        if share >= rule.drop and share > 0:
            shown[first + t].append((o, share, part))


def _fills_its_box(outline: Outline) -> bool:
    left, top, right, bottom = outline.bounds
    return outline.geometry.area >= _WHOLE_BOX * (right - left) * (bottom - top)


def _with_boxes_hidden(areas: Areas, objects: Sequence[SlideObject]) -> Areas:
    boxes = [o.outline.geometry for o in objects if o.outline is not None and is_only_a_box(o)]
    if not boxes:
        return areas
    hidden = boxes if areas.ignored is None else [*boxes, shapely.make_valid(areas.ignored)]
    return replace(areas, ignored=shapely.union_all(hidden))


def _valid_shapes(objects: Sequence[SlideObject]) -> NDArray[np.object_]:
    shapes = np.array([o.outline.geometry for o in objects if o.outline is not None], object)
    # Hand-drawn outlines cross themselves; an invalid one would abort every intersection.
    valid: NDArray[np.object_] = np.array([sound_area(s) for s in shapes], object)
    return valid


def _share_inside(shapes: NDArray[np.object_], area: BaseGeometry) -> NDArray[np.float64]:
    area = shapely.make_valid(area)
    shapely.prepare(area)
    inside = np.asarray(shapely.contains_properly(area, shapes), float)
    cut = np.flatnonzero((inside == 0) & shapely.intersects(area, shapes))
    overlap = shapely.area(shapely.intersection(shapes[cut], area))
    inside[cut] = overlap / np.maximum(shapely.area(shapes[cut]), np.finfo(float).tiny)
    return inside


def _hidden_pieces(grid: Grid, areas: Areas) -> NDArray[np.object_]:
    """What no tile may learn from, whatever objects lie there, in pieces that do not overlap."""
    image = shapely.box(0, 0, grid.frame.width_px, grid.frame.height_px)
    # A rejected outline may be a wrong one around objects that are still proposed.
    hidden = [shapely.make_valid(a) for a in (areas.pending, areas.ignored) if a is not None]
    if areas.searched is not None:
        unknown = image.difference(shapely.make_valid(areas.searched))
        if areas.cleared is not None:
            unknown = unknown.difference(shapely.make_valid(areas.cleared))
        hidden.append(unknown)
    # Simple pieces in a tree: one huge multipolygon would be walked through for every tile.
    pieces: NDArray[np.object_] = shapely.get_parts(shapely.union_all(hidden))
    pieces = pieces[shapely.area(pieces) > 0]
    shapely.prepare(pieces)
    return pieces


def _hide(
    tiles: NDArray[np.object_],
    first: int,
    hidden_at: shapely.STRtree,
    shown: Mapping[int, Sequence[View]],
    hidden: dict[int, BaseGeometry | None],
) -> None:
    """Cut what is hidden to some tiles, of which ``first`` is the number of the first."""
    pieces = hidden_at.geometries
    tile_of, piece_of = hidden_at.query(tiles, predicate="intersects")
    is_whole = shapely.covers(pieces[piece_of], tiles[tile_of])
    by_tile: defaultdict[int, list[BaseGeometry]] = defaultdict(list)
    for t, p, whole in zip(tile_of.tolist(), piece_of.tolist(), is_whole.tolist(), strict=True):
        if whole and first + t not in shown:
            hidden[first + t] = None
        else:
            by_tile[t].append(pieces[p])
    for t, cover in by_tile.items():
        hidden[first + t] = shapely.intersection(shapely.union_all(cover), tiles[t])


def _painted(
    hidden: BaseGeometry | None, slivers: list[BaseGeometry], kept: list[BaseGeometry]
) -> BaseGeometry | None:
    cover = [*slivers] if hidden is None else [hidden, *slivers]
    if not cover:
        return None
    painted: BaseGeometry = shapely.union_all(cover)
    if kept:
        painted = painted.difference(shapely.union_all(kept))
    # Areas that only touch a tile meet it in lines and points, which cover nothing.
    painted = shapely.union_all([p for p in shapely.get_parts(painted) if p.area > 0])
    return painted if painted.area > 0 else None


def _label(
    class_index: int, object_id: UUID, share: float, part: BaseGeometry, tile: TileBox
) -> LabelBox:
    area = _geometry_in_tile(part, tile)
    left, top, right, bottom = area.bounds
    # Rounding at the border must not make a YOLO number leave 0 to 1.
    return LabelBox(
        class_index,
        max(0.0, left),
        max(0.0, top),
        min(float(tile.width_target_px), right),
        min(float(tile.height_target_px), bottom),
        object_id,
        min(1.0, share),
        area,
    )


def _geometry_in_tile(geometry: BaseGeometry, tile: TileBox) -> BaseGeometry:
    scale = (tile.width_target_px / tile.width_px, tile.height_target_px / tile.height_px)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = (xy - (tile.x_px, tile.y_px)) * scale
        return moved

    moved: BaseGeometry = shapely.transform(geometry, move)
    return moved
