"""The roll-up against examples worked by hand, one per scheme, with the source of each cut-off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graded import marked, several

from glombridge.provenance import LESION
from glombridge.review.glomerulus import read_glomerulus
from glombridge.review.grades import Figures, figures_of
from glombridge.schemes import parse_scheme, shipped_scheme

LUPUS = shipped_scheme("lupus")
OXFORD = shipped_scheme("oxford")
THREE = shipped_scheme("three-grade")


def scores(figures: Figures) -> dict[str, Any]:
    return {score.name: score.label for score in figures.scores}


def values(figures: Figures) -> dict[str, int | None]:
    return {score.name: score.value for score in figures.scores}


def shares(figures: Figures) -> dict[str, tuple[int, int]]:
    return {share.name: (share.n, share.of) for share in figures.shares}


def test_lupus() -> None:
    # Twenty glomeruli, all graded:
    #   3 endocapillary hypercellularity and karyorrhexis
    #   2 endocapillary hypercellularity, fibrinoid necrosis and a cellular crescent
    #   1 fibrocellular crescent
    #   2 wire loops
    #   5 global sclerosis, 1 of them with a fibrous crescent
    #   1 segmental sclerosis
    #   2 ischemic, from arteriosclerosis, nothing else
    #   4 nothing
    glomeruli = several(
        LUPUS,
        (3, ("Endocapillary hypercellularity", "Neutrophils or karyorrhexis")),
        (2, ("Endocapillary hypercellularity", "Fibrinoid necrosis", "Cellular crescent")),
        (1, ("Fibrocellular crescent",)),
        (2, ("Wire loops or hyaline thrombi",)),
        (4, ("Global sclerosis",)),
        (1, ("Global sclerosis", "Fibrous crescent")),
        (1, ("Segmental sclerosis",)),
        (2, ("Ischemic",)),
        (4, ()),
    )
    items = {"Interstitial inflammation": 1, "Tubular atrophy": 1, "Interstitial fibrosis": 2}
    figures = figures_of(glomeruli, LUPUS, items)
    assert (figures.glomeruli, figures.graded) == (20, 20)
    # Of all 20: 5 = 25 % endocapillary, 3 = 15 % karyorrhexis, 2 = 10 % necrosis, 2 = 10 % hyaline,
    # 2 + 1 = 15 % cellular or fibrocellular crescents, 1 = 5 % fibrous ones, 5 = 25 % global, with the
    # segmental one 6 = 30 % sclerosis, any crescent 2 + 1 + 1 = 20 %.
    # Affected by lupus: 3 + 2 + 1 + 2 + 5 + 1 = 14 of 18, as Weening 2004 leaves ischemic ones out.
    assert shares(figures) == {
        "With endocapillary hypercellularity": (5, 20),
        "With neutrophils or karyorrhexis": (3, 20),
        "With fibrinoid necrosis": (2, 20),
        "With hyaline deposits": (2, 20),
        "With cellular or fibrocellular crescents": (3, 20),
        "With fibrous crescents": (1, 20),
        "Sclerosed, globally or segmentally": (6, 20),
        "Globally sclerosed": (5, 20),
        "With any crescent": (4, 20),
        "Affected by lupus nephritis": (14, 18),
    }
    # Modified NIH (Bajema 2018; levels as tabled in PMC9386217): none 0, <25 % 1, 25-50 % 2, >50 % 3.
    # 14/18 = 78 % >= 50 %: diffuse (Weening 2004).
    assert values(figures) == {
        "Endocapillary hypercellularity score": 2,
        "Neutrophils or karyorrhexis score": 1,
        "Fibrinoid necrosis score": 1,
        "Hyaline deposits score": 1,
        "Cellular or fibrocellular crescents score": 1,
        "Glomerulosclerosis score": 2,
        "Fibrous crescents score": 1,
        "Extent": 2,
    }
    assert scores(figures)["Extent"] == "diffuse"
    activity, chronicity = figures.indices
    # 2 + 1 + 2 * 1 + 1 + 2 * 1 + interstitial inflammation 1 = 9 of 24
    assert (activity.value, activity.max) == (9, 24)
    # 2 + 1 + tubular atrophy 1 + interstitial fibrosis 2 = 6 of 12
    assert (chronicity.value, chronicity.max) == (6, 12)
    assert activity.is_final
    assert chronicity.is_final


def test_the_highest_indices_of_lupus_are_24_and_12() -> None:
    # All lesions in every glomerulus, global sclerosis aside (it excludes the segmental one).
    every = tuple(x.name for x in LUPUS.lesions if x.name not in ("Global sclerosis", "Ischemic"))
    items = {"Interstitial inflammation": 3, "Tubular atrophy": 3, "Interstitial fibrosis": 3}
    figures = figures_of(several(LUPUS, (10, every)), LUPUS, items)
    # Bajema 2018: activity 0-24 (3+3+2*3+3+2*3+3), chronicity 0-12 (4*3).
    assert [index.value for index in figures.indices] == [24, 12]


def test_oxford() -> None:
    # Twelve glomeruli: 5 with mesangial hypercellularity, one of these with endocapillary as well and
    # one with a cellular crescent; 1 with segmental sclerosis; 3 globally sclerosed; 3 with nothing.
    glomeruli = several(
        OXFORD,
        (3, ("Mesangial hypercellularity",)),
        (1, ("Mesangial hypercellularity", "Endocapillary hypercellularity")),
        (1, ("Mesangial hypercellularity", "Cellular crescent")),
        (1, ("Segmental sclerosis",)),
        (3, ("Global sclerosis",)),
        (3, ()),
    )
    figures = figures_of(glomeruli, OXFORD, {"T": 1})
    # M: 5 of the 9 that are not globally sclerosed = 56 % > 50 % -> M1 (Cattran 2009, Roberts 2009).
    #    With the sclerosed ones in the denominator it would be 5/12 = 42 %, M0.
    # E1 and S1: present in one (Cattran 2009). C: 1 of 12 = 8 % < 25 % -> C1 (Trimarchi 2017).
    assert scores(figures) == {"M": "M1", "E": "E1", "S": "S1", "C": "C1"}
    assert shares(figures)["With mesangial hypercellularity"] == (5, 9)
    assert shares(figures)["Globally sclerosed"] == (3, 12)
    # At least 8 glomeruli (Cattran 2009).
    assert OXFORD.adequacy is not None
    assert OXFORD.adequacy.min_glomeruli == 8
    # T is entered per case: 26-50 % of the cortex is T1 (Cattran 2009).
    assert OXFORD.case_items[0].levels[1] == "T1"


def test_three_grades() -> None:
    # Ten glomeruli: 4 slight, 2 severe, 1 sclerotic, 1 without damage, 2 not graded. Of the 8 graded:
    # 4/8, 2/8, 1/8 and 7/8. The paper gives no cut-offs, so there are no scores.
    glomeruli = several(
        THREE, (4, ("Slight",)), (2, ("Severe",)), (1, ("Sclerotic",)), (1, ()), (2, None)
    )
    figures = figures_of(glomeruli, THREE, {})
    assert shares(figures) == {
        "Slightly damaged": (4, 8),
        "Severely damaged": (2, 8),
        "Sclerosed": (1, 8),
        "Damaged at all": (7, 8),
    }
    assert (figures.glomeruli, figures.graded) == (10, 8)
    assert all(share.ungraded == 2 for share in figures.shares)
    assert figures.scores == figures.indices == ()


@pytest.mark.parametrize(
    ("n", "of", "value"),
    [
        pytest.param(0, 8, 0, id="none"),
        pytest.param(1, 8, 1, id="below-25"),
        pytest.param(2, 8, 2, id="exactly-25"),
        pytest.param(26, 100, 2, id="above-25"),
        pytest.param(4, 8, 2, id="exactly-50"),
        pytest.param(51, 100, 3, id="above-50"),
        pytest.param(8, 8, 3, id="all"),
    ],
)
def test_nih_levels_at_their_edges(n: int, of: int, value: int) -> None:
    # Bajema 2018 (PMC9386217, table 1): 1 <25 %, 2 25-50 %, 3 >50 %; so 25 % and 50 % both are 2.
    figures = figures_of(several(LUPUS, (n, ("Fibrinoid necrosis",)), (of - n, ())), LUPUS)
    assert values(figures)["Fibrinoid necrosis score"] == value


@pytest.mark.parametrize(
    ("n", "of", "label"),
    [
        (0, 10, "none"),
        (1, 10, "focal"),
        (49, 100, "focal"),
        (5, 10, "diffuse"),
        (10, 10, "diffuse"),
    ],
)
def test_diffuse_begins_at_exactly_half(n: int, of: int, label: str) -> None:
    # Weening 2004: focal <50 %, diffuse >=50 %.
    figures = figures_of(several(LUPUS, (n, ("Segmental sclerosis",)), (of - n, ())), LUPUS)
    assert scores(figures)["Extent"] == label


@pytest.mark.parametrize(
    ("lesion", "n", "of", "score", "label"),
    [
        # Trimarchi 2017: C2 from one fourth on.
        ("Cellular crescent", 0, 8, "C", "C0"),
        ("Cellular crescent", 1, 8, "C", "C1"),
        ("Fibrocellular crescent", 2, 8, "C", "C2"),
        ("Fibrous crescent", 8, 8, "C", "C0"),
        # Cattran 2009: M1 above half, not at half.
        ("Mesangial hypercellularity", 4, 8, "M", "M0"),
        ("Mesangial hypercellularity", 5, 8, "M", "M1"),
    ],
)
def test_oxford_levels_at_their_edges(lesion: str, n: int, of: int, score: str, label: str) -> None:
    figures = figures_of(several(OXFORD, (n, (lesion,)), (of - n, ())), OXFORD)
    assert scores(figures)[score] == label


def test_the_scheme_in_the_documentation_can_be_used() -> None:
    text = (Path(__file__).parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
    own = text.split("## A scheme of your own", 1)[1]
    lines = [line[4:] for line in own.splitlines() if line.startswith("    ")]
    scheme = parse_scheme("\n".join(lines), "docs/grading.md")
    # Grades 2 and 3 of 3 count as swollen, scars are left out: 1 of 2 = 50 %, value 2; 2 * 2 + 1 = 5.
    figures = figures_of(
        [
            read_glomerulus(
                marked("Glomerulus", k, {f"{LESION}{name}": v for name, v in found.items()}),
                1,
                scheme,
                state="added",
            ).glomerulus
            for k, found in enumerate(
                [{"Swelling": 2.0, "Scar": 0.0}, {"Swelling": 1.0, "Scar": 0.0}, {"Scar": 1.0}]
            )
        ],
        scheme,
        {"Inflammation": 1},
    )
    assert shares(figures) == {"Swollen": (1, 2)}
    assert figures.shares[0].left_out == 1
    assert figures.indices[0].value == 5
