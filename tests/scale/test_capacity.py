"""The figures in docs/scaling.md are those of the benchmark, and what is computed from them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "scaling.md"
sys.path.insert(0, str(TESTS / "benchmarks"))

import capacity  # noqa: E402 - a script beside the benchmarks
import growth  # noqa: E402


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return dict(json.loads(capacity.RESULTS.read_text("utf-8")))


def test_the_tables_of_the_document_are_those_of_the_results(measured: dict[str, Any]) -> None:
    text = DOCUMENT.read_text("utf-8")
    between = text.partition("<!-- capacity -->\n")[2].partition("<!-- /capacity -->")[0]
    assert between.strip() == capacity.document(measured)


def test_the_tables_of_growth_are_those_of_the_results() -> None:
    text = DOCUMENT.read_text("utf-8")
    between = text.partition("<!-- growth -->\n")[2].partition("<!-- /growth -->")[0]
    results = (
        json.loads((growth.RESULTS / n).read_text("utf-8")) for n in ("growth.json", "load.json")
    )
    assert between.strip() == growth.document(*results)


def test_all_grows_in_proportion_but_comparing(measured: dict[str, Any]) -> None:
    for one, ten in zip(
        capacity.loads(measured, 10_000), capacity.loads(measured, 100_000), strict=True
    ):
        for name in ("workers_h", "gpus_h", "driver_h", "read_tb", "written_tb"):
            assert getattr(ten, name) == pytest.approx(10 * getattr(one, name))
        if one.compare_h:
            assert 10 < ten.compare_h / one.compare_h < 100


def test_comparing_is_projected_from_what_was_seen(measured: dict[str, Any]) -> None:
    for row in measured["comparing"]["one_shape"]["sizes"][-2:]:
        assert capacity.comparing_s(measured, row["slides"]) == pytest.approx(
            row["cpu_s"], rel=0.01
        )


def test_what_limits_is_what_takes_longest(measured: dict[str, Any]) -> None:
    slow = {**measured, "assumed": {**measured["assumed"], "storage_mb_per_s": 0.001}}
    tables = capacity.projected_table(slow).splitlines()[2:]
    assert all(row.endswith("| storage |") for row in tables)
