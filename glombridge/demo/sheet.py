"""A contact sheet: what was found, cut from the slides, side by side in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from ..errors import InputError, UsageError

_GAP_PX = 10
_TITLE_PX = 44
_CAPTION_LINE_PX = 17
_INK = (30, 30, 36)
_PAPER = (250, 250, 251)
_FRAME = (205, 205, 212)

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
RGB = tuple[int, int, int]


@dataclass(frozen=True)
class SheetItem:
    """One thumbnail.

    Attributes:
        slide: path of the slide.
        outline: what to draw, in level-0 pixels; the thumbnail is cut around it.
        caption: one or more lines below the thumbnail.
        color: of the outline and of the mark beside the caption.
        others: further outlines to draw thinly in grey, for example the truth.
    """

    slide: Path
    outline: BaseGeometry
    caption: str
    color: RGB = (0, 150, 60)
    others: tuple[BaseGeometry, ...] = ()


def draw_contact_sheet(
    items: Sequence[SheetItem],
    path: Path,
    *,
    title: str,
    columns: int = 6,
    thumb_px: int = 220,
    field_px: float | None = None,
) -> None:
    """Draw thumbnails in a grid and write them as one PNG.

    Args:
        items: in reading order.
        path: the PNG; replaced in one step.
        title: one line above the grid.
        columns: thumbnails per row.
        thumb_px: edge of a thumbnail.
        field_px: edge of the square each thumbnail shows, in level-0 pixels; ``None`` is 1.7 times
            the larger side of each outline.

    Raises:
        UsageError: nothing to draw, or a grid that cannot be.
        InputError: a slide that OpenSlide cannot open.
    """
    if not items or columns < 1 or thumb_px < 16:
        msg = (
            f"a contact sheet needs items, columns >= 1 and thumb_px >= 16, got {len(items)} "
            f"items, columns={columns}, thumb_px={thumb_px}"
        )
        raise UsageError(msg)
    columns = min(columns, len(items))
    lines = max(item.caption.count("\n") + 1 for item in items)
    cell_height = thumb_px + lines * _CAPTION_LINE_PX + 6 + _GAP_PX
    rows = -(-len(items) // columns)
    size = (
        _GAP_PX + columns * (thumb_px + _GAP_PX),
        _TITLE_PX + rows * cell_height + _GAP_PX,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, 12), _fit(draw, title, _font(19), size[0] - 2 * _GAP_PX), _INK, _font(19))
    with ExitStack() as stack:
        slides: dict[Path, Any] = {}
        for number, item in enumerate(items):
            if item.slide not in slides:
                slides[item.slide] = stack.enter_context(_open(item.slide))
            row, column = divmod(number, columns)
            left = _GAP_PX + column * (thumb_px + _GAP_PX)
            top = _TITLE_PX + row * cell_height
            sheet.paste(_thumbnail(slides[item.slide], item, thumb_px, field_px), (left, top))
            edge = (left - 1, top - 1, left + thumb_px, top + thumb_px)
            draw.rectangle(edge, outline=_FRAME)
            below = top + thumb_px + 4
            draw.rectangle(
                (left, below, left + 3, below + lines * _CAPTION_LINE_PX - 2), item.color
            )
            for i, line in enumerate(item.caption.split("\n")):
                text = _fit(draw, line, _font(12), thumb_px - 9)
                draw.text((left + 9, below + i * _CAPTION_LINE_PX), text, _INK, _font(12))
    temporary = path.with_name(path.name + ".part")
    sheet.save(temporary, format="PNG")
    temporary.replace(path)


def _open(path: Path) -> Any:
    # Imported here, because openslide loads a shared library that a dry run need not have.
    import openslide

    try:
        return openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as error:
        msg = f"{path} cannot be opened as a slide ({error}). Check the path and the file."
        raise InputError(msg) from error


def _thumbnail(slide: Any, item: SheetItem, thumb_px: int, field_px: float | None) -> Image.Image:
    x0, y0, x1, y1 = item.outline.bounds
    field = field_px or 1.7 * max(x1 - x0, y1 - y0, 8.0)
    left, top = (x0 + x1 - field) / 2, (y0 + y1 - field) / 2
    level = slide.get_best_level_for_downsample(max(field / thumb_px, 1.0))
    downsample = slide.level_downsamples[level]
    read_px = max(1, round(field / downsample))
    region = slide.read_region((int(left), int(top)), level, (read_px, read_px))
    # Outside the slide OpenSlide gives transparent pixels.
    page = Image.new("RGBA", region.size, (*_PAPER, 255))
    page.alpha_composite(region)
    thumbnail = page.convert("RGB").resize((thumb_px, thumb_px), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(thumbnail)
    scale = thumb_px / field
    for other in item.others:
        _draw_rings(draw, other, (left, top), scale, (90, 90, 96), 1)
    _draw_rings(draw, item.outline, (left, top), scale, item.color, 2)
    return thumbnail


def _draw_rings(
    draw: ImageDraw.ImageDraw,
    geometry: BaseGeometry,
    origin: tuple[float, float],
    scale: float,
    color: RGB,
    width_px: int,
) -> None:
    polygons = geometry.geoms if isinstance(geometry, MultiPolygon) else [geometry]
    for polygon in polygons:
        rings = [polygon.exterior, *polygon.interiors] if isinstance(polygon, Polygon) else []
        for ring in rings:
            points = [((c[0] - origin[0]) * scale, (c[1] - origin[1]) * scale) for c in ring.coords]
            draw.line(points, fill=color, width=width_px, joint="curve")


def _font(size_px: int) -> Font:
    # Pillow brings this font along, so nothing is looked for or fetched.
    return ImageFont.load_default(size=size_px)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Font, width_px: float) -> str:
    """The text, its end cut off where it is too long."""
    if draw.textlength(text, font=font) <= width_px:
        return text
    while text and draw.textlength(text + "…", font=font) > width_px:
        text = text[:-1]
    return text.rstrip() + "…"
