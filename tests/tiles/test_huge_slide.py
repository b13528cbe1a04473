"""Memory does not grow with the slide; measured in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huge_slide import write_huge_slide

SCRIPT = Path(__file__).parent / "huge_slide.py"


@pytest.fixture
def measure(tmp_path):
    pytest.importorskip("resource", reason="Windows tells no peak memory this way")

    def run(width: int, height: int, workers: int) -> dict:
        slide = write_huge_slide(tmp_path / f"{width}x{height}.tif", width, height)
        folder = tmp_path / f"{width} {workers}"
        folder.mkdir()
        command = [sys.executable, str(SCRIPT), str(slide), str(folder), str(workers)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    return run


def test_a_slide_of_four_times_the_size_needs_no_more_memory(measure):
    small, large = measure(12_000, 9_600, 2), measure(24_000, 19_200, 2)
    assert small["direct_levels"] == large["direct_levels"] == 3
    assert large["tiles"] > 2 * small["tiles"] > 90
    assert large["peak_mb"] < small["peak_mb"] + 80


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_slide_of_100_000_by_80_000_pixels_in_constant_memory(measure, workers):
    small, huge = measure(24_000, 19_200, workers), measure(100_000, 80_000, workers)
    assert huge["tiles"] > 2_000
    assert huge["peak_mb"] < 500
    # The overview in which tissue is looked for has 17 times the cells; the tiles need no more.
    assert huge["peak_mb"] < small["peak_mb"] + 250
