"""An opened project: its store, its workspace and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import InputError
from ..frames import frame_of
from ..ledger import Workspace
from ..qupath import NativeStore, SlideMap, open_store
from ..qupath.store import ImageEntry
from ..settings import Settings
from ..slides.reader import Slide
from ..tiles.grid import TileSpec
from ..tiles.split import Part, patient_of


@dataclass(frozen=True)
class Project:
    """A QuPath project that ``init`` has been run on.

    Attributes:
        slides: where slides lie that the project looks for elsewhere.
    """

    store: NativeStore
    workspace: Workspace
    settings: Settings
    slides: SlideMap = field(default_factory=SlideMap)

    @classmethod
    def open(cls, path: Path, *, slides: Iterable[str] = ()) -> Project:
        """Open a project by its folder or ``.qpproj`` file.

        Args:
            path: of the project.
            slides: ``OLD=NEW`` path maps, which come before those of the settings.

        Raises:
            InputError: not a project, not initialised, or settings that cannot be.
            UsageError: a path map that is none.
        """
        store = NativeStore.open(path)
        workspace = Workspace(store.folder)
        if not workspace.exists:
            msg = f"{store.folder} is not set up yet. Run 'glombridge init {path}' first."
            raise InputError(msg)
        settings = workspace.settings()
        if settings.project.store != "native":
            store = open_store(path, settings.project.store)
        return cls(store, workspace, settings, workspace.slide_map(settings, slides))

    def slide_path(self, entry: ImageEntry) -> Path:
        """The slide file of an image.

        Raises:
            InputError: it is not where the project says.
        """
        path = self.store.slide_path(entry, self.slides)
        if path is None:
            where = ", ".join(entry.uris) or "no file"
            msg = (
                f"the slide of image {entry.name!r} (entry {entry.id}) is not there ({where}). Move "
                "it back, say where the slides are now with --slides OLD=NEW or [project] slides in "
                "the settings, or tell QuPath: Project > Check URIs."
            )
            raise InputError(msg)
        return path

    def open_slide(self, entry: ImageEntry) -> Slide:
        """The slide of an image, opened in the image's frame; to be used with ``with``.

        Raises:
            InputError: it is missing, is no slide, or the image is not the plain slide.
        """
        slide = Slide(self.slide_path(entry))
        try:
            frame = frame_of(entry, slide.properties)
            mpp = self.settings.project.mpp
            slide.frame = frame.with_mpp(mpp) if frame.mpp_x is None and mpp else frame
        except BaseException:
            slide.close()
            raise
        return slide

    def patient(self, entry: ImageEntry) -> str:
        """The patient of an image, as the settings say.

        Raises:
            InputError: nothing says who it is.
        """
        patients = self.settings.patients
        if patients.source == "image":
            return f"image-{entry.id}"
        by_name = patients.source == "name"
        return patient_of(
            entry.name,
            entry.metadata,
            key=None if by_name else patients.key,
            pattern=patients.pattern if by_name else None,
        )

    def parts(self) -> dict[str, Part]:
        """Which side of the split each patient is on, as decided so far."""
        with self.workspace.ledger_view() as ledger:
            return {patient: cast("Part", part) for patient, part in ledger.parts().items()}

    def tile_spec(self) -> TileSpec:
        """The tiles the settings ask for."""
        tiles = self.settings.tiles
        return TileSpec(tiles.width_px, tiles.height_px, tiles.overlap, tiles.mpp)


def spec_from(manifest: Mapping[str, Any]) -> TileSpec:
    """The tiles a model was trained on, from its run manifest."""
    tiles = manifest["tiles"]
    overlap = tiles["overlap"]
    return TileSpec(int(tiles["width_px"]), int(tiles["height_px"]), overlap, tiles["mpp"])
