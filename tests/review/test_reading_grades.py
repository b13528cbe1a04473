"""What an annotation says of a glomerulus, and what contradicts itself in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from graded import grades, marked

from glombridge.errors import InputError
from glombridge.provenance import GRADED, LESION, REVIEWER, SECONDS
from glombridge.review.case_items import case_items_template, read_case_items
from glombridge.review.glomerulus import Reading, contradiction_of, read_glomerulus
from glombridge.review.grade_tables import csv_text
from glombridge.review.grades import RESEARCH_USE
from glombridge.schemes import Scheme, shipped_scheme

LUPUS = shipped_scheme("lupus")
THREE = shipped_scheme("three-grade")
G = "Glomerulus"


def read(
    name: str, measurements: dict[str, float], scheme: Scheme = THREE, **metadata: str
) -> Reading:
    obj = marked(name, 1, measurements, {k.replace("_", "."): v for k, v in metadata.items()})
    return read_glomerulus(obj, 1, scheme, state="added")


@pytest.mark.parametrize(
    ("name", "measured", "slight", "severe", "sclerotic"),
    [
        pytest.param(G, {}, None, None, None, id="nothing-said"),
        pytest.param(G, {"Slight": 0.0}, 0, None, None, id="one-looked-for"),
        pytest.param(G, {"Slight": float("nan")}, None, None, None, id="nan-is-missing"),
        pytest.param(G, {"Slight": 0, "Severe": 0, "Sclerotic": 0}, 0, 0, 0, id="normal"),
        pytest.param(f"{G}: Severe", {}, 0, 1, 0, id="class-by-hand-excludes-the-others"),
        pytest.param(G, {"Severe": 1.0}, 0, 1, 0, id="measured-excludes-the-others"),
        pytest.param(f"{G}: Other", {}, None, None, None, id="class-of-no-lesion"),
    ],
)
def test_lesions(
    name: str,
    measured: dict[str, float],
    slight: int | None,
    severe: int | None,
    sclerotic: int | None,
) -> None:
    reading = read(name, {LESION + k: v for k, v in measured.items()})
    assert reading.glomerulus.values == {
        "Slight": slight,
        "Severe": severe,
        "Sclerotic": sclerotic,
    }
    assert reading.contradictions == ()


def test_a_class_by_hand_says_nothing_of_lesions_that_may_be_beside_it() -> None:
    values = read(f"{G}: Cellular crescent", {}, LUPUS).glomerulus.values
    assert {k for k, v in values.items() if v is not None} == {"Cellular crescent"}


def test_a_class_by_hand_gives_no_grade() -> None:
    lesions = (replace(THREE.lesions[0], max=3), *THREE.lesions[1:])
    found = read(f"{G}: Slight", {}, replace(THREE, lesions=lesions)).glomerulus
    assert found.values["Slight"] is None
    assert found.has("Slight") is True
    assert found.has("Slight", 2) is None
    assert found.n_known == 3
    assert not found.is_graded


@pytest.mark.parametrize(
    ("name", "measured", "metadata", "says", "unknown"),
    [
        pytest.param(
            f"{G}: Severe",
            {"Severe": 0.0},
            {},
            "is 0",
            {"Slight", "Severe", "Sclerotic"},
            id="class",
        ),
        pytest.param(
            G,
            {"Slight": 1.0, "Severe": 1.0},
            {},
            "exclude each other",
            # Neither of the two can say now that it is not the third.
            {"Slight", "Severe", "Sclerotic"},
            id="both",
        ),
        pytest.param(
            G,
            {"Slight": 0.0},
            {"glombridge_graded": "three-grade 1"},
            "says nothing of Severe, Sclerotic",
            {"Severe", "Sclerotic"},
            id="graded-without-a-grade",
        ),
    ],
)
def test_contradictions_count_as_not_graded(
    name: str, measured: dict[str, float], metadata: dict[str, str], says: str, unknown: set[str]
) -> None:
    reading = read(name, {LESION + k: v for k, v in measured.items()}, **metadata)
    assert says in reading.contradictions[0].text
    assert {k for k, v in reading.glomerulus.values.items() if v is None} == unknown


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, float("inf")])
def test_a_grade_outside_its_range_names_the_object(value: float) -> None:
    with pytest.raises(InputError, match=f"object {marked(G, 1).id}: 'Lesion: Severe' is"):
        read(G, {LESION + "Severe": value})


@pytest.mark.parametrize(
    ("metadata", "reader", "seconds"),
    [
        ({}, "unknown", None),
        ({REVIEWER: "  "}, "unknown", None),
        ({REVIEWER: "Ana", SECONDS: "4.5"}, "Ana", 4.5),
        ({REVIEWER: "Ana", SECONDS: "soon"}, "Ana", None),
    ],
)
def test_reader_and_time(metadata: dict[str, str], reader: str, seconds: float | None) -> None:
    obj = marked(G, 1, grades(THREE, "Severe"), metadata)
    found = read_glomerulus(obj, 1, THREE, state="added").glomerulus
    assert (found.reader, found.seconds) == (reader, seconds)


@pytest.mark.parametrize(
    ("measured", "metadata", "is_one"),
    [
        ({}, {}, False),
        ({LESION + "Severe": 0.0}, {}, False),
        ({LESION + "Severe": 1.0}, {}, True),
        ({}, {GRADED: "three-grade 1"}, True),
    ],
)
def test_rejected_and_graded(
    measured: dict[str, float], metadata: dict[str, str], is_one: bool
) -> None:
    found = contradiction_of(marked("Rejected*", 1, measured, metadata), 7, "rejected")
    assert (found is not None) is is_one
    if found is not None:
        assert found.image == 7
        assert "it is rejected and graded" in found.text


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, ""), (0, "0"), (-1.5, "-1.5"), ("P1", "P1"), ("=1+1", "'=1+1"), ("-a", "'-a")],
)
def test_a_cell_is_never_a_formula(value: str | float | None, written: str) -> None:
    text = csv_text([{"patient": value}], ["patient"], THREE)
    assert text.splitlines() == [
        "patient,scheme,use",
        f'{written},three-grade 1,"{RESEARCH_USE}"',
    ]


ITEMS = "Interstitial inflammation,Tubular atrophy,Interstitial fibrosis,Vasculitis"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"patient,{ITEMS}\nP1,1,,3,\n", {"P1": [1, None, 3, None]}, id="numbers"),
        pytest.param(
            f"\ufeffpatient;{ITEMS.replace(',', ';')}\r\nP1;none;;severe, >50 % of the cortex;PRESENT\r\n",
            {"P1": [0, None, 3, 1]},
            id="levels-from-a-spreadsheet",
        ),
        pytest.param(
            "Vasculitis,Patient\n1,P1\n\n0,P2\n",
            {"P1": [None] * 3 + [1], "P2": [None] * 3 + [0]},
            id="some-columns",
        ),
        pytest.param(
            case_items_template(LUPUS, ["b", "a"]),
            {"a": [None] * 4, "b": [None] * 4},
            id="template",
        ),
    ],
)
def test_case_items(tmp_path: Path, text: str, expected: dict[str, list[int | None]]) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text, encoding="utf-8")
    read_items = read_case_items(path, LUPUS)
    assert set(read_items.values) == set(expected)
    for patient, values in expected.items():
        assert [read_items.of(patient).get(i.name) for i in LUPUS.case_items] == values
    assert read_items.of("nobody") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("patient,T\nP1,1\n", "have the columns 'patient', 'T'", id="other-scheme"),
        pytest.param("case,Vasculitis\nP1,1\n", "have the columns", id="no-patient"),
        pytest.param("", "have the columns none", id="empty"),
        pytest.param(
            "patient,Vasculitis\nP1,2\n", "line 2 .*column 'Vasculitis': '2' is none of", id="range"
        ),
        pytest.param("patient,Vasculitis\nP1,0.5\n", "'0.5' is none of", id="no-level"),
        pytest.param("patient,Vasculitis\n,1\n", "line 2 .*names no patient", id="patient-empty"),
        pytest.param("patient,Vasculitis\nP1,1\nP1,1\n", "line 3 .*a second time", id="twice"),
        pytest.param("patient,Vasculitis\nP1,1,1\n", "more cells than columns", id="cells"),
        pytest.param("patient,Vasculitis,vasculitis\nP1,1,1\n", "each once", id="column-twice"),
    ],
)
def test_case_items_that_cannot_be(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        read_case_items(path, LUPUS)
    assert str(path) in str(caught.value)
