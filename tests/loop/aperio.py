"""A slide as a scanner in a hospital leaves it: a label with a name on it, and a header that tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

OWNER = "Mustermann^Erika"
HEADER = {
    "AppMag": "20",
    "MPP": "0.5",
    "ScanScope ID": "SS4711secretscanner",
    "Date": "12/24/19",
    "User": "secretuser",
    "Filename": f"{OWNER} born 1931",
}
_HASHED_BYTES = 1 << 20  # at each end of the file, for its fingerprint


def make_aperio(path: Path, mpp: float) -> list[tuple[int, int]]:
    """Make an Aperio slide of a plain tiled JPEG pyramid, in its place, pixel for pixel the same.

    Returns:
        Where the pixels of the label and of the macro image lie in the file: offset and length.
        They are outside what the file's fingerprint is made of.
    """
    plain = path.with_suffix(".plain")
    path.rename(plain)
    with tifffile.TiffFile(plain) as old, tifffile.TiffWriter(path) as new:
        height, width = old.pages[0].shape[:2]
        facts = "|".join(f"{k} = {v}" for k, v in (HEADER | {"MPP": str(mpp)}).items())
        text = f"Aperio Image Library v12.0.15\r\n{width}x{height}|{facts}".encode()
        for page in old.pages:
            new.write(
                blocks(old, page), shape=page.shape, dtype=page.dtype, tile=page.tile[-2:],
                subfiletype=int(page.index > 0), photometric=page.photometric, description=text,
                subsampling=page.subsampling, compression="jpeg", jpegtables=page.jpegtables,
                metadata=None,
            )  # fmt: skip
        for name, kind in (("label", 1), ("macro", 9)):
            text = f"Aperio Image Library v12.0.15\r\n{name} 400x300".encode()
            new.write(
                label(), subfiletype=kind, description=text, photometric="rgb", metadata=None,
                compression="lzw" if name == "label" else "jpeg", rowsperstrip=300,
            )  # fmt: skip
    plain.unlink()
    with path.open("ab") as file:
        file.write(bytes(_HASHED_BYTES))
    places = []
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages[-2:]:
            places += zip(page.dataoffsets, page.databytecounts, strict=True)
    assert min(offset for offset, _ in places) > _HASHED_BYTES
    return [(int(offset), int(length)) for offset, length in places]


def blocks(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[bytes]:
    """The blocks of a page as they lie in the file."""
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        tiff.filehandle.seek(offset)
        yield tiff.filehandle.read(length)


def label() -> np.ndarray:
    """A sticker with a name on it."""
    rgb = np.full((300, 400, 3), 250, np.uint8)
    cv2.putText(rgb, OWNER, (10, 150), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2)
    return rgb
