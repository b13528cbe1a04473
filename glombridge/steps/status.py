"""``status``: what is there and what comes next, from small files only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import expecting, parse_json
from ..ledger import Ledger, State, Workspace
from ..ledger.schema import PUSHED
from ..ledger.unfinished import UnfinishedTraining, is_later, newest_unfinished
from ..ledger.writes import read_writes
from ..qupath import NativeStore
from ..sync.roles import is_marked


@dataclass(frozen=True)
class OpenReview:
    """What waits for a human, as of the last look.

    Attributes:
        waiting: untouched proposals, by image name.
        queue: the write of the newest queue, and when (UTC) it was written; ``None`` = there is none.
        is_outdated: a push has changed the proposals since.
    """

    waiting: dict[str, int]
    queue: tuple[str, str] | None
    is_outdated: bool

    @property
    def total(self) -> int:
        """Proposals over all images."""
        return sum(self.waiting.values())

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "waiting": self.waiting,
            "queue": self.queue and {"write": self.queue[0], "at": self.queue[1]},
            "queue_is_outdated": self.is_outdated,
        }

    def text(self) -> str:
        """What a user should know."""
        if not self.total:
            return "to review: nothing"
        where = f"{self.total} proposals on {len(self.waiting)} images"
        if self.queue is None:
            return f"to review: {where}, not ranked"
        since = ", and a push has changed them since" if self.is_outdated else ""
        return f"to review: {where}; ranked by {self.queue[0]} of {self.queue[1]}{since}"


@dataclass(frozen=True)
class StatusResult:
    """The state of a project.

    Attributes:
        images: per image whether its slide is there, what is truth as of the last pull, and what became
            of the proposals pushed, as of the last look.
        review: what waits for a human.
        next_step: the command to type.
        unfinished: the newest training that was begun and has no end.
    """

    project: Path
    qupath_version: str
    images: tuple[dict[str, Any], ...]
    parts: dict[str, int]
    newest: dict[str, str | None]
    review: OpenReview
    next_step: str
    unfinished: UnfinishedTraining | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "project": str(self.project),
            "qupath": self.qupath_version,
            "images": list(self.images),
            "patients": self.parts,
            "newest": self.newest,
            "review": self.review.as_dict(),
            "unfinished": self.unfinished and self.unfinished.as_dict(),
            "next": self.next_step,
        }


def status(path: Path, *, slides: Iterable[str] = ()) -> StatusResult:
    """Look at a project; reads no image data and starts nothing.

    Args:
        path: of the project.
        slides: ``OLD=NEW`` path maps, which come before those of the settings.

    Raises:
        InputError: not a QuPath project, or settings that cannot be.
        UsageError: a path map that is none.
    """
    store = NativeStore.open(path)
    workspace = Workspace.of(store.folder)
    entries = store.images()
    settings = workspace.settings() if workspace.exists else None
    finder = store.slide_finder(workspace.slide_map(settings, slides))
    with workspace.ledger_view() as ledger:
        states = ledger.states()
        parts = ledger.parts()
        last_pushed = _last_pushed(ledger)
        names = {e.id: e.name for e in entries}
        review = _open_review(ledger, {names[i]: n for i, n in states.items() if i in names})
    last_pull = workspace.latest_run(workspace.pulls, "pull")
    pulled: dict[int, dict[str, Any]] = {}
    if last_pull is not None:
        file = last_pull / "manifest.json"
        with expecting(file, "the manifest of a pull", f"Remove {last_pull}, and pull again."):
            manifest = parse_json(file.read_text(encoding="utf-8"))
            pulled = {int(i["id"]): dict(i) for i in manifest["images"]}
    images = tuple(
        {
            "id": e.id,
            "name": e.name,
            "slide_found": finder.find(e) is not None,
            "has_data": e.has_data,
            "truth": pulled.get(e.id, {}).get("truth"),
            "states": {s.value: n for s, n in sorted(states.get(e.id, {}).items())},
            "searched": is_marked(e),
        }
        for e in entries
    )
    newest: dict[str, str | None] = {}
    for kind, parent in (
        ("pull", workspace.pulls),
        ("tiles", workspace.datasets),
        ("train", workspace.runs),
        ("detect", workspace.detections),
    ):
        run = workspace.latest_run(parent, kind)
        newest[kind] = run.name if run else None
    unfinished = newest_unfinished(workspace.runs)
    return StatusResult(
        store.project_file,
        store.qupath_version,
        images,
        dict(Counter(parts.values())),
        newest,
        review,
        _next_step(path, workspace, newest, last_pushed, unfinished, review, images),
        unfinished,
    )


def _next_step(
    path: Path,
    workspace: Workspace,
    newest: dict[str, str | None],
    last_pushed: str | None,
    unfinished: UnfinishedTraining | None,
    review: OpenReview,
    images: Sequence[Mapping[str, Any]],
) -> str:
    if not workspace.exists:
        return f"glombridge init {path}"
    if not images:
        return f"add images to the project in QuPath, mark glomeruli, save, then: glombridge status {path}"
    if unfinished is not None and (
        newest["train"] is None or is_later(unfinished.folder, workspace.runs / newest["train"])
    ):
        if unfinished.is_running:
            return f"wait for {unfinished.folder.name}, then: glombridge status {path}"
        return f"glombridge train {path} --resume"
    if newest["train"] is None:
        if not any(image["slide_found"] for image in images):
            return f"say where the slides are: glombridge doctor {path} --slides OLD=NEW"
        return f"glombridge round {path}"
    run = workspace.runs / str(newest["train"])
    if not (run / "operating_point.json").is_file():
        return f"glombridge evaluate {path}"
    if newest["detect"] is None:
        return f"glombridge detect {path}"
    if last_pushed != newest["detect"]:
        return f"glombridge push {path} --dry-run"
    if review.total and (review.queue is None or review.is_outdated):
        return f"glombridge queue {path}"
    if review.total:
        return f"review the {review.total} proposals in QuPath, by their rank, save, then: glombridge round {path}"
    return f"glombridge round {path}"


def _open_review(ledger: Ledger, states: dict[str, Counter[State]]) -> OpenReview:
    waiting = {name: n[State.PROPOSAL] for name, n in states.items() if n[State.PROPOSAL]}
    queue, is_outdated = None, False
    for write in read_writes(ledger):
        if write.undone:
            continue
        if write.event == "queue":
            queue, is_outdated = (write.id, write.at), False
        elif write.event == "push":
            is_outdated = queue is not None
    return OpenReview(waiting, queue, is_outdated)


def _last_pushed(ledger: Ledger) -> str | None:
    """The run of the last push that was not undone."""
    newest = ledger.events(PUSHED, newest=1)
    if not newest:
        return None
    last = newest[0]
    undone = {w.id for w in read_writes(ledger) if w.undone}
    return None if last.get("write") in undone else str(last["run"])
