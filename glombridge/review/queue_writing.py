"""The queue written onto the proposals of a project, in guarded writes like a push."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..documents import parse_wkt
from ..errors import InputError
from ..ledger import State, Workspace
from ..objects import SlideObject
from ..progress import SILENT, Reporter
from ..provenance import CONFIDENCE
from ..qupath.store import HierarchyEdit, ImageContents, ImageEntry, ProjectStore
from ..qupath.stored_form import as_stored, differences
from ..settings import Settings
from ..sync.guards import Guards
from ..sync.look import Look, Seen
from ..sync.matching import pair_up
from ..sync.merge import was_scanned
from ..sync.proposals import boxes_of
from ..sync.writing import Desk, each_image, open_desk
from .queue import Candidate, Ranked, Strategy, queued, rank, unqueued


@dataclass(frozen=True)
class QueueResult:
    """What was ranked, and what of it was written, or would be.

    Attributes:
        ranked: in order; empty where the queue was taken away.
        names: of images by entry id.
        changed: objects that got another place, or lost theirs.
        left_out: images of test patients that have proposals and were left out.
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
    """

    strategy: str
    seed: int
    ranked: tuple[Ranked, ...]
    names: Mapping[int, str]
    changed: int
    dry_run: bool
    cleared: bool = False
    left_out: tuple[str, ...] = ()
    write: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "strategy": self.strategy,
            "seed": self.seed,
            "dry_run": self.dry_run,
            "cleared": self.cleared,
            "changed": self.changed,
            "left_out": list(self.left_out),
            "write": self.write,
            "queue": [
                {
                    "rank": r.rank,
                    "image": r.candidate.image,
                    "image_name": self.names[r.candidate.image],
                    "id": str(r.candidate.object.id),
                    "confidence": r.candidate.object.measurements.get(CONFIDENCE),
                    "layer": r.candidate.layer,
                    "reason": r.reason,
                }
                for r in self.ranked
            ],
        }


def write_queue(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    strategy: Strategy,
    *,
    seed: int,
    confidences: Mapping[str, float],
    blind: Collection[int] = (),
    skip_bad: bool = False,
    clear: bool = False,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> QueueResult:
    """Rank the untouched proposals of all images, and write rank and reason onto them.

    What is written is a new form of what we pushed: the objects stay proposals that nobody has
    touched. A second identical call writes nothing.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        strategy: what comes first.
        seed: as written beside the rank.
        confidences: detection run to the confidence it works at.
        blind: entry ids of images of test patients, which must be marked without a look at the model.
        skip_bad: leave such images out, instead of refusing all.
        clear: take every rank and reason away instead.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: proposals on images of test patients, or for disagreement only one layer.
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be read, and nothing was written; or some could not
            be written; each is named.
    """
    entries = {e.id: e for e in store.images()}
    with open_desk(store, workspace, settings, guards) as desk:
        pushed_to = [entries[i] for i in sorted(desk.ledger.states()) if i in entries]
        layers = sorted({layer for layer, *_ in desk.ledger.layers()})
        outcomes = each_image(
            pushed_to,
            lambda e: _read(desk, e, confidences, layers),
            title="read",
            reporter=reporter,
        )
        outcomes.raise_if_failed("read, and nothing was ranked")
        there = {i.entry.id: i for i in outcomes.done}
        left_out = [entries[i].name for i, x in there.items() if i in blind and x.candidates]
        if clear:
            left_out = []
            ranked: list[Ranked] = []
            wanted = {i: [unqueued(c.object) for c in x.candidates] for i, x in there.items()}
        else:
            if left_out and not skip_bad:
                raise InputError(_blind_text(left_out))
            seen = [c for i, x in there.items() if i not in blind for c in x.candidates]
            if strategy.name == "disagreement" and not any(c.others for c in seen):
                raise InputError(_ONE_LAYER)
            ranked = rank(seen, strategy)
            wanted = {i: [] for i in there}
            for r in ranked:
                made = queued(r, strategy=strategy.name, seed=seed)
                wanted[r.candidate.image].append(made)
        edits = {i: _edit(there[i].candidates, wanted[i]) for i in there}
        write_id = desk.ledger.next_write_id()
        written: list[int] = []

        def put(entry: ImageEntry) -> None:
            desk.write(there[entry.id].contents, edits[entry.id], command="queue", write=write_id)
            written.append(entry.id)

        changing = [entries[i] for i, edit in edits.items() if not edit.is_empty]
        if not guards.dry_run:
            for image in there.values():
                desk.record_decisions(image.entry.id, image.look.decisions)
            outcomes_of_writing = each_image(changing, put, title="queue", reporter=reporter)
            desk.prune(written)
            outcomes_of_writing.raise_if_failed("written")
    return QueueResult(
        strategy.name,
        seed,
        tuple(ranked),
        {i: e.name for i, e in entries.items()},
        sum(len(e.replace) for e in edits.values()),
        guards.dry_run,
        clear,
        tuple(left_out),
        write_id if written else None,
    )


@dataclass(frozen=True)
class _Image:
    """An image as read; of its objects only those that can be ranked."""

    entry: ImageEntry
    contents: ImageContents
    look: Look
    candidates: list[Candidate]


def _read(
    desk: Desk, entry: ImageEntry, confidences: Mapping[str, float], layers: Sequence[str]
) -> _Image:
    contents = desk.store.read(entry.id)
    look = desk.look(contents)
    free = [s for _, s in sorted(look.seen.items()) if s.state is State.PROPOSAL and s.untouched]
    others = _others(desk, entry.id, free, list(look.seen.values()), layers)
    candidates = [
        Candidate(entry.id, s.now, confidences.get(s.base.run), s.base.layer, of)
        for s, of in zip(free, others, strict=True)
        if s.now is not None
    ]
    return _Image(entry, replace(contents, objects=()), look, candidates)


def _others(
    desk: Desk, image: int, free: list[Seen], seen: list[Seen], layers: Sequence[str]
) -> list[dict[str, bool]]:
    """Of each proposal, which other layers have looked at its place and whether they propose it."""
    told: list[dict[str, bool]] = [{} for _ in free]
    boxes = boxes_of(s.base.object for s in free)
    for layer in layers:
        away = (State.WITHDRAWN, State.LOST)
        proposed = [s for s in seen if s.base.layer == layer and s.state not in away]
        mine = [k for k, s in enumerate(free) if s.base.layer != layer]
        pairs = pair_up(boxes[mine], boxes_of(s.base.object for s in proposed))
        sees = {mine[k] for k in pairs.found.tolist()}
        scanned = (desk.ledger.content(image, layer) or {}).get("scanned")
        area = None if scanned is None else parse_wkt(scanned)
        looked = was_scanned(boxes[mine], area)
        for k, has_looked in zip(mine, looked.tolist(), strict=True):
            if has_looked or k in sees:
                told[k][layer] = k in sees
    return told


def _edit(there: Iterable[Candidate], wanted: Iterable[SlideObject]) -> HierarchyEdit:
    now = {c.object.id: c.object for c in there}
    changed = (o for o in wanted if differences(now[o.id], as_stored(o)))
    return HierarchyEdit(replace=tuple(sorted(changed, key=lambda o: o.id)))


_ONE_LAYER = (
    "there is nothing to disagree about: no place with a proposal was looked at by more than one layer. "
    "Push another model's detections with 'glombridge push --layer NAME', or give --strategy uncertainty"
)


def _blind_text(names: list[str]) -> str:
    return (
        f"proposals on images of test patients are not ranked: {', '.join(map(repr, names))}. They must be "
        "marked blind to the model. Give --skip-bad to rank the rest, or --include-test if their testing "
        "days are over"
    )
