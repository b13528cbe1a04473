"""Stain jitter: tiles as another laboratory would have stained them.

Colours of stained tissue are sums of stains in optical density (Beer-Lambert). So each stain is made a little
stronger or weaker there, and the light a little bluer or redder, after Tellez et al., "Whole-Slide
Mitosis Detection in H&E Breast Histology Using PHH3 as a Reference to Train Distilled Stain-Invariant
Convolutional Networks", IEEE Transactions on Medical Imaging 37 (2018). Turning hue and saturation, as
is done with photographs, gives colours that no stain has.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

STRENGTH = 0.2
"""Each stain is multiplied by 1 - this to 1 + this: the stronger of the two settings that Tellez et al.
compare (``HED-strong``, Medical Image Analysis 58, 2019)."""

OFFSET_OD = 0.02
"""And shifted by up to this optical density: 5 % of the light."""

STAINS_RGB = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
"""(3, 3) optical density in red, green and blue of haematoxylin, eosin and DAB (Ruifrok and Johnston,
Analytical and Quantitative Cytology and Histology 23, 2001). The magenta of PAS is seven degrees away
from eosin's; what is neither goes to the third. Of other stains it still jitters the colours that these
directions make up: any three that differ span all."""

_OD_OF_BYTE = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
_LOG_10 = float(np.log(10))


def jittered(
    pixels: NDArray[np.uint8], strength: NDArray[np.float64], offset_od: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """A tile stained otherwise.

    Args:
        pixels: (height, width, 3), blue first, as OpenCV reads.
        strength: (3,) factor of each of :data:`STAINS_RGB`.
        offset_od: (3,) added to the amount of each.

    Returns:
        A new array; factors of 1 and offsets of 0 give the same bytes.
    """
    bgr = STAINS_RGB[:, ::-1].astype(np.float64)
    # Into amounts of stain, changed, and back into density: together one affine map.
    linear = np.linalg.inv(bgr) @ np.diag(strength) @ bgr
    affine = np.column_stack([linear.T, offset_od @ bgr]).astype(np.float32)
    density = cv2.transform(cv2.LUT(pixels, _OD_OF_BYTE), affine)
    light = cv2.exp(density * -_LOG_10) * 256 - 1
    made: NDArray[np.uint8] = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    return made


class StainJitter:
    """The first of a dataset's augmentations: before it is padded, as grey paper is not stained.

    What it draws comes from NumPy's generator, which :class:`~.order.SeededTiles` starts from seed,
    epoch and tile.
    """

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """The same tile with other pixels; those given are not changed, they may be a cache's."""
        draw = np.random.uniform(-1, 1, 6)  # noqa: NPY002 - what ultralytics draws from
        labels["img"] = jittered(labels["img"], 1 + STRENGTH * draw[:3], OFFSET_OD * draw[3:])
        return labels


def described() -> dict[str, float]:
    """For the run's manifest."""
    return {"strength": STRENGTH, "offset_od": OFFSET_OD}
