"""An opened project: its store, its workspace and its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from ..documents import expecting, parse_json
from ..errors import InputError, UsageError
from ..filenames import shown_line
from ..frames import frame_of
from ..ledger import Workspace
from ..qupath import NativeStore, SlideMap, open_store
from ..qupath.store import ImageEntry
from ..settings import PatientSource, Settings, TileSettings, parse_overlap
from ..slides.reader import Slide
from ..tiles.grid import TileSpec
from ..tiles.patients import PatientTable
from ..tiles.split import PARTS, Part, patient_of, spelling


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
        workspace = Workspace.of(store.folder)
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
        return path.absolute()

    def open_slide(self, entry: ImageEntry) -> Slide:
        """The slide of an image, opened in the image's frame; to be used with ``with``.

        Raises:
            InputError: it is missing, is no slide, or the image is not the plain slide.
        """
        return open_entry(entry, self.slide_path(entry), self.settings.project.mpp)

    @cached_property
    def patient_source(self) -> PatientSource:
        """Where patients come from: the settings, else what ``tile --patient-from`` said last."""
        return self.settings.patients.source or self.recorded_patient_source or "metadata"

    @cached_property
    def recorded_patient_source(self) -> PatientSource | None:
        """Where patients came from when the newest of them were given their side of the split."""
        source: PatientSource | None = None
        for event in self.workspace.history.events("split"):
            source = event.get("patient_from", source)
        return source

    def with_patients_from(self, source: PatientSource) -> Project:
        """The same project, its patients taken from elsewhere.

        Raises:
            UsageError: the settings lack what that source needs.
        """
        patients = self.settings.patients
        for needs, key, value in (
            ("name", "pattern", patients.pattern),
            ("csv", "file", patients.file),
        ):
            if source == needs and not value:
                msg = (
                    f"--patient-from {source} needs {key!r} in [patients] of "
                    f"{self.workspace.settings_file}"
                )
                raise UsageError(msg)
        changed = patients.model_copy(update={"source": source})
        return replace(self, settings=self.settings.model_copy(update={"patients": changed}))

    @cached_property
    def _patient_table(self) -> PatientTable:
        return PatientTable.read(self.store.folder / self.settings.patients.file)

    @cached_property
    def _files_by_name(self) -> Mapping[str, set[tuple[str, ...]]]:
        found: dict[str, set[tuple[str, ...]]] = {}
        for entry in self.store.images():
            found.setdefault(entry.name, set()).add(entry.uris)
        return found

    def refuse_shared_rows(self, entries: Iterable[ImageEntry]) -> None:
        """Refuse a patient table for slides of one name, before patients are put on sides.

        Two slides of one name may well be of two patients, and have one row. Where sides were decided
        by such a table before, they hold.

        Raises:
            InputError: names them.
        """
        if self.patient_source != "csv":
            return
        for name in dict.fromkeys(entry.name for entry in entries):
            files = self._files_by_name.get(name, set())
            if len(files) > 1:
                shown = ", ".join(sorted(shown_line(uri) for uris in files for uri in uris[:1]))
                msg = (
                    f"{len(files)} slide files are called {name!r} in the project ({shown}), and a patient "
                    "table cannot tell them apart. Rename the images in QuPath and give each a row."
                )
                raise InputError(msg)

    def patient(self, entry: ImageEntry) -> str:
        """The patient of an image, as the settings say.

        Raises:
            InputError: nothing says who it is.
        """
        patients, source = self.settings.patients, self.patient_source
        if source == "image":
            return f"image-{entry.id}"
        if source == "csv":
            return self._patient_table.patient_of(entry.name)
        by_name = source == "name"
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

    def parts_of_newest_dataset(self) -> dict[str, Part]:
        """On which side the newest dataset has each patient: for patients that the history has lost.

        Raises:
            DamagedFileError: its manifest cannot be read.
        """
        folder = self.workspace.latest_run(self.workspace.datasets, "tiles")
        if folder is None:
            return {}
        file = folder / "manifest.json"
        with expecting(file, "the manifest of a dataset", f"Remove {folder}, and cut tiles again."):
            patients = parse_json(file.read_text(encoding="utf-8"))["patients"]
            return {str(name): part for part in PARTS for name in patients[part]}

    def earlier_patients(self, entries: Iterable[ImageEntry]) -> dict[int, str]:
        """Whose images were when patients were last split, by entry id, where that is known.

        Names are corrected, and where they come from may change; the sides of a split were decided by
        the names of then.
        """
        with self.workspace.ledger_view() as ledger:
            found = ledger.patients_of_images()
        before = self.recorded_patient_source
        if before is None or before == self.patient_source:
            return found
        try:
            earlier = self.with_patients_from(before)
        except UsageError:
            return found  # the settings do not say any more where that was
        for entry in entries:
            if entry.id not in found:
                # A new image that source says nothing about.
                with suppress(InputError):
                    found[entry.id] = earlier.patient(entry)
        return found

    def test_images(self, entries: Iterable[ImageEntry]) -> set[int]:
        """Entry ids of those images that are of test patients, and stay blind to the model.

        An image of a patient who has no side yet is where it was under its name of before, or where a
        patient is whose name only case and spaces tell from this one.

        Raises:
            InputError: patients were split, and nothing says whose an image is.
        """
        parts = self.parts() or self.parts_of_newest_dataset()
        if not parts:
            return set()
        entries = list(entries)
        now = {e.id: self.patient(e) for e in entries}
        if any(patient not in parts for patient in now.values()):
            parts = {**self.parts_of_newest_dataset(), **parts}
        unsplit = [e for e in entries if now[e.id] not in parts]
        if unsplit:
            before = self.earlier_patients(unsplit)
            alike = {
                spelling(patient): patient for patient, part in parts.items() if part == "test"
            }
            for e in unsplit:
                now[e.id] = before.get(e.id) or alike.get(spelling(now[e.id]), "")
        return {e.id for e in entries if parts.get(now[e.id]) == "test"}

    def tile_spec(self) -> TileSpec:
        """The tiles the settings ask for."""
        return spec_of(self.settings.tiles)


def open_entry(entry: ImageEntry, path: Path, mpp: float | None) -> Slide:
    """The slide of an image, opened in the image's frame, without its project.

    Args:
        entry: the image.
        path: its slide file.
        mpp: µm per px, for a slide that nobody says it of.

    Raises:
        InputError: it is no slide, or the image is not the plain slide.
    """
    slide = Slide(path)
    try:
        frame = frame_of(entry, slide.properties)
        slide.frame = frame.with_mpp(mpp) if frame.mpp_x is None and mpp else frame
    except BaseException:
        slide.close()
        raise
    return slide


def spec_of(tiles: TileSettings) -> TileSpec:
    """The tiles that settings describe, sizes in micrometres made pixels.

    Raises:
        UsageError: an overlap that leaves no step between tiles.
    """
    unit, number = parse_overlap(tiles.overlap)
    overlap: int | float | Literal["auto"] = "auto" if unit == "auto" else number
    if unit == "px":
        overlap = int(number)
    overlap_um = number if unit == "um" else None
    if tiles.mpp is None:
        return TileSpec(tiles.width_px, tiles.height_px, overlap)
    width_um = tiles.width_px * tiles.mpp if tiles.width_um is None else tiles.width_um
    height_um = tiles.height_px * tiles.mpp if tiles.height_um is None else tiles.height_um
    return TileSpec.in_um(
        width_um,
        height_um,
        mpp=tiles.mpp,
        overlap_um=overlap_um,
        overlap=0 if overlap_um else overlap,
    )


def spec_from(manifest: Mapping[str, Any]) -> TileSpec:
    """The tiles a model was trained on, from its run manifest."""
    tiles = manifest["tiles"]
    overlap = tiles["overlap"]
    return TileSpec(int(tiles["width_px"]), int(tiles["height_px"]), overlap, tiles["mpp"])
