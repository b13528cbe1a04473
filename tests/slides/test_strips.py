"""Tiles cut from shared blocks: the same pixels as single reads, each block decoded once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.slides.reader import Slide
from glombridge.slides.strips import Region, read_regions

APERIO = Path(__file__).parent.parent / "data" / "slides" / "CMU-1-Small-Region.svs"


def tiling(slide, size, stride, mpp):
    scale = slide.frame.target_scale(mpp)[0]
    width, height = slide.frame.target_size_px(mpp)
    return [
        Region(x / scale, y / scale, size, size)
        for y in range(0, height, stride)
        for x in range(0, width, stride)
    ]


@pytest.mark.parametrize("mpp", [None, 0.5, 0.7, 1.0, 2.5])
@pytest.mark.parametrize("source", ["pyramid", "aperio"])
def test_tiles_are_what_single_reads_give(pyramid, source, mpp):
    with Slide(pyramid if source == "pyramid" else APERIO) as slide:
        regions = tiling(slide, 300, 200, mpp)
        seen = set()
        for index, pixels in read_regions(slide, regions, mpp=mpp):
            assert np.array_equal(pixels, slide.read_region(*regions[index], mpp=mpp))
            seen.add(index)
        assert seen == set(range(len(regions)))


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            Region,
            st.floats(-200, 1400),
            st.floats(-200, 1100),
            st.integers(1, 400),
            st.integers(1, 400),
        ),
        max_size=8,
    ),
    st.sampled_from([None, 0.5, 0.61, 1.0, 3.0]),
    st.sampled_from([1, 10_000_000, 10**9]),
)
def test_any_regions_in_any_memory(pyramid, regions, mpp, max_bytes):
    with Slide(pyramid) as slide:
        found = dict(read_regions(slide, regions, mpp=mpp, max_bytes=max_bytes))
        assert sorted(found) == list(range(len(regions)))
        for index, pixels in found.items():
            assert np.array_equal(pixels, slide.read_region(*regions[index], mpp=mpp))


def count_reads(slide, monkeypatch):
    reads = []
    original = slide.read_level

    def counted(window):
        reads.append(window)
        return original(window)

    monkeypatch.setattr(slide, "read_level", counted)
    return reads


def test_each_block_is_decoded_once(pyramid, monkeypatch):
    with Slide(pyramid) as slide:
        reads = count_reads(slide, monkeypatch)
        regions = tiling(slide, 300, 100, None)
        assert sum(1 for _ in read_regions(slide, regions, mpp=None)) == len(regions)
    assert len(reads) == len(set(reads)) == 6 * 5


def test_blocks_without_tiles_are_not_decoded(pyramid, monkeypatch):
    with Slide(pyramid) as slide:
        reads = count_reads(slide, monkeypatch)
        list(read_regions(slide, [Region(0, 0, 100, 100)], mpp=None))
    assert len(reads) == 1


def test_memory_stays_within_its_bound(monkeypatch):
    """A slide 200 blocks wide, in imagination: only what is kept at a time counts."""
    from glombridge.slides import strips

    class Wide:
        def window(self, x, y, width, height, *, mpp):
            return strips.Window(0, int(x), int(y), width, height)

        direct_levels = ()

        def level_block_px(self, level):
            return 256, 256

        def read_level(self, window):
            return np.zeros((window.height, window.width, 3), np.uint8)

    most = 0
    original = strips._Blocks.take

    def watched(self, window):
        nonlocal most
        pixels = original(self, window)
        most = max(most, sum(block.nbytes for block in self._kept.values()))
        return pixels

    monkeypatch.setattr(strips._Blocks, "take", watched)
    regions = [
        Region(x, y, 1000, 1000) for y in range(0, 3000, 700) for x in range(0, 120_000, 700)
    ]
    limit = 100 * 1024 * 1024
    assert sum(1 for _ in read_regions(Wide(), regions, mpp=None, max_bytes=limit)) == len(regions)
    assert 0 < most <= limit


def test_nothing_asked_nothing_read(pyramid):
    with Slide(pyramid) as slide:
        assert list(read_regions(slide, [], mpp=None)) == []
