"""A small QuPath project that tests may write into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid5

from glombridge.ledger import Workspace
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.settings import Settings

SPACE = UUID("22222222-2222-5333-8444-555555555555")


def annotation(
    name: str | None,
    box: tuple[float, float, float, float],
    *,
    kind: ObjectKind = ObjectKind.ANNOTATION,
) -> SlideObject:
    return SlideObject(
        id=uuid5(SPACE, f"{name}{box}{kind}"),
        kind=kind,
        outline=Outline.rectangle(*box),
        path_class=PathClass.parse(name) if name else None,
    )


class SmallProject:
    """Two images of 4000 x 3000 px without slide files: merging needs no pixels."""

    def __init__(self, folder: Path) -> None:
        self.store = NativeStore.create(folder / "project")
        self.workspace = Workspace(self.store.folder)
        self.settings = Settings()
        self.workspace.create(self.settings)
        for name in ("a.tif", "b.tif"):
            self.store.add_image(
                folder / name,
                name=name,
                metadata=ImageServerInfo(width=4000, height=3000, mpp_x=0.5, mpp_y=0.5),
            )
        self.first, self.second = (e.id for e in self.store.images())

    def edit(
        self,
        entry_id: int,
        *,
        add: Sequence[SlideObject] = (),
        remove: Sequence[UUID] = (),
        replace: Sequence[SlideObject] = (),
    ) -> None:
        """What a person does in QuPath."""
        self.store.write(
            entry_id,
            HierarchyEdit(tuple(add), frozenset(remove), tuple(replace)),
            expected=self.store.read(entry_id).stamp,
            snapshot_folder=self.workspace.snapshots,
        )

    def objects(self, entry_id: int) -> dict[UUID, SlideObject]:
        return {o.id: o for o in self.store.read(entry_id).objects}

    def bytes_of_everything(self) -> dict[str, bytes]:
        """Every QuPath file of the project."""
        return {
            p.relative_to(self.store.folder).as_posix(): p.read_bytes()
            for p in sorted(self.store.folder.rglob("*"))
            if p.is_file() and "glombridge" not in p.relative_to(self.store.folder).parts
        }
