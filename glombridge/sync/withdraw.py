"""Taking a run's untouched proposals out of a project; pushing the run again brings them back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, UsageError
from ..filenames import shown_line
from ..ledger import Ledger, State, Workspace
from ..progress import SILENT, Reporter
from ..qupath.store import HierarchyEdit, ImageEntry, ProjectStore
from ..settings import Settings
from .guards import Guards
from .look import Seen
from .writing import each_image, open_desk


@dataclass(frozen=True)
class WithdrawnImage:
    """One image: what was taken out, and what stays because a human has touched it."""

    entry: ImageEntry
    withdrawn: tuple[Seen, ...]
    stays: tuple[Seen, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "id": self.entry.id,
            "name": self.entry.name,
            "withdrawn": [str(s.base.id) for s in self.withdrawn],
            "stays": {str(s.base.id): s.state.value for s in self.stays},
        }


@dataclass(frozen=True)
class WithdrawResult:
    """What was taken out, or would be.

    Attributes:
        what: the run and layer asked for, in words.
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
    """

    what: str
    images: tuple[WithdrawnImage, ...]
    dry_run: bool
    write: str | None = None

    @property
    def withdrawn(self) -> int:
        """Objects over all images."""
        return sum(len(i.withdrawn) for i in self.images)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "what": self.what,
            "dry_run": self.dry_run,
            "withdrawn": self.withdrawn,
            "write": self.write,
            "images": [i.as_dict() for i in self.images],
        }


def withdraw(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    *,
    run: str | None = None,
    layer: str | None = None,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> WithdrawResult:
    """Take out the proposals of a run, a layer, or a run in a layer, that no human has touched.

    A proposal that a later run of its layer has updated belongs to that run.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        run: id of the detection run.
        layer: name of the layer.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        UsageError: neither run nor layer.
        InputError: nothing was ever pushed by that run into that layer.
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    if run is None and layer is None:
        msg = "say what to withdraw: --run RUN, --layer LAYER, or both ('glombridge layers' lists them)"
        raise UsageError(msg)
    what = " of ".join(
        [*([f"run {run}"] if run is not None else []), *([f"layer {layer!r}"] if layer else [])]
    )
    entries = {e.id: e for e in store.images()}
    written: list[int] = []
    with open_desk(store, workspace, settings, guards) as desk:
        images = [entries[i] for i in _images(desk.ledger, run, layer, what) if i in entries]
        write_id = desk.ledger.next_write_id()

        def take_out(entry: ImageEntry) -> WithdrawnImage:
            contents = store.read(entry.id)
            look = desk.look(contents)
            desk.record_decisions(entry.id, look.decisions)
            image = _sorted_out(entry, look.seen.values(), run, layer)
            edit = HierarchyEdit(remove=frozenset(s.base.id for s in image.withdrawn))
            if not edit.is_empty and not guards.dry_run:
                desk.write(contents, edit, command="withdraw", write=write_id, about=(run, layer))
                written.append(entry.id)
            return image

        outcomes = each_image(images, take_out, title="withdraw", reporter=reporter)
        desk.prune(written)
    outcomes.raise_if_failed("changed")
    return WithdrawResult(what, tuple(outcomes.done), guards.dry_run, write_id if written else None)


def _images(ledger: Ledger, run: str | None, layer: str | None, what: str) -> list[int]:
    rows = [r for r in ledger.layers() if _is_of(r[0], r[1], run, layer)]
    if not rows:
        known = sorted({f"run {r[1]} of layer {r[0]!r}" for r in ledger.layers()})
        there = ", ".join(map(shown_line, known)) or "nothing"
        msg = f"nothing in the project comes from {what}. There is: {there}."
        raise InputError(msg)
    # Also what is on record as gone: a QuPath may have saved it back.
    return sorted({r[2] for r in rows})


def _sorted_out(
    entry: ImageEntry, seen: Iterable[Seen], run: str | None, layer: str | None
) -> WithdrawnImage:
    of_it = [s for s in seen if s.now is not None and _is_of(s.base.layer, s.base.run, run, layer)]
    free = [s for s in of_it if s.state is State.PROPOSAL and s.untouched]
    stays = [s for s in of_it if not (s.state is State.PROPOSAL and s.untouched)]
    return WithdrawnImage(entry, tuple(free), tuple(stays))


def _is_of(its_layer: str, its_run: str, run: str | None, layer: str | None) -> bool:
    return run in (None, its_run) and layer in (None, its_layer)
