"""``layers``: what each run has in the project, what became of it, and two of them compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..ledger import Ledger, PushedObject, State
from ..sync.matching import pair_up
from ..sync.proposals import boxes_of
from .project import Project


@dataclass(frozen=True)
class LayerRow:
    """What one run has in one layer.

    Attributes:
        images: number of images it has, or had, objects in.
        states: how many of its objects are what.
    """

    layer: str
    run: str
    images: int
    states: Counter[State]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "layer": self.layer,
            "run": self.run,
            "images": self.images,
            "states": {
                s.value: n for s, n in sorted(self.states.items(), key=lambda i: i[0].value)
            },
        }


@dataclass(frozen=True)
class Comparison:
    """Two layers over all images.

    Attributes:
        both: objects that both have, by the better known of their states.
        only_first, only_second: objects that one has, by state.
    """

    first: str
    second: str
    both: Counter[State]
    only_first: Counter[State]
    only_second: Counter[State]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "first": self.first,
            "second": self.second,
            **{
                name: {s.value: n for s, n in getattr(self, name).items()}
                for name in ("both", "only_first", "only_second")
            },
        }


def layers(project: Project) -> list[LayerRow]:
    """Every run of every layer, as of the last look at the images.

    Args:
        project: the project.

    Raises:
        DamagedFileError: the history cannot be read.
    """
    images: dict[tuple[str, str], set[int]] = defaultdict(set)
    states: dict[tuple[str, str], Counter[State]] = defaultdict(Counter)
    with project.workspace.ledger_view() as ledger:
        for layer, run, image, state, n in ledger.layers():
            images[layer, run].add(image)
            states[layer, run][state] += n
    return [LayerRow(*key, len(images[key]), states[key]) for key in sorted(states)]


def compare(project: Project, first: str, second: str) -> Comparison:
    """Which objects two layers have in common, and what humans made of the others.

    Objects are paired one to one as a push pairs them. What was withdrawn or lost is left out. An
    object of one layer that was pushed where the other one's was already judged is not there, so
    what a run saw of such objects counts as seen.

    Args:
        project: the project.
        first: name of a layer.
        second: name of another.

    Raises:
        InputError: no such layer.
        DamagedFileError: the history cannot be read.
    """
    total = Comparison(first, second, Counter(), Counter(), Counter())
    with project.workspace.ledger_view() as ledger:
        rows = ledger.layers()
        known = sorted({r[0] for r in rows})
        for layer in (first, second):
            if layer not in known:
                msg = f"no layer {layer!r} in the project; there are: {', '.join(known) or 'none'}"
                raise InputError(msg)
        for image in sorted({r[2] for r in rows if r[0] in (first, second)}):
            _compare_image(ledger, image, total)
    return total


def _compare_image(ledger: Ledger, image: int, total: Comparison) -> None:
    by_layer: dict[str, list[PushedObject]] = {total.first: [], total.second: []}
    for known in ledger.base(image):
        if known.layer in by_layer and known.state not in (State.WITHDRAWN, State.LOST):
            by_layer[known.layer].append(known)
    first, second = by_layer[total.first], by_layer[total.second]
    pairs = pair_up(boxes_of(o.object for o in first), boxes_of(o.object for o in second))
    for i, j in zip(pairs.found.tolist(), pairs.there.tolist(), strict=True):
        judged = first[i].state if first[i].state.is_judged else second[j].state
        total.both[judged] += 1
    sides = (
        (first, set(pairs.found.tolist()), total.second, total.only_first),
        (second, set(pairs.there.tolist()), total.first, total.only_second),
    )
    for objects, paired, other, only in sides:
        content = ledger.content(image, other) or {}
        seen = {row[0] for row in (*content.get("known", ()), *content.get("suppressed", ()))}
        for place, obj in enumerate(objects):
            if place not in paired:
                (total.both if str(obj.id) in seen else only)[obj.state] += 1
