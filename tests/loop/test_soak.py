"""Many rounds of random work on one project: push, review, a stale save, undo, withdraw; each round checked.

What is checked after every round: no object a human made or touched is changed or gone; nothing is
proposed twice or where a human has decided; what pull calls truth is what the human said; the same push
again changes no byte; the index is nothing but the record.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from reviewer import GLOMERULUS, Model, Reviewer, made_project

from glombridge.errors import ProtectedError
from glombridge.ledger import Ledger, State
from glombridge.steps.pull import pull
from glombridge.steps.push import withdraw
from glombridge.steps.queue import queue
from glombridge.steps.undo import undo

IMAGES = (1, 2, 3)
DEEDS = ("stale save", "undo", "withdraw", "draw", "queue")


class Soak:
    """A reviewer who works at random, and the detectors that come and go."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.reviewer = Reviewer(made_project(folder), {})
        self.done = dict.fromkeys(("push", *DEEDS), 0)
        self.next: list[str] = []

    def round(self, n: int) -> None:
        run = f"detect-{n:03d}"
        r, reviewer = self.random, self.reviewer
        reviewer.models[run] = Model(n, r.uniform(0.02, 0.5), r.uniform(0, 12), r.randint(3, 6))
        images = tuple(sorted(r.sample(IMAGES, r.randint(1, 3))))
        layer = r.choice(["main", "main", "main", "other"])
        # In random order, but each before any comes again.
        self.next = self.next or r.sample(DEEDS, len(DEEDS))
        deed = self.next.pop()
        before = {i: reviewer.project.store.data_file(i) for i in images}
        opened = {i: p.read_bytes() for i, p in before.items() if p.is_file()}
        pushed = reviewer.push(run, layer=layer, images=images)
        self.done["push"] += pushed.write is not None
        reviewer.check_again(run, layer=layer, images=images)
        reviewer.check()
        if deed == "stale save" and opened:
            # QuPath had the image open before the push, and is saved over it.
            image = r.choice(sorted(opened))
            before[image].write_bytes(opened[image])
            self.done[deed] += 1
        elif deed == "undo" and pushed.write is not None:
            self._undo()
        elif deed == "withdraw" and pushed.count("add") + pushed.count("update"):
            withdraw(reviewer.project, run=run, layer=layer)
            self.done[deed] += 1
        elif deed == "queue":
            queue(reviewer.project, strategy="random", seed=n)
            self.done[deed] += 1
        elif deed == "draw":
            self._draw(r.choice(IMAGES), n)
        pull(reviewer.project)
        for image in IMAGES:
            if r.random() < 0.5 and reviewer.pending(image):
                reviewer.review(image, n)
        self.check()

    def _undo(self) -> None:
        try:
            undo(self.reviewer.project)
            self.done["undo"] += 1
        except ProtectedError:
            # A human has saved an image of that write since: refused, as it must be.
            self.done["undo refused"] = self.done.get("undo refused", 0) + 1

    def _draw(self, image: int, n: int) -> None:
        x, y = 7700.0, 10.0 * n
        self.reviewer.draw(image, [(x, y, x + 8, y + 8)], GLOMERULUS)
        self.done["draw"] += 1

    def check(self) -> None:
        reviewer = self.reviewer
        reviewer.check()
        reviewer.check_pull()
        reviewer.check_states()
        folder = reviewer.project.workspace.folder
        with reviewer.project.workspace.ledger_view() as ledger:
            told = [ledger.base(i) for i in IMAGES]
        (folder / "ledger.sqlite").unlink()
        with Ledger.open(folder) as ledger:
            assert [ledger.base(i) for i in IMAGES] == told


@pytest.mark.parametrize(
    ("rounds", "seed"),
    [
        pytest.param(15, 0, id="15 rounds"),
        pytest.param(15, 1, id="15 other rounds"),
        pytest.param(200, 2, id="200 rounds", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost_in_many_rounds(tmp_path: Path, rounds: int, seed: int) -> None:
    soak = Soak(tmp_path, seed)
    for n in range(1, rounds + 1):
        soak.round(n)
    # The soak did what it is for: each kind of work was done, and each verdict was given.
    assert all(soak.done.values()), soak.done
    assert set(soak.reviewer.verdicts.values()) >= {
        State.ACCEPTED,
        State.EDITED,
        State.REJECTED,
        State.DELETED,
        State.ADDED,
    }
