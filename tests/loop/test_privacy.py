"""What a label shows, and what names people by name, stays in the project.

The slides are those of the walked loop, made what a hospital's scanner leaves: a label and a macro
image, a header with user and date, and the patient's name in every name.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openslide
import polars as pl
import pytest
import tifffile
from aperio import HEADER, OWNER, make_aperio
from PIL import Image
from walked_copy import copy_of

from glombridge.cli import main
from glombridge.demo.run import DemoResult
from glombridge.slides.reader import Slide, fingerprint
from glombridge.steps.project import Project
from glombridge.tiles import preview
from glombridge.tiles.reading_back import read_labels

SURNAME = "Mustermann"
TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
Places = dict[Path, list[tuple[int, int]]]


def as_in_a_hospital(project: Path) -> Places:
    """Give everything in a project telling names; where labels and macro images lie in its slides."""
    texts = [
        project / "project.qpproj",
        *project.glob("data/*/*.json"),
        *(project / "glombridge").glob("*.jsonl"),
        *(project / "glombridge" / "runs").glob("*/*.json"),
    ]
    for path in texts:
        text = path.read_text("utf-8")
        named = re.sub(r'\bP(\d\d)(?=[-"])', rf"{SURNAME}-Erika-P\1", text)
        path.write_text(named, "utf-8")
    for path in (project / "glombridge").glob("ledger.sqlite*"):
        path.unlink()
    places = {}
    for slide in sorted((project.parent / "slides").glob("*.tif")):
        named = slide.with_name(f"{SURNAME}-Erika-{slide.name}")
        slide.rename(named)
        with Slide(named) as opened:
            mpp = opened.frame.mpp_x
        assert mpp is not None
        # Not as QuPath says, so that every image gets a note, with its name in it.
        places[named] = make_aperio(named, 1.05 * mpp)
    return places


def spoiled_slide(project: Path) -> Path:
    """A slide of the split whose pixels are gone; its header is not."""
    opened = Project.open(project)
    used = [e for e in opened.store.images() if opened.patient(e) in opened.parts()]
    victim = project.parent / "slides" / used[0].name
    size = victim.stat().st_size
    with victim.open("r+b") as file:
        file.seek(1 << 16)
        file.write(bytes(size - (2 << 16)))
    return victim


# --- labels ---------------------------------------------------------------------------------------


class Asked:
    """Counts who asks a library for pixels that are not the slide's."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.times = 0
        patch.setattr(openslide.OpenSlide, "associated_images", property(self.count))
        for name in ("get_associated_image_names", "read_associated_image"):
            patch.setattr(openslide.lowlevel, name, self.count)
        for kind in (tifffile.TiffPage, tifffile.TiffFile):
            patch.setattr(kind, "asarray", self.count)
        patch.setattr(tifffile.TiffPage, "segments", self.count)

    def count(self, *_: object, **__: object) -> Any:
        self.times += 1
        return {}


def walk(project: Path, out: Path) -> dict[str, bytes]:
    """Everything that reads slides, as typed; every file that comes of it, without times."""
    for raw in (project / "glombridge" / "runs").glob("*/evaluation"):
        shutil.rmtree(raw)
    assert main(["tile", str(project), "--fresh", "--preview", "--out", str(out / "tiles")]) == 0
    assert main(["detect", str(project), "--include-test", "--out", str(out / "found")]) == 0
    assert main(["evaluate", str(project)]) == 0
    assert main(["report", str(project), "--out", str(out / "report.html")]) == 0
    assert main(["copy", str(project), "--reader", "reader", "--out", str(out / "reader")]) == 0
    shutil.copy(
        project / "glombridge" / "runs" / "train-001" / "evaluation.json", out / "evaluation.json"
    )
    return {
        path.relative_to(out).as_posix(): TIME.sub(b"TIME", path.read_bytes())
        for path in sorted(out.rglob("*"))
        if path.is_file() and "reader" not in path.relative_to(out).parts
    }


def test_label_and_macro_images_are_never_read(
    walked: DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for them, and with other bytes in their place every output is the same byte for byte."""
    project = copy_of(walked, tmp_path / "copy")
    places = as_in_a_hospital(project)
    for slide in places:
        with openslide.OpenSlide(slide) as opened:
            assert set(opened.associated_images) == {"label", "macro"}
            assert opened.associated_images["label"].size == (400, 300)
    shutil.copytree(project, tmp_path / "before")
    with monkeypatch.context() as patch:
        asked = Asked(patch)
        clean = walk(project, tmp_path / "clean")
        assert asked.times == 0
    for slide, ranges in places.items():
        known = fingerprint(slide)
        with slide.open("r+b") as file:
            for offset, length in ranges:
                file.seek(offset)
                file.write(os.urandom(length))
        assert fingerprint(slide) == known
        with openslide.OpenSlide(slide) as opened, pytest.raises(openslide.OpenSlideError):
            opened.associated_images["label"].load()
    shutil.rmtree(project)
    (tmp_path / "before").rename(project)
    poisoned = walk(project, tmp_path / "poisoned")
    assert len(clean) > 100
    assert clean.keys() == poisoned.keys()
    for name, data in clean.items():
        assert data.replace(b"clean", b"") == poisoned[name].replace(b"poisoned", b""), name


def test_blocks_of_such_a_slide_are_read_directly(walked: DemoResult, tmp_path: Path) -> None:
    """Without OpenSlide's canvas, too: or the test above would not have seen that way."""
    project = copy_of(walked, tmp_path / "copy")
    for slide in as_in_a_hospital(project):
        with Slide(slide) as opened:
            opened.read_region(0, 0, 512, 512, mpp=None)
            assert opened._blocks is not None
            assert opened._blocks.levels


# --- de-identified --------------------------------------------------------------------------------


class HandedOut:
    """A project in a hospital, and what was made for others."""

    def __init__(self, project: Path, words: list[str]) -> None:
        self.project = project
        self.out = project.parent / "out"
        self.words = words

    @property
    def key(self) -> dict[str, Any]:
        path = self.project / "glombridge" / "deidentification.json"
        key: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return key


@pytest.fixture(scope="module")
def handed_out(walked: DemoResult, tmp_path_factory: pytest.TempPathFactory) -> HandedOut:
    project = copy_of(walked, tmp_path_factory.mktemp("hospital") / "copy")
    as_in_a_hospital(project)
    out = project.parent / "out"
    words: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        draw = preview.cv2.putText

        def put_text(canvas: Any, text: str, *arguments: Any) -> Any:
            words.append(text)
            return draw(canvas, text, *arguments)

        patch.setattr(preview.cv2, "putText", put_text)
        tiles = ["tile", str(project), "--deidentify", "--preview", "--out", str(out / "tiles")]
        assert main(tiles) == 0
    # With names as they are now in what the report is made of.
    assert main(["evaluate", str(project)]) == 0
    report = ["report", str(project), "--deidentify", "--out", str(out / "report.html")]
    assert main(report) == 0
    detect = ["detect", str(project), "--include-test", "--deidentify", "--out", str(out / "found")]
    assert main(detect) == 0
    return HandedOut(project, words)


def secrets_of(project: Path) -> list[str]:
    """Whatever would tell, or link to, whose slide something is."""
    opened = Project.open(project)
    slides = sorted((project.parent / "slides").glob("*.tif"))
    objects = [o for e in opened.store.images() for o in opened.store.read(e.id).objects]
    assert slides
    assert objects
    key = json.loads((project / "glombridge" / "deidentification.json").read_text("utf-8"))
    return [
        SURNAME,
        "Erika",
        OWNER.partition("^")[2],
        *(value for name, value in HEADER.items() if name not in ("AppMag", "MPP")),
        "_PAS.tif",
        "_HE.tif",
        str(project.parent),
        project.parent.as_posix(),
        *(fingerprint(slide) for slide in slides),
        *(str(o.id) for o in objects),
        key["secret"],
    ]


def contents(path: Path) -> Iterator[bytes]:
    """All that can be read in a file, however it is packed."""
    data = path.read_bytes()
    yield path.as_posix().encode()
    yield data
    if path.suffix == ".parquet":
        yield pl.read_parquet(path).write_csv().encode()
        yield json.dumps(pl.read_parquet_metadata(path)).encode()
    elif path.suffix in (".jpg", ".png"):
        yield from about_picture(data)
    elif path.suffix == ".html":
        for picture in re.findall(rb"data:image/jpeg;base64,([^\"]+)", data):
            yield from about_picture(base64.b64decode(picture))
        body = re.search(rb'<script type="application/json"[^>]*>(.*?)</script>', data, re.DOTALL)
        assert body is not None
        yield json.dumps(json.loads(body[1]), ensure_ascii=False).encode()
    elif path.suffix in (".json", ".geojson"):
        yield json.dumps(json.loads(data), ensure_ascii=False).encode()


def about_picture(data: bytes) -> Iterator[bytes]:
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif()
        yield data
        yield repr(image.info).encode()


def told(folder: Path, secrets: list[str]) -> list[str]:
    """Which secrets stand where in a folder."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        seen = [c.replace(str(folder).encode(), b"").lower() for c in contents(path)]
        found += [f"{s} in {path}" for s in secrets if any(s.lower().encode() in c for c in seen)]
    return found


@pytest.mark.parametrize("what", ["tiles", "found", "."])
def test_no_byte_that_is_handed_out_tells_a_name(handed_out: HandedOut, what: str) -> None:
    assert len(list((handed_out.out / what).rglob("*"))) > 10
    assert told(handed_out.out / what, secrets_of(handed_out.project)) == []


def test_the_same_search_finds_names_in_what_is_not_deidentified(handed_out: HandedOut) -> None:
    """Or it could not find any."""
    secrets = secrets_of(handed_out.project)
    plain = handed_out.project.parent / "plain"
    report = ["report", str(handed_out.project), "--out", str(plain / "report.html")]
    assert main(report) == 0
    tiles = ["tile", str(handed_out.project), "--out", str(plain / "tiles")]
    assert main(tiles) == 0
    runs = sorted((handed_out.project / "glombridge" / "detections").glob("detect-*"))
    shutil.copytree(runs[-1], plain / "found")
    found = "\n".join(told(plain, secrets))
    for file in ("report.html", "manifest.json", "tiles.csv", "jpg", "found/manifest.json"):
        assert re.search(rf"{SURNAME} in .*{re.escape(file)}\n", found), file
    slide = next((handed_out.project.parent / "slides").glob("*.tif"))
    assert fingerprint(slide) in found


@pytest.mark.parametrize(
    ("manifest", "key"), [("tiles", "slides"), ("found", "images")], ids=["tiles", "detections"]
)
def test_notes_name_images_by_code(handed_out: HandedOut, manifest: str, key: str) -> None:
    text = (handed_out.out / manifest / "manifest.json").read_text("utf-8")
    for image in json.loads(text)[key]:
        code = image.get("image") or image["name"]
        assert [n for n in image["notes"] if n.startswith(f"image '{code}': QuPath says")]


def test_pictures_are_labelled_with_codes(handed_out: HandedOut) -> None:
    titles = [w for w in handed_out.words if "tiles in the grid" in w]
    previews = sorted(p.stem for p in (handed_out.out / "tiles" / "previews").glob("*.png"))
    assert sorted(t.split(" ")[0] for t in titles) == previews
    assert not any(SURNAME in w for w in handed_out.words)


def test_one_image_has_one_code_everywhere(handed_out: HandedOut) -> None:
    names = handed_out.key["names"]
    entries = Project.open(handed_out.project).store.images()
    real = {e.name for e in entries}
    manifest = json.loads((handed_out.out / "found" / "manifest.json").read_text("utf-8"))
    assert {names[i["name"]] for i in manifest["images"]} == real
    with (handed_out.out / "tiles" / "tiles.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} <= {i["name"] for i in manifest["images"]}
    by_name = {e.name: e.metadata["patient"] for e in entries}
    assert all(names[row["patient"]] == by_name[names[row["image"]]] for row in rows)
    assert all(names[f"entry-{int(row['entry_id']):013x}"].isdigit() for row in rows)
    page = (handed_out.out / "report.html").read_text("utf-8")
    shown = set(re.findall(r"image-[0-9a-f]{13}", page))
    assert shown
    assert shown <= {i["name"] for i in manifest["images"]}


def test_the_tiles_are_those_of_the_plain_dataset_and_come_again(
    handed_out: HandedOut, tmp_path: Path
) -> None:
    project = str(handed_out.project)
    assert main(["tile", project, "--deidentify", "--preview", "--out", str(tmp_path / "b")]) == 0
    names = {p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*.*")}
    first = handed_out.out / "tiles"
    assert names == {p.relative_to(first).as_posix() for p in first.rglob("*.*")}
    for name in names:
        assert (tmp_path / "b" / name).read_bytes() == (first / name).read_bytes(), name
    assert main(["tile", project, "--out", str(tmp_path / "plain")]) == 0
    objects = [
        sorted(o.outline.bounds for found in read_labels(f).values() for o in found if o.outline)
        for f in (first, tmp_path / "plain")
    ]
    assert objects[0] == objects[1]
    assert objects[0]


def test_detections_are_the_same_objects(handed_out: HandedOut) -> None:
    run = sorted((handed_out.project / "glombridge" / "detections").glob("detect-*"))[-1]
    assert run.name == json.loads((handed_out.out / "found" / "manifest.json").read_bytes())["run"]
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    codes = {name: code for code, name in handed_out.key["names"].items()}
    assert manifest["images"]
    for image in manifest["images"]:
        for end in (".parquet", ".geojson", ".scanned.geojson"):
            there = (handed_out.out / "found" / f"{codes[image['name']]}{end}").read_bytes()
            here = (run / f"{image['file']}{end}").read_bytes()
            ids = re.compile(rb'"id":"[0-9a-f-]{36}"')
            assert ids.sub(b"", there) == ids.sub(b"", here)


def test_detections_with_codes_are_not_pushed(
    handed_out: HandedOut, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(handed_out.project), str(handed_out.out / "found")]) == 3
    told = capsys.readouterr().err
    assert "codes instead of the project's images" in told
    assert "glombridge/detections/detect-" in told


def test_a_model_can_be_trained_on_it_and_reported(handed_out: HandedOut, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(handed_out.project, copy)
    tiles = str(handed_out.out / "tiles")
    assert main(["train", str(copy), "--data", tiles, "--epochs", "1", "--model", "glom-pico"]) == 0
    run = sorted((copy / "glombridge" / "runs").glob("train-*"))[-1]
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    patients = [p for part in manifest["dataset"]["patients"].values() for p in part]
    assert all(re.fullmatch(r"patient-[0-9a-f]{13}", p) for p in patients)
    assert main(["evaluate", str(copy), "--no-tiles"]) == 0
    page = tmp_path / "report.html"
    assert main(["report", str(copy), "--deidentify", "--out", str(page)]) == 0
    # A code is not made a code of a code.
    assert set(patients) <= set(re.findall(r"patient-[0-9a-f]{13}", page.read_text("utf-8")))


def test_a_slide_that_fails_is_named_to_its_owner_only(
    walked: DemoResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = copy_of(walked, tmp_path / "copy")
    as_in_a_hospital(project)
    victim = spoiled_slide(project)
    out = tmp_path / "out"
    detect = ["detect", str(project), "--include-test", "--deidentify", "--out", str(out / "found")]
    assert main(detect) == 6
    assert victim.name in capsys.readouterr().err
    assert (out / "found" / "manifest.json").is_file()
    assert main(["tile", str(project), "--deidentify", "--out", str(out / "tiles")]) == 6
    assert victim.name in capsys.readouterr().err
    failed = json.loads((out / "tiles" / "manifest.json").read_text("utf-8"))["failed"]
    assert [f["reason"] for f in failed] == ["it could not be read"]
    assert told(out, [SURNAME, str(project.parent)]) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_owner_reads_the_key(handed_out: HandedOut) -> None:
    key = handed_out.project / "glombridge" / "deidentification.json"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not list(handed_out.out.rglob("deidentification*"))


def test_a_folder_that_is_there_is_refused_before_the_work(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sorted((project / "glombridge" / "detections").iterdir())
    assert main(["detect", str(project), "--deidentify", "--out", str(tmp_path)]) == 4
    assert "is there already" in capsys.readouterr().err
    assert sorted((project / "glombridge" / "detections").iterdir()) == runs


def test_a_cluster_hands_out_the_same_and_no_more(
    handed_out: HandedOut, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Workers know names and paths; what they send back must not bring them in."""
    project, out = str(handed_out.project), tmp_path / "out"
    on = ("--cluster", "local:2", "-q")
    capfd.readouterr()
    tiles = ["tile", project, "--deidentify", "--preview", "--fresh", "--out", str(out / "tiles")]
    assert main([*tiles, *on]) == 0
    found = ["detect", project, "--include-test", "--deidentify", "--out", str(out / "found")]
    assert main([*found, *on]) == 0
    assert main(["evaluate", project, "--no-tiles", *on]) == 0
    page = out / "report.html"
    assert main(["report", project, "--deidentify", "--out", str(page), "-q"]) == 0
    said = capfd.readouterr().err
    assert SURNAME not in said
    assert str(handed_out.project.parent / "slides") not in said
    assert told(out, secrets_of(handed_out.project)) == []
    for folder in ("tiles", "found"):
        here = {p.relative_to(out / folder): p for p in (out / folder).rglob("*") if p.is_file()}
        there = handed_out.out / folder
        # A training in another test has left ultralytics' caches there.
        files = {p for p in there.rglob("*") if p.is_file() and p.suffix != ".cache"}
        assert set(here) == {p.relative_to(there) for p in files}
        for name, path in here.items():
            if folder == "found" and path.name == "manifest.json":
                documents = [json.loads(f.read_text("utf-8")) for f in (path, there / name)]
                for document in documents:
                    document.pop("run")
                assert documents[0] == documents[1]
            else:
                assert path.read_bytes() == (there / name).read_bytes(), name


def test_a_slide_that_fails_on_a_cluster_is_named_to_its_owner_only(
    walked: DemoResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = copy_of(walked, tmp_path / "copy")
    as_in_a_hospital(project)
    victim = spoiled_slide(project)
    out, on = tmp_path / "out", ("--deidentify", "--cluster", "local:2", "-q", "--out")
    assert main(["detect", str(project), "--include-test", *on, str(out / "found")]) == 6
    assert victim.name in capsys.readouterr().err
    assert main(["tile", str(project), *on, str(out / "tiles")]) == 6
    assert victim.name in capsys.readouterr().err
    assert told(out, [SURNAME, str(project.parent)]) == []
