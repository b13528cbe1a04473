"""Names and links that lead elsewhere, names that pretend, and files that claim to be enormous."""

from __future__ import annotations

import csv
import io
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hostile import NAMES, a_record, outcome
from rich.console import Console

from glombridge.cli import console, main
from glombridge.errors import InputError, ProtectedError
from glombridge.filenames import cell_text, is_plain_name, safe_name, shown_text
from glombridge.ledger.workspace import Workspace
from glombridge.objects import ObjectKind, Outline, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.tiles.labels import ClassMap
from glombridge.tiles.manifest import data_yaml_text
from glombridge.tiles.records import SlideRecord, tiles_csv

GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden" / "v0.6.0"
links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "project"))


def tiff(path: Path, width: int, height: int, block_px: int) -> Path:
    """A tiled TIFF of 2 kB that claims a size."""
    entries = [
        *((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 2), (277, 3, 3)),
        *((322, 4, block_px), (323, 4, block_px), (324, 4, 8), (325, 4, 10)),
    ]
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries))
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path.write_bytes((head + body).ljust(2000, b"\0"))
    return path


BOUNDED = """
import resource, sys
from pathlib import Path
from glombridge.errors import GlombridgeError
from glombridge.qupath.hierarchy import DataFile
from glombridge.slides.reader import Slide
from glombridge.detection.raw import SlideDetections
def slide(path):
    with Slide(path) as opened:
        opened.read_region(0, 0, 300, 300, mpp=None)
read = {".tif": slide, ".parquet": SlideDetections.load,
        ".qpdata": lambda p: DataFile.parse(p.read_bytes(), str(p))}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
for path in map(Path, sys.argv[1:]):
    try:
        read[path.suffix](path)
    except GlombridgeError as error:
        assert path.name in str(error), error
    else:
        raise AssertionError(path)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds memory by RLIMIT_AS")
def test_what_a_small_file_claims_takes_no_memory(tmp_path: Path) -> None:
    import polars as pl

    head = b"\xac\xed\x00\x05"
    array = b"\x75\x72\x00\x02[D" + bytes(8) + b"\x02\x00\x00\x78\x70" + b"\x7f\xff\xff\xff"
    files = {
        "array.qpdata": head + array,
        "text.qpdata": head + b"\x7c" + (2**62).to_bytes(8, "big"),
        "block.qpdata": head + b"\x7a" + (2**31 - 1).to_bytes(4, "big"),
    }
    paths = [tmp_path / name for name in files]
    for path in paths:
        path.write_bytes(files[path.name].ljust(2000, b"\0"))
    sizes = [(10**6, 10**6), (65_536, 65_536), (2**31 - 16, 2**31 - 16), (2**31 - 16, 256)]
    paths += [
        tiff(tmp_path / f"slide{i}.tif", side, side, block) for i, (side, block) in enumerate(sizes)
    ]
    rows = tmp_path / "rows.parquet"
    frame = pl.LazyFrame({"score": [0.5]}).select(pl.col("score").repeat_by(30_000_000).explode())
    frame.collect().write_parquet(rows, metadata={"glombridge": json.dumps({"format": 1})})
    assert rows.stat().st_size < 2_000_000
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, *map(str, paths), str(rows)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]


@links
@pytest.mark.parametrize("what", ["data", "data/1", "data/1/data.qpdata"])
def test_image_data_behind_a_link_is_neither_read_nor_written(
    project: Path, tmp_path: Path, what: str
) -> None:
    outside = tmp_path / "outside"
    sound = NativeStore.open(project).read(1).stamp
    added = SlideObject(uuid4(), ObjectKind.ANNOTATION, Outline.rectangle(0, 0, 9, 9))
    edit = HierarchyEdit(add=(added,))
    (project / what).rename(outside)
    (project / what).symlink_to(outside)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.qpdata")}
    store = NativeStore.open(project)
    with pytest.raises(ProtectedError, match="leads out of"):
        store.read(1)
    with pytest.raises(ProtectedError, match="leads out of"):
        store.write(1, edit, expected=sound, snapshot_folder=tmp_path / "kept")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.qpdata")} == before


@links
@pytest.mark.parametrize("what", ["glombridge", "classifiers"])
def test_folders_of_the_project_behind_a_link(project: Path, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if (project / what).exists():
        shutil.rmtree(project / what)
    (project / what).symlink_to(outside)
    assert main(["init", str(project), "--store", "native"]) != 0 or what == "classifiers"
    with pytest.raises(ProtectedError, match="leads out of"):
        Workspace(project).folder if what == "glombridge" else NativeStore.open(project).classes()
    assert not list(outside.iterdir())


@links
def test_a_project_reached_by_a_link_is_a_project(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    assert NativeStore.open(tmp_path / "link").read(1).objects
    assert Workspace(tmp_path / "link").folder.parent == tmp_path / "link"


@pytest.mark.parametrize("name", NAMES)
def test_names_become_one_harmless_entry_of_a_folder(tmp_path: Path, name: str) -> None:
    safe = safe_name(name)
    assert is_plain_name(safe)
    assert len(safe.encode()) <= 255
    assert not safe.startswith(("-", "."))
    assert (tmp_path / safe).parent == tmp_path
    (tmp_path / f"{safe}.geojson").touch()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "c:x", "a\0", "../x", "/x", "é" * 128]
)
def test_names_that_are_no_single_entry(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", [n for n in NAMES if n.strip()])
def test_a_terminal_gets_no_escape_sequence_and_no_markup(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(
        console, "OUT", Console(file=out, force_terminal=True, width=20_000, highlight=False)
    )
    console.line(name)
    console.table(name[:50], ["image", name[:50]], [[name, name]])
    bold = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")
    assert not set(bold) & {"\x1b", "\x07", "\x08", "\x9b", "\u202e", "\u2066", "\0"}
    out.getvalue().encode()
    if "[" in name and name.isprintable():
        assert out.getvalue().count(name) >= 3


def test_messages_of_errors_are_shown_without_escape_sequences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path / "\x1b[31m\u202ex")]) != 0
    assert "\\u001b[31m\\u202ex" in capsys.readouterr().err


def test_ordinary_text_is_shown_as_it_is() -> None:
    text = "Ärzte µm 🫘 腎 👩‍🔬\n\ttab"
    assert shown_text(text) == text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_names_are_no_formulas_in_tables(name: str) -> None:
    assert cell_text(name) == f"'{name}"
    record: Any = SimpleNamespace(image_name=name, entry_id=1, patient=name, part="train")
    tile = SimpleNamespace(stem="s", kind="object", labels=1, painted_share=0.0)
    for key in ("x_px", "y_px", "width_px", "height_px"):
        setattr(tile, key, 1.0)
    record.tiles = (tile,)
    table = list(csv.reader(io.StringIO(tiles_csv([record]).decode(), newline="")))
    assert table[1][1] == table[1][3] == f"'{name}"


def test_a_carriage_return_ends_no_row() -> None:
    assert cell_text("a\r=1") == "a =1"


@pytest.mark.parametrize("name", [n for n in NAMES if "\ud800" not in n])
def test_class_names_in_data_yaml_are_texts(name: str) -> None:
    import yaml

    found = yaml.safe_load(data_yaml_text(ClassMap((name,), {name: 0})))
    assert found["names"] == {0: name}
    assert found["train"] == "images/train"


@pytest.mark.parametrize("stem", ["../../outside", "/etc/passwd", "..", "a\\b", 7])
def test_tiles_of_a_record_lie_in_the_dataset(stem: Any) -> None:
    document = a_record()
    document["tiles"][0]["stem"] = stem
    with pytest.raises(ValueError, match=r"outside|not a slide's record"):
        SlideRecord.from_json(json.dumps(document).encode())


def test_a_file_without_blocks_of_a_sane_size_is_named(tmp_path: Path) -> None:
    from glombridge.slides.reader import Slide

    path = tiff(tmp_path / "bomb.tif", 10**6, 10**6, 10**6 - 10**6 % 16)
    error = outcome(lambda: Slide(path), "bomb.tif")
    assert isinstance(error, InputError)
