"""Small pictures of what went wrong, cut from the slides."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..slides.reader import Slide, resample

THUMBNAIL_PX = 200
_FIELD = 1.9
"""Edge of what is shown, in larger sides of the object: enough around it to know the place."""

_QUALITY = 82
RED, GREEN = (214, 40, 40), (0, 140, 70)


def thumbnail(
    slide: Slide,
    box: Sequence[float],
    *,
    found: Sequence[float] = (),
    truth: Sequence[float] = (),
) -> str:
    """A picture around a box, as a ``data:`` URI of a JPEG.

    Args:
        slide: open slide, in its QuPath frame.
        box: what to show, QuPath px.
        found: a detection, drawn red.
        truth: an object, drawn green.

    Raises:
        InputError: the slide is damaged there.
    """
    x0, y0, x1, y1 = box
    edge_px = max(16, round(_FIELD * max(x1 - x0, y1 - y0)))
    left, top = (x0 + x1 - edge_px) / 2, (y0 + y1 - edge_px) / 2
    pixels = slide.read_region(left, top, edge_px, edge_px, mpp=None)
    image = Image.fromarray(resample(pixels, THUMBNAIL_PX, THUMBNAIL_PX))
    draw = ImageDraw.Draw(image)
    for outline, color in ((truth, GREEN), (found, RED)):
        if outline:
            ends = zip(outline, (left, top, left, top), strict=True)
            draw.rectangle(
                [(v - origin) * THUMBNAIL_PX / edge_px for v, origin in ends],
                outline=color,
                width=2,
            )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
