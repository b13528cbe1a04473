"""Putting a detection run into a QuPath project: look, merge, write, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import shapely

from ..errors import InputError, PartlyDoneError
from ..ledger import Workspace
from ..ledger.schema import CONTENT, DEFAULT_LAYER, PUSHED
from ..objects import ObjectKind, SlideObject
from ..progress import SILENT, Reporter
from ..provenance import CONFIDENCE
from ..qupath.store import ImageContents, ImageEntry, ProjectStore
from ..settings import Settings
from .checks import problems_of
from .guards import Guards
from .merge import MergePlan, Ours, merge
from .proposals import Proposals, Source, as_objects
from .writing import Desk, Outcomes, each_image, open_desk

__all__ = ["ImagePlan", "Proposals", "PushResult", "push"]


@dataclass(frozen=True)
class ImagePlan:
    """What a push does in one image."""

    entry: ImageEntry
    plan: MergePlan

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        plan = self.plan
        return {
            "id": self.entry.id,
            "name": self.entry.name,
            "add": [_told(o) for o in plan.add],
            "update": [_told(o) for o in plan.update],
            "withdraw": [_told(o) for o in plan.withdraw],
            "kept": len(plan.kept),
            "known": [m.as_list() for m in plan.known],
            "suppressed": [m.as_list() for m in plan.suppressed],
            "conflicts": [c.as_dict() for c in plan.conflicts],
        }


@dataclass(frozen=True)
class PushResult:
    """What was put in, or would be.

    Attributes:
        plans: per image, in order of entry id.
        skipped: per image that was left out as bad, why.
        written: entry ids of the images that were written.
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
    """

    run: str
    layer: str
    plans: tuple[ImagePlan, ...]
    dry_run: bool
    skipped: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    written: tuple[int, ...] = ()
    write: str | None = None

    def count(self, what: str) -> int:
        """Number of objects over all images; ``what`` is a field of :class:`MergePlan`."""
        return sum(len(getattr(p.plan, what)) for p in self.plans)

    @property
    def added(self) -> int:
        """New proposals over all images."""
        return self.count("add")

    def raise_if_skipped(self) -> None:
        """Say which images were left out as bad, if any.

        Raises:
            PartlyDoneError: some were.
        """
        if self.skipped:
            lines = [f"  entry {i}: {why}" for i, all_ in self.skipped.items() for why in all_]
            msg = f"{len(self.skipped)} images were left out:\n" + "\n".join(lines)
            raise PartlyDoneError(msg)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        counted = ("add", "update", "withdraw", "kept", "known", "suppressed", "conflicts")
        return {
            "run": self.run,
            "layer": self.layer,
            "dry_run": self.dry_run,
            "counts": {what: self.count(what) for what in counted},
            "written_images": list(self.written),
            "write": self.write,
            "skipped": {str(i): list(why) for i, why in self.skipped.items()},
            "images": [p.as_dict() for p in self.plans],
        }


def push(
    store: ProjectStore,
    workspace: Workspace,
    settings: Settings,
    proposals: Sequence[Proposals],
    *,
    run: str,
    model: str,
    layer: str = DEFAULT_LAYER,
    objects: ObjectKind | None = None,
    bad: Mapping[int, Sequence[str]] | None = None,
    skip_bad: bool = False,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> PushResult:
    """Merge what a run sees with what is there, and write the difference; see :mod:`.merge`.

    A second identical push changes no byte of any file.

    Args:
        store: of the project.
        workspace: of the project.
        settings: of the project.
        proposals: per image; images that are not named are left alone.
        run: id of the detection run, kept on each object.
        model: short hash of the weights, kept on each object.
        layer: whose proposals the run replaces; other layers are left alone.
        objects: annotations or detections, instead of what the settings say.
        bad: what the caller found wrong with the proposals of an image, by entry id.
        skip_bad: leave out images whose proposals cannot be pushed, instead of refusing all.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: proposals that cannot be pushed; each is named and nothing is written.
        ProtectedError: somebody else is writing, QuPath runs, or an image changed meanwhile.
        PartlyDoneError: some images could not be written; each is named, the others are complete.
    """
    source = Source(run, model, layer)
    kind = objects or ObjectKind(settings.push.objects)
    with open_desk(store, workspace, settings, guards) as desk:
        skipped = problems_of(proposals, store, settings, more=bad or {})
        if skipped and not skip_bad:
            raise InputError(_bad_text(skipped, store))
        good = {p.entry_id: p for p in proposals if p.entry_id not in skipped}
        pushing = _Pushing(desk, source, kind)
        entries = sorted((e for e in store.images() if e.id in good), key=lambda e: e.id)
        outcomes = each_image(
            entries,
            lambda entry: pushing.image(entry, good[entry.id]),
            title="push",
            reporter=reporter,
        )
        if not guards.dry_run:
            pushing.finish(outcomes)
    outcomes.raise_if_failed("pushed")
    return PushResult(
        run,
        layer,
        tuple(outcomes.done),
        guards.dry_run,
        skipped,
        tuple(pushing.written),
        pushing.write if pushing.written else None,
    )


class _Pushing:
    """One push under way."""

    def __init__(self, desk: Desk, source: Source, kind: ObjectKind) -> None:
        self.desk = desk
        self.source = source
        self.kind = kind
        self.write = desk.ledger.next_write_id()
        self.written: list[int] = []

    def image(self, entry: ImageEntry, wanted: Proposals) -> ImagePlan:
        """Plan one image, and write it if this is no dry run.

        Raises:
            GlombridgeError: it cannot be read or written.
        """
        contents = self.desk.store.read(entry.id)
        look = self.desk.look(contents)
        self.desk.record_decisions(entry.id, look.decisions)
        objects = as_objects(wanted, self.source, self.desk.settings, kind=self.kind)
        ours = Ours(self.source.layer, objects, wanted.scanned)
        plan = merge(look, contents.objects, ours, self.desk.settings)
        # All that writing needs is the plan and the stamp; a million objects take a gigabyte.
        contents = replace(contents, objects=())
        if not self.desk.dry_run:
            self._write(contents, plan)
            self._record_content(entry.id, wanted, plan)
        return ImagePlan(entry, plan)

    def _write(self, contents: ImageContents, plan: MergePlan) -> None:
        if plan.edit.is_empty:
            return
        classes = {o.path_class for o in (*plan.add, *plan.update) if o.path_class}
        self.desk.store.add_classes(sorted(classes, key=str))
        receipt = self.desk.write(
            contents, plan.edit, command="push", write=self.write, source=self.source
        )
        if receipt.changed:
            self.written.append(contents.entry_id)

    def _record_content(self, image: int, wanted: Proposals, plan: MergePlan) -> None:
        """Remember what the run saw of what it did not put there, if that is new."""
        said = {
            "image": image,
            "run": self.source.run,
            "model": self.source.model,
            "layer": self.source.layer,
            "scanned": None
            if wanted.scanned is None
            else shapely.to_wkt(wanted.scanned, rounding_precision=1),
            "known": [m.as_list() for m in plan.known],
            "suppressed": [m.as_list() for m in plan.suppressed],
        }
        last = self.desk.ledger.content(image, self.source.layer) or {}
        if any(last.get(key) != value for key, value in said.items()):
            self.desk.ledger.record(CONTENT, **said)

    def finish(self, outcomes: Outcomes[ImagePlan]) -> None:
        """Put the push as a whole on record, unless it was the last one over again."""
        said = {
            "run": self.source.run,
            "model": self.source.model,
            "layer": self.source.layer,
            "as": self.kind.value,
            "images": len(outcomes.done),
            "failed": len(outcomes.failed),
        }
        last = (self.desk.ledger.events(PUSHED, newest=1) or [{}])[0]
        if self.written or any(last.get(key) != value for key, value in said.items()):
            write = self.write if self.written else None
            self.desk.ledger.record(PUSHED, **said, write=write)
        self.desk.prune(self.written)


def _bad_text(bad: Mapping[int, Sequence[str]], store: ProjectStore) -> str:
    names = {e.id: e.name for e in store.images()}
    lines = []
    for image, problems in sorted(bad.items()):
        where = f"image {names[image]!r} (entry {image})" if image in names else f"entry {image}"
        lines += [f"  {where}: {problem}" for problem in problems]
    return (
        "detections that cannot be pushed; nothing was written. Give --skip-bad to push the rest:\n"
        + "\n".join(lines)
    )


def _told(obj: SlideObject) -> dict[str, Any]:
    return {
        "id": str(obj.id),
        "class": str(obj.path_class),
        "box": [*obj.outline.bounds] if obj.outline else [],
        "score": obj.measurements.get(CONFIDENCE),
    }
