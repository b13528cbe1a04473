"""Slide files that claim what they do not hold: an answer, little memory, and no waiting.

Memory is bounded from outside, in a process of its own.
"""

import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from glombridge.slides.reader import Slide
from glombridge.slides.tissue import tissue_mask

pytest.importorskip("resource", reason="Windows bounds no process this way")

MOST_BYTES = 3 << 30  # of addresses: libraries map about one and a half


def run(folder: Path, body: str) -> str:
    """What a process with little memory prints; an error made on purpose is its text."""
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MOST_BYTES}, {MOST_BYTES}))\n"
        "from glombridge.errors import GlombridgeError\n"
        "from glombridge.slides.reader import Slide, fingerprint\n"
        "from glombridge.slides.tissue import tissue_mask\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in body.splitlines())
        + "except GlombridgeError as error:\n    print('refused:', error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def big_tiff(path: Path, side_px: int, block_px: int) -> None:
    """An empty slide without a pyramid: a few bytes that claim a square of any size."""
    blocks = (-(-side_px // block_px)) ** 2
    n_tags = 11
    arrays = 16 + 8 + 20 * n_tags + 8
    tags = [
        *((256, 4, 1, side_px), (257, 4, 1, side_px), (258, 3, 3, 8 | 8 << 16 | 8 << 32)),
        *((259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 1)),
        *((322, 4, 1, block_px), (323, 4, 1, block_px)),
        *((324, 16, blocks, arrays), (325, 16, blocks, arrays + 8 * blocks)),
    ]
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, n_tags)
    directory = b"".join(struct.pack("<HHQQ", *tag) for tag in tags) + bytes(8)
    path.write_bytes(head + directory + bytes(16 * blocks))


@pytest.mark.parametrize("claimed_px", [(65_500, 65_500), (30_000, 30_000), (256, 65_500)])
def test_a_block_that_says_it_is_huge_takes_no_memory(tmp_path, claimed_px):
    path = tmp_path / "bomb.tif"
    rgb = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)
    tifffile.imwrite(path, rgb, tile=(256, 256), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path) as tiff:
        offsets, sizes = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    data = bytearray(path.read_bytes())
    # The largest is compared with OpenSlide's before any is used: that one stays as it is.
    first = 0 if np.argmax(sizes) != 0 else 1
    frame = data.index(b"\xff\xc0", offsets[first])
    data[frame + 5 : frame + 9] = struct.pack(">HH", *claimed_px)
    path.write_bytes(data)
    x = 256 * first
    said = run(
        tmp_path,
        f"slide = Slide('bomb.tif')\nprint(slide.direct_levels)\n"
        f"slide.read_region({x}, 0, 256, 256, mpp=None)",
    )
    assert said.startswith("(0,)")
    assert "refused: slide 'bomb.tif' is damaged" in said


def test_an_absurd_size_without_a_pyramid_is_refused_by_name(tmp_path):
    big_tiff(tmp_path / "claims.tif", 1_000_000, 16_384)
    assert (tmp_path / "claims.tif").stat().st_size < 100_000
    said = run(tmp_path, "print(tissue_mask(Slide('claims.tif')).mask.sum())")
    assert "refused: slide 'claims.tif' says that it is 1000000 x 1000000 px" in said


def test_a_large_slide_without_a_pyramid_is_looked_at_in_little_memory(tmp_path):
    big_tiff(tmp_path / "large.tif", 14_000, 256)
    # Of 0.05 µm per px a cell has 160 px a side, and all 88 x 88 of them at once have 590 MB.
    with Slide(tmp_path / "large.tif") as slide:
        slide.frame = slide.frame.with_mpp(0.05)
        tracemalloc.start()  # not the process' peak: on Linux that begins with its parent's
        try:
            mask = tissue_mask(slide).mask
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert mask.shape == (88, 88)
    assert not mask.any()
    assert peak_bytes < 300 << 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("call", ["Slide", "fingerprint"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, call):
    os.mkfifo(tmp_path / "pipe.svs")
    said = run(tmp_path, f"{call}('pipe.svs')")
    assert said == "refused: slide 'pipe.svs' is neither a file nor a folder (pipe.svs)\n"
