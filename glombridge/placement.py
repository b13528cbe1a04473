"""Where a pixel that QuPath shows lies in the slide file, through rotations, flips and crops.

QuPath wraps the reader of a slide in further ones, each with its own pixel frame. Those that only
turn, mirror, move or cut by whole pixels come down to one :class:`Placement`; every other is
refused. Directions and orders follow the classes ``RotatedImageServer``, ``FlippedImageServer``,
``CroppedImageServer`` and ``AffineTransformImageServer`` of QuPath 0.7.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_COLOURS = "changes its colours, so a model would see another picture than the slide's"
_PUT_TOGETHER = "puts it together from several images or planes"
_WHY_NOT = {
    "channels": _PUT_TOGETHER,
    "color": _COLOURS,
    "color_deconvolved": _COLOURS,
    "normalized": _COLOURS,
    "sliced": _PUT_TOGETHER,
    "sparse": _PUT_TOGETHER,
    "swapRedBlue": _COLOURS,
    "typeConvert": _COLOURS,
    "z_concatenated": _PUT_TOGETHER,
    "z_projected": _PUT_TOGETHER,
}


@dataclass(frozen=True)
class ImageTransform:
    """One step between a slide file and the image QuPath shows.

    Attributes:
        kind: QuPath's builder type, for example ``rotated``.
        parameters: its JSON fields, without the wrapped builder and the metadata.
    """

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class InexactTransformError(ValueError):
    """A step that is not a turn, flip, move or crop by whole pixels; the message says why."""


class CropOutsideError(InexactTransformError):
    """A crop that reaches over the image it is cut from."""


class Box(NamedTuple):
    """A box of whole pixels: left and top inside, right and bottom just outside."""

    left: int
    top: int
    right: int
    bottom: int

    def intersection(self, other: Box) -> Box:
        """What both share; without extent where they share nothing."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Box(
            left,
            top,
            max(left, min(self.right, other.right)),
            max(top, min(self.bottom, other.bottom)),
        )

    def holds(self, other: Box) -> bool:
        """Whether the other box lies within this one."""
        return self.intersection(other) == other


class Turn(NamedTuple):
    """Quarter turns and mirrorings, as a matrix with one 1 or -1 in each row and column.

    It takes a step in the turned frame to the same step in the plain one: ``x = xx * x' + xy * y'``
    and ``y = yx * x' + yy * y'``.
    """

    xx: int = 1
    xy: int = 0
    yx: int = 0
    yy: int = 1

    @property
    def swaps(self) -> bool:
        """Whether rows become columns, as in a turn by 90 degrees."""
        return self.xx == 0

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Shape (2, 2), from the turned frame to the plain one."""
        return np.array([[self.xx, self.xy], [self.yx, self.yy]], float)

    @property
    def inverse(self) -> Turn:
        """From the plain frame to the turned one."""
        return Turn(self.xx, self.yx, self.xy, self.yy)

    def after(self, inner: Turn) -> Turn:
        """Both, ``inner`` applied first."""
        return Turn(
            self.xx * inner.xx + self.xy * inner.yx,
            self.xx * inner.xy + self.xy * inner.yy,
            self.yx * inner.xx + self.yy * inner.yx,
            self.yx * inner.xy + self.yy * inner.yy,
        )

    def point(self, x: int, y: int) -> tuple[int, int]:
        """A point of the turned frame in the plain one, both about the same (0, 0)."""
        return self.xx * x + self.xy * y, self.yx * x + self.yy * y

    def box(self, box: Box) -> Box:
        """A box of the turned frame in the plain one, both about the same (0, 0)."""
        (x0, y0), (x1, y1) = self.point(*box[:2]), self.point(*box[2:])
        return Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))

    def pixels(self, plain: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels read in the plain frame, as the turned one shows them; shape (rows, columns, ...)."""
        turned = plain.swapaxes(0, 1) if self.swaps else plain
        x_sign, y_sign = (self.yx, self.xy) if self.swaps else (self.xx, self.yy)
        return turned[::y_sign, ::x_sign]


PLAIN = Turn()
"""Nothing is turned."""


@dataclass(frozen=True)
class Placement:
    """An image of whole pixels and where it lies on level 0 of a slide.

    Attributes:
        width, height: of the image, in its own px.
        turn: of the image's frame against level 0.
        x, y: level-0 px at which the image's (0, 0) lies.
        visible: level-0 px that the image shows; the rest of it is empty.
    """

    width: int
    height: int
    turn: Turn
    x: int
    y: int
    visible: Box

    @classmethod
    def of_slide(cls, x: int, y: int, width: int, height: int) -> Placement:
        """The part of level 0 that a reader shows by itself."""
        return cls(width, height, PLAIN, x, y, Box(x, y, x + width, y + height))

    def box_to_level0(self, box: Box) -> Box:
        """A box of image px in level-0 px."""
        left, top, right, bottom = self.turn.box(box)
        return Box(left + self.x, top + self.y, right + self.x, bottom + self.y)

    def within(self, turn: Turn, x: int, y: int, width: int, height: int) -> Placement:
        """A further image whose frame lies turned in this one's, its (0, 0) at ``x``, ``y``."""
        dx, dy = self.turn.point(x, y)
        inner = Placement(
            width, height, self.turn.after(turn), self.x + dx, self.y + dy, self.visible
        )
        seen = inner.box_to_level0(Box(0, 0, width, height)).intersection(self.visible)
        return Placement(width, height, inner.turn, inner.x, inner.y, seen)


def placed_through(base: Placement, steps: Sequence[ImageTransform]) -> Placement:
    """Where an image lies that QuPath shows through some steps.

    Args:
        base: of the reader itself.
        steps: outermost first, as the project file nests them.

    Raises:
        InexactTransformError: a step is not a turn, flip, move or crop by whole pixels.
    """
    for step in reversed(steps):
        base = _through(base, step)
    return base


def why_not(kind: str) -> str | None:
    """Why a builder type cannot be supported whatever its parameters; ``None`` if it can be."""
    if kind in _STEPS:
        return None
    return _WHY_NOT.get(kind, "is not known to this version of glombridge")


def _through(base: Placement, step: ImageTransform) -> Placement:
    reason = why_not(step.kind)
    if reason is not None:
        raise InexactTransformError(reason)
    try:
        return _STEPS[step.kind](base, step.parameters)
    except InexactTransformError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        msg = f"does not say how ({type(error).__name__}: {error})"
        raise InexactTransformError(msg) from error


def _rotated(base: Placement, parameters: Mapping[str, Any]) -> Placement:
    width, height = base.width, base.height
    # Clockwise, as the image is seen.
    turns = {
        "ROTATE_NONE": (PLAIN, 0, 0, width, height),
        "ROTATE_90": (Turn(0, 1, -1, 0), 0, height, height, width),
        "ROTATE_180": (Turn(-1, 0, 0, -1), width, height, width, height),
        "ROTATE_270": (Turn(0, -1, 1, 0), width, 0, height, width),
    }
    return base.within(*turns[parameters["rotation"]])


def _flipped(base: Placement, parameters: Mapping[str, Any]) -> Placement:
    width, height = base.width, base.height
    flips = {
        "NONE": (PLAIN, 0, 0),
        "HORIZONTAL": (Turn(-1, 0, 0, 1), width, 0),
        "VERTICAL": (Turn(1, 0, 0, -1), 0, height),
        "BOTH": (Turn(-1, 0, 0, -1), width, height),
    }
    return base.within(*flips[parameters["flip"]], width, height)


def _cropped(base: Placement, parameters: Mapping[str, Any]) -> Placement:
    region = parameters["region"]
    x, y, width, height = (_whole(region[key]) for key in ("x", "y", "width", "height"))
    if _whole(region.get("z", 0)) or _whole(region.get("t", 0)):
        msg = "is cut from another plane than the first"
        raise InexactTransformError(msg)
    box = Box(x, y, x + width, y + height)
    if width <= 0 or height <= 0 or not Box(0, 0, base.width, base.height).holds(box):
        msg = f"is cut at {tuple(box)}, beyond the {base.width} x {base.height} px there are"
        raise CropOutsideError(msg)
    return base.within(PLAIN, x, y, width, height)


def _affine(base: Placement, parameters: Mapping[str, Any]) -> Placement:
    """QuPath shows the transformed image from (0, 0), as large as its bounds; a move empties a part."""
    matrix = parameters["transform"]
    m00, m10, m01, m11, m02, m12 = (
        _whole(matrix[key]) for key in ("m00", "m10", "m01", "m11", "m02", "m12")
    )
    shown_from_plain = Turn(m00, m01, m10, m11)
    if sorted(map(abs, shown_from_plain)) != [0, 0, 1, 1] or abs(m00 * m11 - m01 * m10) != 1:
        msg = f"scales or shears it ({tuple(shown_from_plain)})"
        raise InexactTransformError(msg)
    turn = shown_from_plain.inverse
    x, y = turn.point(-m02, -m12)
    width, height = base.width, base.height
    size = (height, width) if turn.swaps else (width, height)
    return base.within(turn, x, y, *size)


def _pyramidized(base: Placement, _: Mapping[str, Any]) -> Placement:
    # Adds coarser levels made from the finest and leaves that one alone.
    return base


def _whole(value: Any) -> int:
    number = int(value)
    if number != value:
        msg = f"moves, turns or scales it by {value}, not by whole pixels and quarter turns"
        raise InexactTransformError(msg)
    return number


_STEPS = {
    "affine": _affine,
    "cropped": _cropped,
    "flipped": _flipped,
    "pyramidize": _pyramidized,
    "rotated": _rotated,
}
