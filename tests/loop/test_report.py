"""The report of a walked loop: one file, every plot, and the numbers of the JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from chromium import browse
from PIL import Image
from report_page import assert_numbers, assert_shown, parsed, pictured

from glombridge.cli import main
from glombridge.demo.run import DemoResult
from glombridge.report.page import FIGURES, PAPER, fixed
from glombridge.report.thumbnails import thumbnail
from glombridge.slides.reader import Slide
from glombridge.steps.evaluate import evaluate
from glombridge.steps.evaluate_rounds import evaluate_rounds
from glombridge.steps.project import Project
from glombridge.steps.report import MARK, report


@pytest.fixture(scope="session")
def page(walked: DemoResult) -> Path:
    project = Project.open(walked.project_file)
    evaluate_rounds(project)
    return report(project).file


@pytest.fixture(scope="session")
def evaluation(walked: DemoResult) -> Any:
    return json.loads((walked.round.train.run / "evaluation.json").read_text("utf-8"))


def test_its_numbers_are_those_of_the_json(page: Path, evaluation: Any) -> None:
    shown = parsed(page).shown
    assert_numbers(shown, evaluation)
    pointers = {pointer for pointer, _ in shown}
    for name in FIGURES:
        assert f"/results/test/figures/{name}/value" in pointers
    for k in range(len(evaluation["slides"])):
        assert f"/slides/{k}/missed" in pointers


def test_no_number_stands_in_it_that_the_json_does_not_know(page: Path, evaluation: Any) -> None:
    """Outside marked elements the tables of results hold only the paper's numbers."""
    text = page.read_text("utf-8")
    models = text[text.index('<section id="models">') : text.index('<section id="curves">')]
    unmarked = re.findall(r"<td>(\d\.\d{3})</td>", models)
    assert unmarked == [fixed(v) for row in PAPER for v in row[1:]]
    assert "other data" in models


def test_the_json_is_in_it(page: Path, evaluation: Any) -> None:
    text = page.read_text("utf-8")
    start = text.index('<script type="application/json" id="evaluation">')
    body = text[text.index(">", start) + 1 : text.index("</script>", start)]
    assert json.loads(body) == evaluation


def test_it_needs_nothing_beside_it(page: Path) -> None:
    for tag, attributes in parsed(page).tags:
        for name in ("src", "href", "xlink:href", "data"):
            target = attributes.get(name) or ""
            assert target.startswith(("data:", "#")) or not target, (tag, target)
    assert "@import" not in page.read_text("utf-8")


def test_every_error_has_its_picture(page: Path, evaluation: Any) -> None:
    figures = [a["data-fault"] for tag, a in parsed(page).tags if "data-fault" in a]
    kinds = pictured(evaluation)
    assert sorted(figures) == sorted(kinds)
    pictures = [a for tag, a in parsed(page).tags if tag == "img"]
    assert len(pictures) == len(kinds)
    assert kinds, "the tiny detector makes errors, or nothing is shown here"


def test_the_same_evaluation_gives_the_same_bytes(
    walked: DemoResult, page: Path, tmp_path: Path
) -> None:
    again = report(Project.open(walked.project_file), out=tmp_path / "again.html")
    assert again.file.read_bytes() == page.read_bytes()


def test_names_are_text_whatever_they_hold(project: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&</script><b>{{ 7*7 }}.tif"
    run = next((project / "glombridge" / "runs").iterdir())
    file = run / "evaluation.json"
    document = json.loads(file.read_text("utf-8"))
    results = document["results"]["test"]
    for slide in document["slides"]:
        slide |= {"image": evil, "patient": evil, "stain": evil}
    for fault in document["faults"]:
        fault |= {"name": evil, "class": evil}
    results["by_patient"] = {evil + "/~": next(iter(results["by_patient"].values()))}
    file.write_text(json.dumps(document), "utf-8")
    page = report(Project.open(project)).file
    numbers = parsed(page)
    assert not [a for tag, a in numbers.tags if a.get("src") == "x"]
    assert not [a for _, a in numbers.tags if any(name.startswith("on") for name in a)]
    assert "<b>" not in page.read_text("utf-8").replace("<b><span", "")
    assert "&lt;img src=x" in page.read_text("utf-8")
    assert_numbers(numbers.shown, document)


def test_without_slides_it_says_so_and_keeps_the_numbers(project: Path) -> None:
    for slide in (project.parent / "slides").glob("*.tif"):
        slide.unlink()
    result = report(Project.open(project))
    assert result.pictures == 0
    assert any("no pictures" in note for note in result.notes)
    assert "slide not readable" in result.file.read_text("utf-8")


def test_without_test_patients_it_says_that_nothing_is_known(project: Path) -> None:
    opened = Project.open(project)
    moved = {p: "train" for p, part in opened.parts().items() if part == "test"}
    opened.workspace.record("split", patients=moved, seed=0)
    evaluate(opened, tiles=False)
    result = report(opened)
    assert any("nothing is known about new slides" in note for note in result.notes)
    document = json.loads(
        (project / "glombridge" / "runs" / "train-001" / "evaluation.json").read_text("utf-8")
    )
    assert document["results"]["test"]["slides"] == 0
    assert document["test"]["recall"] is None
    assert_numbers(parsed(result.file).shown, document)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--weights", "train-099"], "no evaluated run of this project (evaluated: train-001)"),
        ([], "Run 'glombridge evaluate' first"),
    ],
    ids=["unknown-run", "nothing-evaluated"],
)
def test_what_cannot_be_reported(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    if not arguments:
        next((project / "glombridge" / "runs").glob("*/evaluation.json")).unlink()
    assert main(["report", str(project), *arguments]) == 3
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("taken", ["project.qpproj", "data/1/data.qpdata", "notes.html", "data"])
def test_it_takes_the_place_of_nothing_but_a_report(
    project: Path, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    (project / "notes.html").write_text("<!doctype html><p>mine")
    was = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert main(["report", str(project), "--out", str(project / taken)]) == 4
    assert f"{taken} is there already and is no report" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in was} == was


def test_a_later_report_takes_the_place_of_an_earlier_one(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.touch()  # as mktemp makes one
    for _ in range(2):
        assert main(["report", str(project), "--out", str(file)]) == 0
    # Earlier versions did not mark theirs.
    file.write_bytes(file.read_bytes().replace(MARK + b"\n", b""))
    assert MARK not in file.read_bytes()
    assert main(["report", str(project), "--out", str(file)]) == 0
    assert MARK in file.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name is POSIX's")
def test_it_takes_the_place_of_no_pipe_or_device(project: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["report", str(project), "--out", str(tmp_path / "pipe")]) == 4
    assert (tmp_path / "pipe").is_fifo()


def test_a_thumbnail_shows_the_place(data: Path) -> None:
    import base64
    import io

    with Slide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        uri = thumbnail(slide, (500, 500, 700, 640), found=(500, 500, 700, 640))
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert image.size == (200, 200)
    assert len(image.getcolors(1 << 24) or []) > 1000


@pytest.mark.chromium
@pytest.mark.parametrize("width", [1920, 1366], ids=["desktop", "laptop"])
def test_in_a_browser(page: Path, evaluation: Any, width: int) -> None:
    assert_shown(page, evaluation, width=width)


@pytest.mark.chromium
def test_the_table_of_slides_sorts(page: Path, evaluation: Any) -> None:
    script = """
const heads = [...document.querySelectorAll('#slides th')];
const column = (k) => [...document.querySelectorAll('#slides tbody tr')].map(
  (r) => r.cells[k].textContent.trim());
const probe = () => heads.map((head, k) => {
  head.querySelector('button').click();
  const up = [column(k), head.getAttribute('aria-sort')];
  head.querySelector('button').click();
  return [head.textContent.trim(), up, [column(k), head.getAttribute('aria-sort')]];
});
"""
    sorted_by = {name: (up, down) for name, up, down in browse(page, script, width=1366)}
    keys = {"slide": "image", "found": "found", "missed": "missed", "false": "false", "F1": "f1"}
    for name, key in keys.items():
        (up, says_up), (down, says_down) = sorted_by[name]
        values = [s[key] for s in evaluation["slides"]]
        known = sorted(v for v in values if v is not None)
        assert up[: len(known)] == [fixed(v) for v in known], name
        assert down[: len(known)] == [fixed(v) for v in known[::-1]], name
        assert (says_up, says_down) == ("ascending", "descending")
