"""Whose seconds, of which round; unknown stays unknown."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from glombridge.cli import main
from glombridge.ledger import State, Workspace
from glombridge.ledger.ledger import Step
from glombridge.objects import ObjectKind, SlideObject
from glombridge.qupath import ImageServerInfo, NativeStore
from glombridge.review.decisions import Reader, Rules, accept, reject
from glombridge.review.session import write_decisions
from glombridge.review.times import review_times
from glombridge.settings import Settings
from glombridge.sync.judgements import judgement_of
from glombridge.sync.push import Proposals, push


def step(
    k: int,
    state: str,
    who: str | None = None,
    seconds: float | None = None,
    run: str | None = None,
    undone: bool = False,
) -> Step:
    write = "write-001" if who is None else None
    return Step(
        1,
        UUID(int=k),
        "",
        State(state),
        "",
        write,
        run,
        None,
        None,
        None,
        None,
        None,
        who,
        undone,
        seconds,
    )


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            [
                step(1, "proposal", run="d1"),
                step(1, "accepted", "A", 4.0),
                step(2, "proposal", run="d1"),
                step(2, "rejected", "A", 2.0),
                step(3, "proposal", run="d1"),
                step(3, "accepted", "A"),
            ],
            [("A", "d1", 3, 2, 3.0, 6.0)],
            id="median-of-the-known",
        ),
        pytest.param(
            [
                step(1, "proposal", run="d1"),
                step(1, "accepted", "A", 4.0),
                step(1, "accepted", "B", 4.5),
                step(1, "accepted", "A", 5.5),
            ],
            [("A", "d1", 1, 1, 5.0, 5.0), ("B", "d1", 1, 1, 0.5, 0.5)],
            id="each-reader-what-they-added",
        ),
        pytest.param(
            [
                step(1, "proposal", run="d1"),
                step(1, "proposal", run="d2"),
                step(1, "proposal"),  # a queue's write is of no run
                step(1, "accepted", "A", 4.0),
            ],
            [("A", "d2", 1, 1, 4.0, 4.0)],
            id="the-round-it-was-last-seen-in",
        ),
        pytest.param([step(1, "added", "A", 3.0)], [("A", "drawn", 1, 1, 3.0, 3.0)], id="drawn"),
        pytest.param(
            [step(1, "proposal", run="d1"), step(1, "deleted", "unknown")],
            [("unknown", "d1", 1, 0, None, None)],
            id="deleted-by-nobody-knows-whom",
        ),
        pytest.param(
            [step(1, "proposal", run="d1"), step(1, "lost", "unknown")],
            [],
            id="lost-is-no-decision",
        ),
        pytest.param(
            [
                step(1, "proposal", run="d1"),
                step(1, "accepted", "A", 4.0),
                step(1, "proposal", "unknown"),
                step(1, "accepted", "A", 1.0),
            ],
            [("A", "d1", 1, 1, 5.0, 5.0)],
            id="taken-back-and-decided-again",
        ),
        pytest.param(
            [
                step(1, "proposal", run="d1"),
                step(1, "accepted", "A", 9.0),
                step(1, "accepted", "B", 2.0),
            ],
            [("A", "d1", 1, 1, 9.0, 9.0), ("B", "d1", 1, 0, None, None)],
            id="less-than-before-is-unknown",
        ),
    ],
)
def test_times(steps: list[Step], told: list[tuple[object, ...]]) -> None:
    found = [tuple(t.as_dict()[k] for k in KEYS) for t in review_times(steps)]
    assert found == told


KEYS = ("reader", "round", "objects", "known", "median_seconds", "total_seconds")


def test_a_review_becomes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NativeStore.create(tmp_path / "project")
    info = ImageServerInfo(width=4000, height=3000, mpp_x=0.5, mpp_y=0.5)
    store.add_image(tmp_path / "a.tif", name="a.tif", metadata=info)
    workspace, settings = Workspace(store.folder), Settings()
    workspace.create(settings)
    assert main(["history", str(store.folder), "--times"]) == 0
    assert "nothing was decided" in capsys.readouterr().out
    (image,) = (e.id for e in store.images())
    xyxy = np.array([(500.0 * k, 100, 500.0 * k + 200, 300) for k in range(3)])
    wanted = Proposals(image, xyxy, np.full(3, 0.5), np.zeros(3, np.int64), 0.5, "s", None)
    push(store, workspace, settings, [wanted], run="detect-001", model="m")
    rules = Rules.of(settings)
    one, two, three = (o.id for o in store.read(image).objects)
    deeds = {
        one: lambda o: accept(o, Reader("A", seconds=4.0), rules),
        two: lambda o: reject(o, Reader("A", seconds=7.0), rules),
        three: lambda o: accept(o, Reader("A"), rules),
    }
    write_decisions(store, workspace, settings, {image: deeds})
    assert main(["history", str(store.folder), "--times", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["times"]
    assert tuple(told[k] for k in KEYS) == ("A", "detect-001", 3, 2, 5.5, 11.0)
    assert main(["history", str(store.folder), str(one), "--times"]) == 2


@pytest.mark.parametrize(
    ("text", "is_time"),
    [
        ("2026-11-25T08:30:00Z", True),
        ("2026-11-25T08:30Z", True),
        ("2026-11-25T08:30:00.25Z", True),
        ("2026-11-25T08:30:00.123456789Z", True),
        ("2026-11-25T08:30:00", False),
        ("2026-11-25 08:30:00Z", False),
        ("2026-11-25T08:30:00+01:00Z", False),
        ("20261125T083000Z", False),
        ("2026-W48-3T08:30:00Z", False),
        ("2026-13-25T08:30:00Z", False),
        ("2026-11-25T08:61:00Z", False),
        ("2026-11-25T08:30:00ZZ", False),
        ("", False),
    ],
)
def test_when_a_review_was_is_read_alike_by_every_python(text: str, is_time: bool) -> None:
    metadata = {"glombridge.reviewed": text}
    obj = SlideObject(UUID(int=1), ObjectKind.ANNOTATION, None, metadata=metadata)
    assert judgement_of(obj).at == (text if is_time else None)
