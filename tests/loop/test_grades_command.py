"""``glombridge grades`` over a project as a reader leaves it, through the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from glombridge.cli import main
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import COUNTING, GRADED, LESION, REVIEWED, REVIEWER, SECONDS
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.review.grades import RESEARCH_USE
from glombridge.schemes import shipped_scheme
from glombridge.steps.project import Project
from glombridge.steps.tile import dataset_settings

OXFORD = shipped_scheme("oxford")
ALL_ABSENT = {LESION + lesion.name: 0.0 for lesion in OXFORD.lesions}


def run(*arguments: object) -> int:
    return int(main([str(a) for a in arguments]))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def glomerulus(
    number: int,
    *lesions: str,
    graded: bool = True,
    name: str = "Glomerulus",
    reader: str | None = "Ana",
) -> SlideObject:
    x = 100.0 * number
    metadata = {GRADED: OXFORD.stamp, REVIEWED: "2026-11-25T08:30:00Z", SECONDS: "4.5"}
    if reader:
        metadata[REVIEWER] = reader
    values = {**ALL_ABSENT, **{LESION + lesion: 1.0 for lesion in lesions}}
    return SlideObject(
        UUID(int=number + 1, version=4),
        ObjectKind.ANNOTATION,
        Outline.rectangle(x, 10, x + 80, 90),
        PathClass.parse(name),
        measurements=values if graded else {},
        metadata=metadata if graded else {},
    )


class Study:
    """Patients with slides, and what readers marked on them."""

    def __init__(self, folder: Path) -> None:
        self.store = NativeStore.create(folder / "project")
        self.folder = self.store.folder
        self._slides = folder
        assert run("init", self.folder, "--store", "native", "--scheme", "oxford", "-q") == 0

    def add(self, name: str, patient: str | None, *objects: SlideObject, **metadata: str) -> int:
        said = {"patient": patient} if patient else {}
        entry = self.store.add_image(
            self._slides / name,
            name=name,
            metadata=ImageServerInfo(width=9000, height=900, mpp_x=0.5, mpp_y=0.5),
            image_metadata={**said, **metadata},
        )
        self.store.write(
            entry.id,
            HierarchyEdit(add=objects),
            expected=self.store.read(entry.id).stamp,
            snapshot_folder=self.folder / "glombridge" / "snapshots",
        )
        return int(entry.id)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def ten(*crescents: str) -> list[SlideObject]:
    """Ten graded glomeruli, each with the lesion given for it."""
    return [glomerulus(k, *crescents[k : k + 1]) for k in range(10)]


def test_init_writes_the_scheme_and_its_classes_are_truth(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add(
        "a.svs", "P1", glomerulus(1, "Cellular crescent", name="Glomerulus: Cellular crescent")
    )
    assert 'scheme = "oxford"' in (study.folder / "glombridge" / "glombridge.toml").read_text(
        "utf-8"
    )
    pulled = run_json(capsys, "pull", study.folder)
    assert [image["truth"] for image in pulled["images"]] == [1]
    assert pulled["images"][0]["unknown_classes"] == {}


def test_a_scheme_changes_what_a_pull_and_a_dataset_are_made_of_and_its_absence_nothing(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study.folder / "glombridge" / "glombridge.toml"
    study.add("a.svs", "P1", glomerulus(1))
    with_scheme = run_json(capsys, "pull", study.folder)
    project = Project.open(study.folder)
    crescent = "Glomerulus: Cellular crescent"
    assert dataset_settings(project).class_map.index_of[crescent] == 0
    manifest = json.loads(
        (project.workspace.pulls / with_scheme["pull"] / "manifest.json").read_text("utf-8")
    )
    assert crescent in manifest["classes"]["Glomerulus"]
    file.write_text(file.read_text("utf-8").replace('scheme = "oxford"', ""), "utf-8")
    without = run_json(capsys, "pull", study.folder)
    assert without["changed"]
    assert without["sha256"] != with_scheme["sha256"]
    assert dict(dataset_settings(Project.open(study.folder)).class_map.index_of) == {
        "Glomerulus": 0
    }


def test_a_case_from_glomeruli_to_scores(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study.add("a.svs", "P1", *ten("Cellular crescent", "Segmental sclerosis"))
    (study.folder / "glombridge" / "cases.csv").write_text("patient,T\nP1,T2\n", "utf-8")
    out = tmp_path / "out"
    made = run_json(capsys, "grades", study.folder, "--out", out)
    (case,) = made["cases"]
    figures = case["figures"]
    # 1 crescent in 10 = 10 %, below one fourth: C1; the others by presence.
    assert {s["name"]: s["label"] for s in figures["scores"]} == {
        "M": "M0",
        "E": "E0",
        "S": "S1",
        "C": "C1",
    }
    assert case["items"] == {"T": 2}
    assert case["adequate"] is True
    assert (figures["glomeruli"], figures["graded"], figures["readers"]) == (10, 10, {"Ana": 10})
    assert made["contradictions"] == []
    assert len(made["notes"]) == 1
    assert made["notes"][0].startswith("assumed of 1 counted slides")
    assert made["use"] == RESEARCH_USE
    assert made == {**json.loads((out / "grades.json").read_text("utf-8")), "files": made["files"]}
    tables = {name: table(out / f"grades_{name}.csv") for name in ("cases", "slides", "glomeruli")}
    assert {name: len(rows) for name, rows in tables.items()} == {
        "cases": 1,
        "slides": 1,
        "glomeruli": 10,
    }
    assert all(row["use"] == RESEARCH_USE for rows in tables.values() for row in rows)
    (row,) = tables["cases"]
    share = "With cellular or fibrocellular crescents"
    assert [row[f"{share} {x}"] for x in ("percent", "n", "of", "ungraded")] == [
        "10.0",
        "1",
        "10",
        "0",
    ]
    assert [row["C"], row["C label"], row["C final"], row["T"]] == ["1", "C1", "yes", "2"]
    first = tables["glomeruli"][0]
    assert (first["Lesion: Cellular crescent"], first["reader"], first["seconds"]) == (
        "1",
        "Ana",
        "4.5",
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_printed(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.add("a.svs", "P1", *ten("Cellular crescent")[:6], glomerulus(20, graded=False))
    study.add("b.svs", "P2", glomerulus(1))
    study.add("c.svs", "P2", glomerulus(1))
    capsys.readouterr()
    assert run("grades", study.folder, "-q") == 0
    out = capsys.readouterr().out
    assert "no (<8)" in out
    assert "M0" in out
    # One of seven is not graded: C1 may become C2 (2 of 7 = 29 %).
    assert "C1?" in out
    assert (
        "P2: no figures: 2 slides have glomeruli (b.svs, c.svs) and may show the same ones" in out
    )
    assert out.rstrip().endswith(RESEARCH_USE)


@pytest.mark.parametrize(
    ("metadata", "options", "settings", "counted"),
    [
        pytest.param({}, [], "", None, id="nothing-declared"),
        pytest.param({"a": "true"}, [], "", 3, id="metadata"),
        pytest.param({"a": "distinct", "b": "distinct"}, [], "", 7, id="distinct"),
        pytest.param({}, ["--counting", "b.svs"], "", 4, id="option"),
        pytest.param({"a": "true"}, ["--counting", "b.svs"], "", 4, id="option-wins"),
        pytest.param(
            {}, ["--distinct", "a.svs", "--distinct", "b.svs"], "", 7, id="distinct-option"
        ),
        pytest.param({}, [], 'counting = ["a.svs"]', 3, id="settings"),
        pytest.param({"a": "true", "b": "true"}, [], "", None, id="two-declared"),
    ],
)
def test_slides_of_a_case_are_never_added_up_silently(
    study: Study,
    capsys: pytest.CaptureFixture[str],
    metadata: dict[str, str],
    options: list[str],
    settings: str,
    counted: int | None,
) -> None:
    for name, number in (("a", 3), ("b", 4)):
        said = {COUNTING: metadata[name]} if name in metadata else {}
        study.add(f"{name}.svs", "P1", *ten()[:number], **said)
    if settings:
        file = study.folder / "glombridge" / "glombridge.toml"
        text = file.read_text("utf-8").replace("counting = []", settings)
        assert settings in text
        file.write_text(text, "utf-8")
    (case,) = run_json(capsys, "grades", study.folder, *options)["cases"]
    figures = case["figures"]
    assert (figures["glomeruli"] if figures else None) == counted


def test_contradictions_and_what_is_not_known_are_listed(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add(
        "a.svs",
        "P1",
        glomerulus(1, reader=None),
        glomerulus(2, "Cellular crescent", name="Rejected*"),
        glomerulus(3, "Cellular crescent", name="Glomerulus: Proposed"),
        glomerulus(4, graded=False, name="Glomerulus: Proposed"),
    )
    study.add("b.svs", None, glomerulus(1))
    made = run_json(capsys, "grades", study.folder)
    assert [c["text"].split(" (")[0] for c in made["contradictions"]] == [
        "it is rejected and graded",
        "it is still a proposal and graded",
    ]
    (case,) = made["cases"]
    assert case["figures"]["glomeruli"] == 1
    assert case["figures"]["readers"] == {"unknown": 1}
    assert case["pending_proposals"] == 2
    said = "\n".join(made["notes"])
    assert "of 1 graded glomeruli nothing says who graded them" in said
    assert "2 proposals have not been judged" in said
    assert "the patient of 1 images is not known (b.svs)" in said
    assert "nothing was entered per case (T)" in said


def test_grades_of_another_scheme_are_told(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add("a.svs", "P1", glomerulus(1))
    notes = run_json(capsys, "grades", study.folder, "--scheme", "lupus")["notes"]
    assert any("graded with scheme 'oxford 1', and 'lupus 1' is used" in note for note in notes)


def broken_grade(study: Study) -> list[object]:
    bad = glomerulus(1)
    study.add(
        "a.svs",
        "P1",
        SlideObject(
            bad.id,
            bad.kind,
            bad.outline,
            bad.path_class,
            measurements={f"{LESION}Cellular crescent": 3.0},
        ),
    )
    return []


def broken_counting(study: Study) -> list[object]:
    study.add("a.svs", "P1", glomerulus(1), **{COUNTING: "perhaps"})
    return []


def without_scheme(study: Study) -> list[object]:
    file = study.folder / "glombridge" / "glombridge.toml"
    file.write_text(file.read_text("utf-8").replace('scheme = "oxford"', ""), "utf-8")
    return []


def not_initialised(study: Study) -> list[object]:
    (study.folder / "glombridge" / "glombridge.toml").unlink()
    return []


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        pytest.param(
            broken_grade, "image 'a.svs' (entry 1): object 00000000-", id="grade-out-of-range"
        ),
        pytest.param(broken_counting, "metadata 'glombridge.counting' is 'perhaps'", id="counting"),
        pytest.param(without_scheme, "no grading scheme: name one with --scheme", id="no-scheme"),
        pytest.param(not_initialised, "Run 'glombridge init", id="not-initialised"),
        pytest.param(lambda _: ["--scheme", "x.toml"], "x.toml cannot be read", id="scheme-file"),
        pytest.param(lambda _: ["--counting", "z.svs"], "no image 'z.svs'", id="no-such-image"),
        pytest.param(lambda _: ["--case-items", "z.csv"], "z.csv cannot be read", id="items-file"),
    ],
)
def test_bad_input(
    study: Study,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Study], list[object]],
    says: str,
) -> None:
    options = prepare(study)
    assert run("grades", study.folder, *options) == 3
    assert says in capsys.readouterr().err


def test_a_project_without_its_ledger_is_graded_all_the_same(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add("a.svs", "P1", *ten())
    before = run_json(capsys, "grades", study.folder)
    for name in ("history.jsonl", "ledger.sqlite"):
        (study.folder / "glombridge" / name).unlink(missing_ok=True)
    assert run_json(capsys, "grades", study.folder) == before


def test_the_template_is_written_once(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.add("a.svs", "P2", *ten())
    study.add("b.svs", "P1")
    file = study.folder / "glombridge" / "cases.csv"
    made = run_json(capsys, "grades", study.folder, "--case-template", file)
    assert made == {"template": str(file), "patients": 2}
    assert file.read_text("utf-8") == "patient,T\nP1,\nP2,\n"
    assert run("grades", study.folder, "--case-template", file) == 4
    assert "not overwritten" in capsys.readouterr().err
    # Filled in with nothing, it says nothing: T stays missing.
    cases = run_json(capsys, "grades", study.folder)["cases"]
    assert [case["missing_items"] for case in cases] == [["T"], ["T"]]


def test_grading_changes_nothing_in_the_project(study: Study) -> None:
    study.add("a.svs", "P1", *ten())
    files = {p: p.read_bytes() for p in study.folder.rglob("*") if p.is_file()}
    assert run("grades", study.folder, "-q") == 0
    assert {p: p.read_bytes() for p in study.folder.rglob("*") if p.is_file()} == files
