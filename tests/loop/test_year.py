"""A year in the life of a project: three models, a reviewer between them, and every promise checked.

Walked with both stores; the reviewer saves through the same store, so with paquo a real QuPath reads
and writes every file in between. That case needs an installed QuPath (PAQUO_QUPATH_DIR).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from reviewer import GLOMERULUS, Model, Reviewer, made_project

from glombridge.ledger import Ledger, State
from glombridge.provenance import MODEL, RUN
from glombridge.qupath import PaquoStore
from glombridge.qupath.stored_form import differences
from glombridge.steps.history import history
from glombridge.steps.layers import compare, layers
from glombridge.steps.push import withdraw
from glombridge.steps.undo import undo

MODELS = {
    "detect-001": Model(1, misses=0.3, jitter_px=6, false=4),
    "detect-002": Model(2, misses=0.1, jitter_px=12, false=5),
    "detect-003": Model(3, misses=0.05, jitter_px=3, false=4),
}


@pytest.fixture(
    params=[
        pytest.param("native", id="native"),
        pytest.param("paquo", id="paquo", marks=pytest.mark.qupath),
    ]
)
def year(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reviewer]:
    project = made_project(tmp_path)
    store = project.store
    if request.param == "paquo":
        store = PaquoStore.open(project.store.folder)
    yield Reviewer(replace(project, store=store), MODELS)
    if isinstance(store, PaquoStore):
        store.close()


def test_a_year(year: Reviewer) -> None:
    project = year.project
    data_file = project.store.data_file

    # Spring: a human marks some glomeruli, a first model proposes the others.
    for image in (1, 2):
        year.draw(image, year.glomeruli(image)[:8], GLOMERULUS)
    year.check_pull()
    first = year.push("detect-001")
    assert first.count("known") > 0
    assert first.count("add") > 40
    assert (first.count("update"), first.count("withdraw")) == (0, 0)
    year.check()
    year.check_again("detect-001")
    for image in (1, 2, 3):
        year.review(image, 1)
    year.check_pull()
    year.check_states()

    # Summer: a second model. What nobody has judged follows it under the same ids.
    before = {i: {**year.pending(i)} for i in (1, 2, 3)}
    assert all(len(b) > 1 for b in before.values())
    second = year.push("detect-002")
    year.check()
    for image, plan in zip((1, 2, 3), second.plans, strict=True):
        kept, now = before[image], year.pending(image)
        updated = {o.id for o in plan.plan.update}
        withdrawn = {o.id for o in plan.plan.withdraw}
        assert updated | withdrawn == set(kept)
        for i in updated:
            assert now[i].metadata[RUN] == "detect-002"
            assert now[i].metadata[MODEL] == "model 2"
        assert withdrawn.isdisjoint(now)
    assert second.count("suppressed") > 0
    year.check_again("detect-002")

    # A human had image 3 open in QuPath all the while, and saves over the third push.
    opened = data_file(3).read_bytes()
    year.review(1, 2)
    year.review(2, 2)
    third = year.push("detect-003")
    new = {o.id for o in third.plans[2].plan.add}
    assert new
    year.check()
    data_file(3).write_bytes(opened)
    year.draw(3, [(7600.0, 100.0, 7800.0, 300.0)], GLOMERULUS)
    year.check_pull()
    with project.workspace.ledger_view() as ledger:
        states = {b.id: b.state for b in ledger.base(3)}
    assert {states[i] for i in new} == {State.LOST}
    # Nobody decided anything: the same run offers it again, under the same ids.
    offered = year.push("detect-003")
    assert {o.id for o in offered.plans[2].plan.add} == new
    assert [len(p.plan.add) for p in offered.plans[:2]] == [0, 0]
    year.check()
    year.check_states()
    year.check_again("detect-003")

    # Autumn: undo the last write, and push again: the same bytes need not be, the same objects must.
    there = year.objects(3)
    assert undo(project).restored == 1
    assert new.isdisjoint(year.objects(3))
    assert year.push("detect-003").added == len(new)
    assert {i: o for i, o in year.objects(3).items() if differences(o, there[i])} == {}
    assert year.objects(3).keys() == there.keys()
    year.check()

    # A second model beside the first, compared, and taken out again.
    before_layer = {i: year.objects(i) for i in (1, 2, 3)}
    beside = year.push("detect-002", layer="other")
    assert (beside.count("update"), beside.count("withdraw")) == (0, 0)
    assert beside.added > 0
    found = compare(project, "main", "other")
    assert sum(found.both.values()) > 0
    assert {row.layer for row in layers(project)} == {"main", "other"}
    taken = withdraw(project, layer="other")
    assert taken.withdrawn == beside.added
    for image in (1, 2, 3):
        after = year.objects(image)
        assert after.keys() == before_layer[image].keys()
        assert not any(differences(o, before_layer[image][i]) for i, o in after.items())
    assert year.push("detect-002", layer="other").added == beside.added
    withdraw(project, run="detect-002", layer="other")
    year.check()

    # Winter: the record tells it all, and the index is nothing but the record.
    year.check_states()
    year.check_pull()
    accepted = next(k for k, s in year.verdicts.items() if s is State.ACCEPTED)
    life = history(project, str(accepted[1])).steps
    assert life[0].state is State.PROPOSAL
    assert life[-1].state is State.ACCEPTED
    assert (life[-1].who, life[-1].before is not None) == ("unknown", True)
    with project.workspace.ledger_view() as ledger:
        told = [ledger.base(i) for i in (1, 2, 3)]
    (project.workspace.folder / "ledger.sqlite").unlink()
    with Ledger.open(project.workspace.folder) as ledger:
        assert [ledger.base(i) for i in (1, 2, 3)] == told
