"""The demo's detector is good enough on slides nobody showed it, and its report shows that."""

from __future__ import annotations

import json

import pytest
from report_page import assert_numbers, assert_shown, parsed

from glombridge.demo.run import DemoResult, run_demo
from glombridge.report.page import FIGURES
from glombridge.steps.evaluate_rounds import evaluate_rounds
from glombridge.steps.project import Project
from glombridge.steps.report import report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[0, 1, 2], ids="seed{}".format)
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("quality") / "demo", seed=request.param)


def test_precision_and_recall_on_held_out_slides(shown: DemoResult) -> None:
    score = shown.held_out
    assert score.truth >= 100
    assert score.precision is not None
    assert score.recall is not None
    assert score.precision > 0.85, score
    assert score.recall > 0.85, score


@pytest.mark.chromium
def test_the_report_opens_with_every_plot_and_the_numbers_of_the_json(shown: DemoResult) -> None:
    project = Project.open(shown.project_file)
    evaluate_rounds(project)
    page = report(project).file
    evaluation = json.loads((shown.round.train.run / "evaluation.json").read_text("utf-8"))
    for width in (1920, 1366):
        assert_shown(page, evaluation, width=width)
    numbers = parsed(page).shown
    assert_numbers(numbers, evaluation)
    pointers = {pointer for pointer, _ in numbers}
    assert {f"/results/test/figures/{name}/value" for name in FIGURES} <= pointers
    # The table of slides has a row for each, and its figures are counts of those slides.
    assert {f"/slides/{k}/missed" for k in range(len(evaluation["slides"]))} <= pointers
    counted = [s for s in evaluation["slides"] if s["part"] == "test"]
    assert evaluation["test"]["found"] == sum(s["found"] for s in counted) > 0
    # The confidence that the proposals in the project were made with is the one the page names.
    assert shown.round.detect.confidence == evaluation["operating_point"]["confidence"]
