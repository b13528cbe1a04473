"""Tile datasets that somebody made up: an error that names the file, little memory, nothing run.

ultralytics would decode whatever is there, unpickle a cache beside the labels, and run the program that a
``data.yaml`` names; so what is refused here never gets to it.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hostile import MANY, a_record, changed_json, damaged, few, outcome
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glombridge.errors import InputError, ProtectedError
from glombridge.ledger.manifest import sha256_of
from glombridge.settings import Settings
from glombridge.steps.evaluate import _tile_level
from glombridge.tiles.dataset_files import MOST_LABEL_BYTES
from glombridge.tiles.drafts import claim_draft, readable_records
from glombridge.tiles.reading_back import read_labels
from glombridge.training import TrainOptions, train
from glombridge.training.dataset import check_dataset, open_dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from tiny_dataset import write_tiny_dataset

links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
TILE, LABELS = "images/train/s_3.jpg", "labels/train/s_3.txt"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_tiny_dataset(tmp_path / "data")


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG that says it is of another size."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    mode = options.pop("mode", "RGB")
    Image.new(mode, (96, 96)).save(buffer, kind, **options)
    return buffer.getvalue()


def png_bomb(_: bytes) -> bytes:
    """3 MB that are 60,000 x 60,000 px."""
    rows = zlib.compressobj(9)
    row = bytes(1 + 60_000 * 3)
    data = b"".join(rows.compress(row) for _ in range(600)) + rows.flush()

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def npy(_: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((96, 96, 3), np.uint8))
    return buffer.getvalue()


TILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "jpeg-bomb": (lambda b: with_size(b, 60_000, 60_000), "60000 x 60000 px"),
    "jpeg-thin-bomb": (lambda b: with_size(b, 96, 65_535), "96 x 65535 px"),
    "jpeg-of-no-height": (lambda b: with_size(b, 96, 0), "96 x 0 px"),
    "progressive": (lambda _: encoded("JPEG", progressive=True), "baseline"),
    "grey": (lambda _: encoded("JPEG", mode="L"), "in colour"),
    "png-bomb": (png_bomb, "no JPEG"),
    "png": (lambda _: encoded("PNG"), "no JPEG"),
    "tiff": (lambda _: encoded("TIFF"), "no JPEG"),
    "numpy": (npy, "no JPEG"),
    "png-ending-like-jpeg": (lambda _: encoded("PNG") + b"\xff\xd9", "no JPEG"),
    "cut-off": (lambda b: b[: len(b) // 2], "cut off"),
    "head-only": (lambda b: b[:20] + b"\xff\xd9", "says no size"),
    "empty": (lambda _: b"", "no JPEG"),
    "markers-without-end": (
        lambda _: b"\xff\xd8" + b"\xff\xe0\x00\x02" * 9999 + b"\xff\xd9",
        "no size",
    ),
}


@pytest.mark.parametrize(("make", "says"), TILES.values(), ids=TILES)
@pytest.mark.parametrize("read", [lambda f: open_dataset(f, validate=True), check_dataset])
def test_tiles_that_are_no_tiles(dataset: Path, read: Any, make: Any, says: str) -> None:
    tile = dataset / TILE
    tile.write_bytes(make(tile.read_bytes()))
    assert says in str(outcome(lambda: read(dataset), "s_3.jpg"))


LINES: dict[str, tuple[str, str]] = {
    "nan": ("0 nan 0.5 0.1 0.1", "line 1: nan"),
    "huge": ("0 1e308 0.5 0.1 0.1", "line 1: 1e+308"),
    "beyond-huge": ("0 1e999 0.5 0.1 0.1", "line 1: inf"),
    "negative": ("0 0.5 0.5 -0.1 0.1", "line 1: -0.1"),
    "digits": ("0 0.5 0.5 0.1 " + "9" * 10**6, "line 1: inf"),
    "digits-for-a-class": ("9" * 10**6 + " 0.5 0.5 0.1 0.1", "no class 99"),
    "long-line": ("0 " + "0.5 " * 10**6, "no label"),
    "other-digits": ("٠ 0.5 0.5 0.1 0.1", "no class"),
    "nul": ("0 0.5 0.5 0.1 0.1\0", "no label"),
    "other-line-ends": ("0 0.5 0.5 0.1 0.1\x0b0 0.5 0.5 0.1 0.1", "the files hold 14"),
}


@pytest.mark.parametrize(("line", "says"), LINES.values(), ids=LINES)
def test_labels_that_are_no_labels(dataset: Path, line: str, says: str) -> None:
    (dataset / LABELS).write_text(line + "\n", "utf-8")
    found = outcome(lambda: open_dataset(dataset, validate=True))
    assert says in str(found)
    assert "s_3.txt" in str(found) or "files hold" in says
    assert len(str(found)) < 1000


BOUNDED = """
import resource, sys
from pathlib import Path
from glombridge.errors import GlombridgeError
from glombridge.training.dataset import open_dataset
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
try:
    open_dataset(Path(sys.argv[1]), validate=True)
except GlombridgeError as error:
    print(error)
else:
    print("sound")
"""


def in_little_memory(dataset: Path) -> str:
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(dataset)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds memory by RLIMIT_AS")
def test_labels_of_a_gigabyte_take_no_memory(tmp_path: Path) -> None:
    dataset = write_tiny_dataset(tmp_path / "data", task="segment")
    text = dataset / LABELS
    sound = text.read_bytes()
    assert in_little_memory(dataset) == "sound\n"
    with text.open("wb") as file:  # a hole: no disk is filled
        file.truncate(1 << 30)
    assert "s_3.txt has 1073741824 bytes" in in_little_memory(dataset)
    text.write_bytes((b"0 " + b"0.5 " * (MOST_LABEL_BYTES // 4))[: MOST_LABEL_BYTES - 1] + b"\n")
    assert in_little_memory(dataset) == "sound\n"
    text.write_bytes(sound)
    with (dataset / "data.yaml").open("ab") as file:
        file.truncate(1 << 30)
    assert "data.yaml was changed" in in_little_memory(dataset)


def put(name: str, data: bytes = b"x") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


ALIENS: dict[str, tuple[Callable[[Path], object], str]] = {
    "numpy-beside-a-tile": (put("images/train/s_3.npy"), "14 are there"),
    "folder-of-tiles": (lambda f: (f / "images/train/more").mkdir(), "more is no file"),
    "folder-for-labels": (lambda f: (f / "labels/train/x.txt").mkdir(), "x.txt is no file"),
    "cache-that-is-a-folder": (lambda f: (f / "labels/val.cache").mkdir(), "val.cache"),
    "download-in-data-yaml": (
        lambda f: (f / "data.yaml").write_text("path: /nowhere\ndownload: import os\n"),
        "data.yaml was changed",
    ),
}
if hasattr(os, "mkfifo"):
    ALIENS["pipe-for-labels"] = (lambda f: os.mkfifo(f / "labels/train/x.txt"), "x.txt is no file")
    ALIENS["pipe-for-a-tile"] = (lambda f: os.mkfifo(f / "images/train/x.jpg"), "x.jpg is no file")


@pytest.mark.parametrize(("spoil", "says"), ALIENS.values(), ids=ALIENS)
def test_what_ultralytics_would_use_besides(dataset: Path, spoil: Any, says: str) -> None:
    spoil(dataset)
    assert says in str(outcome(lambda: open_dataset(dataset, validate=True), "data"))


def test_a_numpy_file_in_the_place_of_a_tile(dataset: Path) -> None:
    (dataset / TILE).rename((dataset / TILE).with_suffix(".npy"))
    with pytest.raises(InputError, match=r"s_3\.(npy|txt)"):
        open_dataset(dataset, validate=True)


MANIFESTS: dict[str, dict[str, Any]] = {
    "tiles-of-a-billion-px": {"settings": {"tile": {"width_px": 10**9, "height_px": 10**9}}},
    "negative-tiles": {"settings": {"tile": {"width_px": -96}}},
    "no-objects": {"objects": None},
    "no-patients": {"patients": {}},
    "negative-count": {"labels": {"train": {"Glomerulus": -1}}},
    "another-task": {"settings": {"task": "../pose"}},
    "mpp": {"settings": {"tile": {"mpp": float("nan")}}},
    "classes-twice": {"class_names": ["Glomerulus", "Glomerulus"]},
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_is_read_whole_before_an_hour_of_training(dataset: Path, change: Any) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())

    def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
        for key, value in other.items():
            if isinstance(value, dict) and value:
                merge(into[key], value)
            else:
                into[key] = value

    merge(manifest, change)
    path.write_text(json.dumps(manifest))
    assert outcome(lambda: open_dataset(dataset, validate=True), "manifest.json") is not None


@pytest.mark.parametrize("count", [100, pytest.param(MANY, marks=pytest.mark.slow)])
def test_changed_datasets(tmp_path: Path, count: int) -> None:
    folder = write_tiny_dataset(tmp_path / "data", tiles={"train": 2, "val": 1, "test": 1})
    sound = {name: (folder / name).read_bytes() for name in ("manifest.json", "data.yaml")}
    tile, text = (folder / "images/train/s_1.jpg"), (folder / "labels/train/s_1.txt")
    sound |= {str(p.relative_to(folder)): p.read_bytes() for p in (tile, text)}
    assert open_dataset(folder, validate=True).tiles["train"] == 2

    def read() -> None:
        data = open_dataset(folder, validate=True)
        assert (data.tile_px, data.task, len(data.class_names)) == ((96, 96), "detect", 1)

    @few(count)
    @given(changed_json(json.loads(sound["manifest.json"])))
    def check_values(manifest: bytes) -> None:
        (folder / "manifest.json").write_bytes(manifest)
        outcome(read, folder.name)

    @few(count)
    @given(st.sampled_from(sorted(sound)), st.data())
    def check_bytes(name: str, data: st.DataObject) -> None:
        (folder / name).write_bytes(data.draw(damaged(sound[name])))
        outcome(read, folder.name)
        (folder / name).write_bytes(sound[name])

    check_values()
    (folder / "manifest.json").write_bytes(sound["manifest.json"])
    check_bytes()


@links
@pytest.mark.parametrize(
    "what",
    ["images", "labels/train", TILE, LABELS, "manifest.json", "data.yaml"],
)
def test_a_link_that_leads_out_of_a_dataset(dataset: Path, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    (dataset / what).rename(outside)
    (dataset / what).symlink_to(outside)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(ProtectedError, match="leads out of"):
        open_dataset(dataset, validate=True)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@links
def test_a_cache_behind_a_link_is_not_followed(dataset: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    (dataset / "labels" / "train.cache").symlink_to(outside)
    open_dataset(dataset, validate=True)
    assert outside.read_bytes() == b"x"
    assert not (dataset / "labels" / "train.cache").is_symlink()


@links
def test_a_dataset_reached_by_a_link_is_a_dataset(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(dataset)
    (dataset / TILE).rename(dataset / "images" / "kept.jpg")
    (dataset / TILE).symlink_to(dataset / "images" / "kept.jpg")
    assert open_dataset(tmp_path / "link", validate=True).tiles["train"] == 13


@links
@pytest.mark.parametrize("what", ["images", "images/train", "labels/val", "slides"])
def test_a_draft_behind_a_link_removes_nothing_outside(tmp_path: Path, what: str) -> None:
    """What is left of an interrupted call is cleaned up first."""
    draft, outside = tmp_path / ".data.partial", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.jpg").touch()
    (draft / what).parent.mkdir(parents=True, exist_ok=True)
    (draft / what).symlink_to(outside)
    with (
        pytest.raises(ProtectedError, match="leads out of"),
        claim_draft(tmp_path / "data") as claimed,
    ):
        claimed.keep(set())
    assert [p.name for p in outside.iterdir()] == ["precious.jpg"]


RECORD, OWN_LABELS = "slides/a.json", "labels/train/a__x0_y0.txt"


def read_back(folder: Path) -> Path:
    """A dataset of one tile, with all that is read of it to get its objects back."""
    for name, text in (
        (
            "manifest.json",
            json.dumps({"class_names": ["Glomerulus"], "settings": {"task": "detect"}}),
        ),
        (RECORD, json.dumps(a_record())),
        (OWN_LABELS, "0 0.5 0.5 0.2 0.2\n"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@links
@pytest.mark.parametrize(
    "what", ["manifest.json", "slides", RECORD, "labels", "labels/train", OWN_LABELS]
)
def test_a_dataset_is_not_read_back_through_a_link_that_leads_out(
    tmp_path: Path, what: str
) -> None:
    dataset, outside = read_back(tmp_path / "data"), tmp_path / "outside"
    assert [len(found) for found in read_labels(dataset).values()] == [1]
    (dataset / what).rename(outside)
    (dataset / what).symlink_to(outside)
    with pytest.raises(ProtectedError, match="leads out of"):
        read_labels(dataset)


@pytest.mark.parametrize("what", ["manifest.json", RECORD, OWN_LABELS])
def test_a_file_of_gigabytes_is_not_read_back(tmp_path: Path, what: str) -> None:
    dataset = read_back(tmp_path / "data")
    with (dataset / what).open("ab") as file:  # a hole: no disk is filled
        file.truncate(1 << 34)
    with pytest.raises(InputError, match=rf"{Path(what).name} has 17179869184 bytes"):
        read_labels(dataset)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes on Windows")
@pytest.mark.parametrize("what", ["manifest.json", RECORD, OWN_LABELS])
def test_a_pipe_is_not_waited_for(tmp_path: Path, what: str) -> None:
    dataset = read_back(tmp_path / "data")
    (dataset / what).unlink()
    os.mkfifo(dataset / what)
    with pytest.raises(InputError, match=rf"{Path(what).name} is no file"):
        read_labels(dataset)


@links
def test_a_record_behind_a_link_is_not_taken_over(tmp_path: Path) -> None:
    dataset, outside = read_back(tmp_path / "data"), tmp_path / "outside"
    assert len(readable_records(dataset)) == 1
    (dataset / RECORD).rename(outside)
    (dataset / RECORD).symlink_to(outside)
    assert readable_records(dataset) == []


def test_training_refuses_before_anything_is_made(dataset: Path, tmp_path: Path) -> None:
    tile = dataset / TILE
    tile.write_bytes(with_size(tile.read_bytes(), 60_000, 60_000))
    with pytest.raises(InputError, match=r"s_3\.jpg"):
        train(dataset, tmp_path / "run", TrainOptions(model="glom-pico"), cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["../outside", "..", "/etc", "a/b"])
def test_evaluating_looks_for_datasets_in_their_folder(tmp_path: Path, name: str) -> None:
    write_tiny_dataset(tmp_path / "outside")
    told = evaluated_tiles(tmp_path / "project", name)
    assert "no longer there" in told["missing"]


@pytest.mark.parametrize("spoil", ["data.yaml", "labels/val.cache", "images/val/x.jpg"])
def test_evaluating_shows_ultralytics_no_changed_dataset(tmp_path: Path, spoil: str) -> None:
    """A data.yaml is a program under 'download', and a cache of labels is a pickle."""
    project = tmp_path / "project"
    file = write_tiny_dataset(project / "datasets" / "dataset-001") / spoil
    if spoil == "labels/val.cache":
        file.mkdir()
    else:
        file.write_text("path: nowhere\nval: x\ndownload: print()\n")
    told = evaluated_tiles(project, "dataset-001")
    assert "dataset-001 is not what was written" in told["missing"]


def evaluated_tiles(project: Path, dataset: str) -> dict[str, Any]:
    workspace = SimpleNamespace(
        datasets=project / "datasets", cache=project / "cache", runs=project / "runs"
    )
    opened: Any = SimpleNamespace(workspace=workspace, settings=Settings())
    hashes = [sha256_of(p) for p in project.parent.rglob("manifest.json")]
    learnt_from = {"name": dataset, "manifest_sha256": hashes[0]}
    manifest = {"dataset": learnt_from, "tiles": {"width_px": 96, "height_px": 96}}
    return _tile_level(opened, project / "no.pt", manifest, None)
