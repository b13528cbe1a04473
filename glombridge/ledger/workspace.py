"""Where everything glombridge keeps about a project lies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DamagedFileError, InputError, MachineError, MissingComponentError, UsageError
from ..filenames import is_plain_name, refuse_ways_out, require_inside
from ..qupath.locations import SlideMap
from ..qupath.saving import atomic_write
from ..settings import Settings, load_settings, render_settings
from .history import History
from .ledger import Ledger
from .lock import ProjectLock

FOLDER_NAME = "glombridge"

RECORD_WAIT_SECONDS = 60.0
"""A push of a large project holds the lock for seconds; hours of training must not fail on that."""


@dataclass(frozen=True)
class Workspace:
    """The folder ``glombridge/`` of one QuPath project.

    Attributes:
        project_folder: the folder of the QuPath project.
    """

    project_folder: Path

    @property
    def folder(self) -> Path:
        """The folder itself.

        Raises:
            ProtectedError: a link leads it out of the project.
        """
        folder = self.project_folder / FOLDER_NAME
        require_inside(folder, self.project_folder)
        return folder

    @classmethod
    def of(cls, project_folder: Path) -> Workspace:
        """The workspace of a project, in which no link leads out of the project.

        Looked through are the folder, what lies in its folders, and training runs whole. Of what may
        be many thousand files (annotations, detections, tiles, snapshots) each is looked at by who
        reads it.

        Raises:
            ProtectedError: a link leads out.
        """
        made = cls(project_folder)
        refuse_ways_out(made.folder, project_folder, depth=2)
        refuse_ways_out(made.runs, project_folder, depth=4)
        return made

    @property
    def settings_file(self) -> Path:
        """What the people of the project chose."""
        return self.folder / "glombridge.toml"

    @property
    def lock_file(self) -> Path:
        """Held by whoever writes."""
        return self.folder / "lock"

    @property
    def snapshots(self) -> Path:
        """What writes replaced."""
        return self.folder / "snapshots"

    @property
    def pulls(self) -> Path:
        """Annotations taken out, one folder per pull."""
        return self.folder / "pulls"

    @property
    def datasets(self) -> Path:
        """Tile datasets."""
        return self.folder / "datasets"

    @property
    def runs(self) -> Path:
        """Training runs."""
        return self.folder / "runs"

    @property
    def detections(self) -> Path:
        """Detection runs."""
        return self.folder / "detections"

    @property
    def reports(self) -> Path:
        """Reports."""
        return self.folder / "reports"

    @property
    def cache(self) -> Path:
        """What libraries want to keep; may be thrown away at any time."""
        return self.folder / "cache"

    @property
    def code_key(self) -> Path:
        """What leads from the codes in de-identified files back to names; it stays here."""
        return self.folder / "deidentification.json"

    @property
    def history(self) -> History:
        """The append-only record."""
        return History(self.folder / "history.jsonl")

    def ledger(self) -> Ledger:
        """The history as tables, for the holder of the project lock.

        Raises:
            DamagedFileError: the history cannot be read.
        """
        return Ledger.open(self.folder)

    def ledger_view(self) -> Ledger:
        """The same for reading only, at any time.

        Raises:
            DamagedFileError: the history cannot be read.
        """
        return Ledger.view(self.folder)

    @property
    def exists(self) -> bool:
        """Whether the project was initialised."""
        return self.settings_file.is_file()

    def create(self, settings: Settings) -> bool:
        """Write the settings file if there is none; existing settings are never touched.

        Returns:
            Whether the file was written.

        Raises:
            MachineError: the project folder cannot be written.
        """
        if self.exists:
            return False
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            msg = f"cannot create {self.folder}: {error.strerror or error}"
            raise MachineError(msg) from error
        atomic_write(self.settings_file, render_settings(settings).encode())
        return True

    def settings(self) -> Settings:
        """The checked settings.

        Raises:
            InputError: ``init`` was not run, or a setting cannot be.
        """
        return load_settings(self.settings_file)

    def slide_map(self, settings: Settings | None, given: Iterable[str] = ()) -> SlideMap:
        """Where slides have moved: the maps given on the command line, then the settings'.

        Raises:
            UsageError: a map given is none.
            InputError: one in the settings is none.
        """
        chosen = SlideMap.parse(given)
        if settings is None:
            return chosen
        try:
            return chosen + SlideMap.from_settings(settings.project.slides, self.project_folder)
        except UsageError as error:
            msg = f"{self.settings_file}: slides in [project]: {error}"
            raise InputError(msg) from error

    def new_run(self, parent: Path, kind: str) -> Path:
        """Path of the next run folder, ``KIND-001`` and so on; it is not created.

        Names are given in order and never reused while their folder or a newer one exists.
        """
        return parent / f"{kind}-{self._last_number(parent, kind) + 1:03d}"

    def claim_run(self, parent: Path, kind: str, *, suffix: str = "") -> Path:
        """Make the next run folder; two processes never get the same one.

        Args:
            parent: folder of the runs.
            kind: as in :meth:`new_run`.
            suffix: appended to the folder made, for example ``.partial`` for one that is renamed
                when it is complete.

        Raises:
            MachineError: it cannot be made.
        """
        number = self._last_number(parent, kind) + 1
        try:
            parent.mkdir(parents=True, exist_ok=True)
            while True:
                folder = parent / f"{kind}-{number:03d}{suffix}"
                try:
                    folder.mkdir()
                except FileExistsError:
                    number += 1
                else:
                    return folder
        except OSError as error:
            msg = f"cannot make a folder in {parent}: {error.strerror or error}"
            raise MachineError(msg) from error

    def record(self, event: str, **values: Any) -> None:
        """Append to the history from outside the project lock.

        Raises:
            ProtectedError: somebody held the lock all the while.
            MachineError: the history cannot be written.
        """
        with ProjectLock(self.lock_file, wait_seconds=RECORD_WAIT_SECONDS):
            self.history.append(event, **values)

    def latest_run(
        self, parent: Path, kind: str, *, containing: str = "manifest.json"
    ) -> Path | None:
        """The newest finished run folder: the highest number that holds the file given."""
        runs = self.finished_runs(parent, kind, containing=containing)
        return runs[-1] if runs else None

    def finished_runs(
        self, parent: Path, kind: str, *, containing: str = "manifest.json"
    ) -> list[Path]:
        """The finished run folders, the oldest first.

        Raises:
            ProtectedError: the file that says so is a link that leads out of the project.
        """
        runs = [p for p in self._numbered(parent, kind) if (p / containing).is_file()]
        for run in runs:
            require_inside(run / containing, self.project_folder)
        return runs

    def weights_of(self, name: str | None) -> Path:
        """Weights file by run id or path; the newest finished training run by default.

        Raises:
            InputError: there are no such weights.
            MissingComponentError: nothing was trained yet.
        """
        if name is None:
            run = self.latest_run(self.runs, "train")
            if run is None:
                msg = (
                    f"project {self.project_folder} has no trained weights. "
                    f"Run 'glombridge train', or give --weights RUN or --weights FILE.pt"
                )
                raise MissingComponentError(msg)
            return run / "weights" / "best.pt"
        for candidate in (self.runs / name / "weights" / "best.pt", Path(name)):
            if candidate.is_file():
                return candidate
        known = ", ".join(p.name for p in self._numbered(self.runs, "train")) or "none"
        msg = f"no weights {name!r}: neither a run of this project (known: {known}) nor a file."
        raise InputError(msg)

    def snapshot(self, relative: str) -> Path:
        """A kept copy by its path in the history.

        Raises:
            DamagedFileError: that is no place in :attr:`snapshots`.
            ProtectedError: a link leads out of there.
        """
        folder, _, name = relative.rpartition("/")
        if folder != f"{FOLDER_NAME}/{self.snapshots.name}" or not is_plain_name(name):
            msg = (
                f"{self.history.path} names the kept copy {relative[:200]!r}, which is no file of "
                f"{self.snapshots}. Restore the history from a backup."
            )
            raise DamagedFileError(msg)
        require_inside(self.snapshots / name, self.snapshots)
        return self.snapshots / name

    def relative(self, path: Path) -> str:
        """Path as kept in the history: relative to the project folder where it lies inside."""
        try:
            return path.resolve().relative_to(self.project_folder.resolve()).as_posix()
        except ValueError:
            return path.name

    @staticmethod
    def _numbered(parent: Path, kind: str) -> list[Path]:
        if not parent.is_dir():
            return []
        found = [
            (int(m[1]), p)
            for p in parent.iterdir()
            if (m := re.fullmatch(rf"{re.escape(kind)}-(\d+)", p.name)) and p.is_dir()
        ]
        return [p for _, p in sorted(found)]

    @classmethod
    def _last_number(cls, parent: Path, kind: str) -> int:
        runs = cls._numbered(parent, kind)
        return int(runs[-1].name.rsplit("-", 1)[1]) if runs else 0
