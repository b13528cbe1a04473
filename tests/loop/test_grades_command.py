"""``glombridge grades`` over a project as a reader leaves it, through the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely
from folders import files_in
from typed import run, run_json

from glombridge.ledger import Workspace
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import COUNTING, GRADED, LESION, REVIEWED, REVIEWER, SECONDS
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.review.grades import RESEARCH_USE
from glombridge.schemes import shipped_scheme
from glombridge.steps.project import Project
from glombridge.steps.tile import dataset_settings
from glombridge.sync.guards import Guards
from glombridge.sync.push import Proposals, push

OXFORD = shipped_scheme("oxford")
ALL_ABSENT = {LESION + lesion.name: 0.0 for lesion in OXFORD.lesions}


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


def test_tables_are_all_of_one_call(
    study: Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    replacing_fails: Callable[[int], None],
) -> None:
    study.add("a.svs", "P1", *ten("Cellular crescent"))
    out = tmp_path / "out"
    run_json(capsys, "grades", study.folder, "--out", out)
    before = files_in(out)
    replacing_fails(2)
    assert run("grades", study.folder, "--out", out, "--scheme", "three-grade") == 7
    assert files_in(out) == before


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


@pytest.mark.parametrize(
    ("glomeruli", "declared", "counted", "pending"),
    [
        # a has 2 proposals nobody has judged, b has 4.
        pytest.param((3, 0), {}, [1], 6, id="one more glomerulus on b would change the slide"),
        pytest.param((3, 1), {}, [], 6, id="no slide counts yet"),
        pytest.param((0, 0), {}, [], 6, id="nothing is marked yet"),
        pytest.param((3, 1), {"a": "true"}, [1], 2, id="b does not count"),
        pytest.param((3, 0), {"b": "true"}, [2], 4, id="a does not count"),
        pytest.param((3, 1), {"a": "distinct"}, [1], 2, id="b is not distinct"),
        pytest.param((3, 1), {"a": "distinct", "b": "distinct"}, [1, 2], 6, id="both are distinct"),
        pytest.param((3, 1), {"a": "true", "b": "true"}, [], 6, id="a contradiction"),
    ],
)
def test_proposals_that_may_change_the_figures_of_a_case(
    study: Study,
    capsys: pytest.CaptureFixture[str],
    glomeruli: tuple[int, int],
    declared: dict[str, str],
    counted: list[int],
    pending: int,
) -> None:
    for name, n, n_pending in zip("ab", glomeruli, (2, 4), strict=True):
        open_ones = [
            glomerulus(50 + k, graded=False, name="Glomerulus: Proposed") for k in range(n_pending)
        ]
        said = {COUNTING: declared[name]} if name in declared else {}
        study.add(f"{name}.svs", "P1", *ten()[:n], *open_ones, **said)
    told = run_json(capsys, "grades", study.folder)
    assert [s["pending_proposals"] for s in told["slides"]] == [2, 4]
    (case,) = told["cases"]
    assert (case["counted_images"], case["pending_proposals"]) == (counted, pending)


@pytest.mark.parametrize(
    ("graded", "ungraded", "adequate"), [(7, 0, False), (8, 0, True), (6, 2, True), (0, 8, True)]
)
def test_adequacy_counts_marked_glomeruli_graded_or_not(
    study: Study,
    capsys: pytest.CaptureFixture[str],
    graded: int,
    ungraded: int,
    adequate: bool,
) -> None:
    # Cattran 2009, Roberts 2009: at least 8 glomeruli.
    more = [glomerulus(20 + k, graded=False) for k in range(ungraded)]
    study.add("a.svs", "P1", *ten()[:graded], *more)
    (case,) = run_json(capsys, "grades", study.folder)["cases"]
    assert case["adequate"] is adequate


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


def unknown_in_settings(study: Study) -> list[object]:
    file = study.folder / "glombridge" / "glombridge.toml"
    file.write_text(
        file.read_text("utf-8").replace("distinct = []", 'distinct = ["z.svs"]'), "utf-8"
    )
    return []


def counting_and_distinct(study: Study) -> list[object]:
    study.add("a.svs", "P1", glomerulus(1))
    return ["--counting", "a.svs", "--distinct", "a.svs"]


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
        pytest.param(unknown_in_settings, "in [review]: no image 'z.svs'", id="image-in-settings"),
        pytest.param(counting_and_distinct, "a.svs: an image is the one that", id="both"),
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
    files = files_in(study.folder)
    assert run("grades", study.folder, "-q") == 0
    assert files_in(study.folder) == files


def test_proposals_count_once_a_human_has_judged_them(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    image = study.add("a.svs", "P1", glomerulus(30))
    workspace = Workspace(study.folder)
    boxes = np.array([(1000.0 * k, 100, 1000.0 * k + 80, 180) for k in range(1, 5)])
    seen = Proposals(
        image,
        boxes,
        np.full(4, 0.5),
        np.zeros(4, np.int64),
        0.5,
        "slide",
        shapely.box(0, 0, 9000, 900),
    )
    push(
        study.store,
        workspace,
        workspace.settings(),
        [seen],
        run="detect-001",
        model="abc",
        guards=Guards(while_qupath_runs=True),
    )
    contents = study.store.read(image)
    accepted, edited, rejected, pending = sorted(
        (o for o in contents.objects if str(o.path_class).endswith("Proposed")),
        key=lambda o: o.outline.bounds if o.outline else (),
    )
    sclerosed = PathClass.parse("Glomerulus: Global sclerosis")
    larger = Outline.rectangle(1990, 90, 2090, 190)
    study.store.write(
        image,
        HierarchyEdit(
            replace=(
                replace(accepted, path_class=sclerosed),
                replace(edited, path_class=PathClass.parse("Glomerulus"), outline=larger),
                replace(rejected, path_class=PathClass.parse("Rejected*")),
            )
        ),
        expected=contents.stamp,
        snapshot_folder=workspace.snapshots,
    )
    made = run_json(capsys, "grades", study.folder)
    states = {row["id"]: row["state"] for row in made["glomeruli"]}
    assert states == {
        str(accepted.id): "accepted",
        str(edited.id): "edited",
        str(glomerulus(30).id): "added",
    }
    assert str(pending.id) not in states
    (case,) = made["cases"]
    assert case["pending_proposals"] == 1
    # The class set by hand says one lesion of one glomerulus; the edited one says nothing.
    counts = {s["name"]: (s["n"], s["of"], s["ungraded"]) for s in case["figures"]["shares"]}
    assert counts["Globally sclerosed"] == (1, 2, 1)
    assert counts["With segmental sclerosis"] == (0, 2, 1)
    assert counts["With endocapillary hypercellularity"] == (0, 1, 2)
    assert (case["figures"]["graded"], case["figures"]["partly_graded"]) == (1, 1)


def test_an_image_that_cannot_be_read_is_no_image_without_glomeruli(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add("a.svs", "P1", *ten())
    damaged = study.store.data_file(study.add("b.svs", "P1", *ten()))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert run("grades", study.folder, "-q") == 6
    out, error = capsys.readouterr()
    assert "image 'b.svs'" in error
    assert "adequate" not in out


@pytest.mark.parametrize(
    ("scheme", "code", "says"),
    [
        ("lupsu", 3, "no grading scheme 'lupsu'"),
        ("own.toml", 3, "own.toml cannot be read"),
    ],
)
def test_init_refuses_a_scheme_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str, code: int, says: str
) -> None:
    store = NativeStore.create(tmp_path / "project")
    assert run("init", store.folder, "--scheme", scheme) == code
    assert says in capsys.readouterr().err
    assert not (store.folder / "glombridge").exists()


def test_init_says_how_to_change_the_scheme_of_a_project_that_has_settings(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run_json(capsys, "init", study.folder, "--scheme", "lupus")
    assert made["scheme"] == "oxford 1"
    assert "to grade with 'lupus', write it there: 'scheme' in [review]" in made["notes"]
