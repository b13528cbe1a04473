"""One slide through the pipeline: order, threads, damage, regions, and the file it makes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from discs import HEIGHT, RADIUS, WIDTH, damaged, discs_at, find_discs

from glombridge.detection.boxes import Boxes
from glombridge.detection.clock import StageClock
from glombridge.detection.feed import TileFeed, jobs
from glombridge.detection.flips import with_flips
from glombridge.detection.pipeline import detect_slide, plan_slide, run_plan
from glombridge.detection.raw import SlideDetections
from glombridge.errors import DamagedFileError, InputError
from glombridge.slides.reader import Slide
from glombridge.slides.strips import Region, read_regions
from glombridge.tiles.grid import TileSpec

SPEC = TileSpec(320, 256, 1 / 3, 1.0)


def look(path: Path, **options: object) -> SlideDetections:
    with Slide(path) as slide:
        return detect_slide(slide, SPEC, find_discs, **options)  # type: ignore[arg-type]


def test_every_disc_is_found_once(disc_slide: Path) -> None:
    found = look(disc_slide).stitched(0.3)
    centre = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    distance = np.linalg.norm(centre[:, None] - discs_at()[None], axis=2)
    assert len(found) == len(discs_at())
    assert distance.min(axis=0).max() < 3
    assert not found.cut.any()


def test_any_number_of_threads_gives_the_same_bytes(disc_slide: Path, tmp_path: Path) -> None:
    written = []
    for workers in (1, 2, 4):
        path = tmp_path / f"{workers}.parquet"
        look(disc_slide, workers=workers, batch=4).save(path)
        written.append(path.read_bytes())
    assert written[0] == written[1] == written[2]


def test_any_batch_size_shows_the_same_tiles(disc_slide: Path) -> None:
    results = [look(disc_slide, batch=batch) for batch in (1, 4, 16)]
    for other in results[1:]:
        assert other.boxes.xyxy.tobytes() == results[0].boxes.xyxy.tobytes()
        assert other.boxes.tile.tobytes() == results[0].boxes.tile.tobytes()


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("count", [0, 1, 191, 193, 1000])
def test_jobs_hold_every_tile_once_in_whole_batches(count: int, batch: int) -> None:
    regions = [Region(k % 37 * 100.0, k // 37 * 80.0, 10, 10) for k in range(count)]
    dealt = jobs(regions, batch)
    assert sorted(place for job in dealt for place in job) == list(range(count))
    assert all(len(job) % batch == 0 for job in dealt[:-1])


def test_batches_hold_the_pixels_of_their_tiles_and_white(disc_slide: Path) -> None:
    with Slide(disc_slide) as slide:
        regions = [Region(200.0 * k, 100.0, 128, 96) for k in range(7)]
        alone = dict(read_regions(slide, regions, mpp=1.0))
        with TileFeed(disc_slide, slide.frame, regions, mpp=1.0, batch=4, workers=2) as feed:
            seen = []
            for batch in feed:
                for k, place in enumerate(batch.places):
                    assert (batch.pixels[k] == alone[place]).all()
                assert (batch.pixels[len(batch.places) :] == 255).all()
                seen += batch.places
    assert sorted(seen) == list(range(7))


def test_memory_is_bounded_while_the_model_is_slow(disc_slide: Path) -> None:
    made = []

    def make(shape: tuple[int, ...]) -> np.ndarray:
        made.append(shape)
        return np.empty(shape, np.uint8)

    clock = StageClock()
    with Slide(disc_slide) as slide:
        plan = plan_slide(slide, SPEC, batch=2, workers=3, make_batch=make, clock=clock)
    assert len(plan.shown) > 40
    time.sleep(0.5)  # the threads have filled what there is and wait

    def slowly(tiles: np.ndarray) -> list:
        time.sleep(0.01)
        return find_discs(tiles)

    found = run_plan(plan, slowly, clock=clock)
    assert len(found.scanned) == len(plan.shown)
    assert len(made) == 3 + 2
    assert clock.limits == "model"
    assert clock.tiles == len(plan.shown)


def test_a_detector_that_fails_stops_the_threads(disc_slide: Path) -> None:
    def fail(tiles: np.ndarray) -> list:
        msg = "no"
        raise InputError(msg)

    with Slide(disc_slide) as slide:
        plan = plan_slide(slide, SPEC, batch=2, workers=3)
    with pytest.raises(InputError, match="no"):
        run_plan(plan, fail)
    assert not any(thread.is_alive() for thread in plan.feed._threads)


def test_a_slide_that_vanished_is_an_error_not_an_empty_result(
    disc_slide: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gone.tif"
    path.write_bytes(disc_slide.read_bytes())
    with Slide(path) as slide:
        path.unlink()
        with pytest.raises(InputError, match=r"gone\.tif"):
            detect_slide(slide, SPEC, find_discs)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_corrupt_block_makes_the_slide_partial(
    disc_slide: Path, tmp_path: Path, workers: int
) -> None:
    path = damaged(disc_slide, tmp_path / "bad.tif", tiles=(40,))
    whole, part = look(disc_slide), look(path, workers=workers, batch=4)
    assert not part.is_complete
    assert 0 < len(part.unreadable) < len(whole.scanned) / 4
    assert len(part.scanned) + len(part.unreadable) == len(whole.scanned)
    # Block 40 of 12 in a row: its place is in every tile that could not be read.
    block = shapely.box(40 % 12 * 256, 40 // 12 * 256, 40 % 12 * 256 + 256, 40 // 12 * 256 + 256)
    assert all(shapely.box(*b).intersects(block) for b in part.unreadable)
    assert not part.scanned_area.contains(block.centroid)
    assert part.scanned_area.area < whole.scanned_area.area
    # What the other tiles show is still there.
    centre = shapely.points(discs_at())
    far = ~shapely.intersects(shapely.union_all(shapely.box(*part.unreadable.T)), centre)
    found = part.stitched(0.3)
    boxes = shapely.box(*found.xyxy.T)
    assert all(shapely.intersects(boxes, p).any() for p in centre[far])


def test_a_corrupt_overview_shows_every_tile(disc_slide: Path, tmp_path: Path) -> None:
    path = damaged(disc_slide, tmp_path / "bad.tif", page=1, tiles=(2,))
    with Slide(path) as slide:
        plan = plan_slide(slide, SPEC, batch=4)
    found = run_plan(plan, find_discs)
    assert not plan.tissue_is_known
    assert len(found.scanned) == found.tiles
    assert len(found.stitched(0.3)) == len(discs_at())


def test_a_slide_damaged_everywhere_is_an_error(disc_slide: Path, tmp_path: Path) -> None:
    path = damaged(disc_slide, tmp_path / "bad.tif", tiles=tuple(range(12 * 9)))
    with pytest.raises(InputError, match="damaged"):
        look(path)


def test_no_tissue_is_no_error(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "white.tif"
    options = {"tile": (256, 256), "photometric": "rgb"}
    options |= {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.full((900, 900, 3), 244, np.uint8), **options)
    found = look(path)
    assert (len(found.boxes), len(found.scanned), found.is_complete) == (0, 0, True)
    assert found.scanned_area.is_empty


def test_only_inside_a_region(disc_slide: Path) -> None:
    region = shapely.box(500, 400, 1500, 1200)
    everywhere, inside = look(disc_slide), look(disc_slide, region=region)
    assert len(inside.scanned) < len(everywhere.scanned) / 2
    assert inside.scanned_area.equals(region)
    wanted = [box for box in everywhere.stitched(0.3).xyxy if region.intersects(shapely.box(*box))]
    found = inside.stitched(0.3)
    assert len(found) == len(wanted)
    inner = shapely.box(500 + RADIUS, 400 + RADIUS, 1500 - RADIUS, 1200 - RADIUS)
    whole = [b for b in found.xyxy if inner.contains(shapely.box(*b).centroid)]
    assert all(80 <= b[2] - b[0] <= 84 for b in whole)


def test_the_parquet_file_gives_back_what_was_seen(disc_slide: Path, tmp_path: Path) -> None:
    import polars as pl

    seen = look(disc_slide, region=shapely.box(0, 0, 1000, 1000))
    path = tmp_path / "a.parquet"
    seen.save(path)
    back = SlideDetections.load(path)
    for column in ("xyxy", "score", "class_index", "cut_sides", "tile", "tiles"):
        assert getattr(back.boxes, column).tobytes() == getattr(seen.boxes, column).tobytes()
    assert (back.scanned, back.tiles, back.width_px) == (
        pytest.approx(seen.scanned),
        seen.tiles,
        WIDTH,
    )
    assert back.height_px == HEIGHT
    assert back.scanned_area.equals(seen.scanned_area)
    assert back.stitched(0.3).xyxy.tobytes() == seen.stitched(0.3).xyxy.tobytes()
    # Anybody's tools can read it.
    table = pl.read_parquet(path)
    assert table.columns[:7] == ["left", "top", "right", "bottom", "score", "class", "tile"]
    assert len(table) == len(seen.boxes)


def test_an_empty_slide_makes_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    SlideDetections(Boxes.empty(), np.zeros((0, 4)), 9, 100, 90).save(path)
    back = SlideDetections.load(path)
    assert (len(back.boxes), back.tiles, back.scanned_area.is_empty) == (0, 9, True)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"not parquet at all"], ids=["empty", "cut", "other"]
)
def test_a_file_that_holds_no_boxes_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"x\.parquet"):
        SlideDetections.load(path)
    with pytest.raises(DamagedFileError, match=r"gone\.parquet"):
        SlideDetections.load(tmp_path / "gone.parquet")


def test_a_cut_parquet_file_is_damaged(disc_slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    look(disc_slide).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedFileError, match="does not hold"):
        SlideDetections.load(path)


def test_flips_say_how_sure_the_detector_is(disc_slide: Path, tmp_path: Path) -> None:
    def left_eyed(tiles: np.ndarray) -> list:
        """Half as sure of what it sees on the right of a tile."""
        seen = []
        for xyxy, score, index in find_discs(tiles):
            is_right = (xyxy[:, 0] + xyxy[:, 2]) / 2 > tiles.shape[2] / 2
            seen.append((xyxy, np.where(is_right, score / 2, score), index))
        return seen

    from glombridge.detection.detector import Seen

    def even(tiles: np.ndarray) -> list:
        return [Seen(*s) for s in find_discs(tiles)]

    def uneven(tiles: np.ndarray) -> list:
        return [Seen(*s) for s in left_eyed(tiles)]

    with Slide(disc_slide) as slide:
        plain = detect_slide(slide, SPEC, even)
        sure = detect_slide(slide, SPEC, with_flips(even))
        unsure = detect_slide(slide, SPEC, with_flips(uneven))
    # Looking mirrored changes nothing of what is found.
    assert sure.boxes.xyxy.tobytes() == plain.boxes.xyxy.tobytes()
    assert plain.boxes.score_sd is None
    whole = ~sure.boxes.cut
    assert sure.boxes.score_sd[whole].max() < 0.03  # type: ignore[index]
    assert unsure.boxes.score_sd[whole].mean() > 0.15  # type: ignore[index]
    unsure.save(tmp_path / "a.parquet")
    stitched = SlideDetections.load(tmp_path / "a.parquet").stitched(0.2)
    assert stitched.score_sd is not None
    assert stitched.score_sd.mean() > 0.1
