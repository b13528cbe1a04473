"""Datasets in the making: a hidden folder that survives interruptions and is published whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..documents import parse_json
from ..errors import InputError, ProtectedError
from ..filenames import require_inside
from ..ledger import ProjectLock
from .cutting import SlideTask, machine_error, write_bytes
from .dataset_files import MOST_RECORD_BYTES, file_bytes
from .jobs import DatasetSettings
from .manifest import FORMAT
from .preview import preview_png
from .records import FOLDER, SlideRecord
from .split import PARTS

_LOCK = "lock"
_PREVIEWS = "previews"
ATTEMPTS = "attempts"
"""In a draft: where other machines cut slides, each attempt in a folder of its own."""


class Draft:
    """A dataset that is not complete yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, keys: set[str]) -> dict[str, SlideRecord]:
        """Keep what an interrupted call finished, and remove everything else.

        Args:
            keys: of the slides wanted.

        Returns:
            Records of the slides that are complete, by key.
        """
        records = {
            record.key: record
            for record in readable_records(self.folder)
            if record.key in keys and record.is_complete(self.folder)
        }
        stems = {tile.stem for record in records.values() for tile in record.tiles}
        wanted = {record.path(self.folder).name for record in records.values()}
        try:
            for kind in ("images", "labels"):
                for part in PARTS:
                    for path in (self.folder / kind / part).iterdir():
                        if path.stem not in stems:
                            path.unlink()
            for path in (self.folder / FOLDER).iterdir():
                if path.name not in wanted:
                    path.unlink()
            for folder in (_PREVIEWS, ATTEMPTS):
                shutil.rmtree(self.folder / folder, ignore_errors=True)
            for name in ("manifest.json", "data.yaml", "tiles.csv"):
                (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise machine_error(self.folder, error) from error
        return records

    def take_over(self, record: SlideRecord, source: Path) -> None:
        """Take the files of a slide from another dataset.

        Raises:
            MachineError: a file can be neither linked nor copied.
        """
        pairs = _pairs(record, source, self.folder)
        preview = _PREVIEWS, f"{record.prefix}.png"
        if source.joinpath(*preview).is_file():
            self._make(self.folder / _PREVIEWS)
            pairs.append((source.joinpath(*preview), self.folder.joinpath(*preview)))
        for old, new in pairs:
            _link_or_copy(old, new)
        write_bytes(record.path(self.folder), record.to_json())

    def add_preview(self, task: SlideTask, settings: DatasetSettings) -> None:
        """Draw the preview of a slide, if it is not there."""
        path = self.folder / _PREVIEWS / f"{task.prefix}.png"
        if not path.exists():
            self._make(path.parent)
            write_bytes(path, preview_png(task.job, task.spec, settings))

    def write(self, name: str, data: bytes) -> None:
        """Write one of the files that describe the dataset."""
        write_bytes(self.folder / name, data)

    def publish(self, folder: Path, older: list[Path]) -> Path:
        """Put the draft in its place, unless one of the older datasets is just the same.

        Returns:
            Where the dataset is.

        Raises:
            MachineError: it cannot be moved; what was there before still is.
        """
        shutil.rmtree(self.folder / ATTEMPTS, ignore_errors=True)
        for name in (_LOCK, f"{_LOCK}.guard"):
            (self.folder / name).unlink(missing_ok=True)
        for same in older:
            if _is_same(self.folder, same):
                shutil.rmtree(self.folder, ignore_errors=True)
                return same
        aside = _aside(folder)
        try:
            # A folder with files in it cannot be replaced in one step on any platform: the old one
            # steps aside first, and comes back if the new one cannot take its place.
            if folder.exists():
                folder.rename(aside)
            try:
                self.folder.rename(folder)
            except OSError:
                if aside.exists():
                    aside.rename(folder)
                raise
        except OSError as error:
            raise machine_error(folder, error) from error
        shutil.rmtree(aside, ignore_errors=True)
        return folder

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise machine_error(folder, error) from error


@contextmanager
def claim_draft(folder: Path) -> Iterator[Draft]:
    """The draft of a dataset, held by this process alone; a refusal before any tile removes it.

    Raises:
        ProtectedError: ``folder`` holds something else, another process writes it, or a link leads
            out of the draft.
        MachineError: the draft cannot be made.
    """
    draft = Draft(folder.with_name(f".{folder.name}.partial"))
    aside = _aside(folder)
    try:
        # Killed between the two renamings of a publication: what was there comes back.
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
        _check_target(folder)
        draft.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise machine_error(draft.folder, error) from error
    with ProjectLock(draft.folder / _LOCK):
        try:
            inner = [f"{kind}/{part}" for kind in ("images", "labels") for part in PARTS]
            for name in (*inner, FOLDER, _PREVIEWS, ATTEMPTS):
                # Files are removed there that this call does not want: never those of others.
                require_inside(draft.folder / name, draft.folder)
            for name in (*inner, FOLDER):
                draft._make(draft.folder / name)
            yield draft
        finally:
            if draft.folder.exists() and not any((draft.folder / FOLDER).glob("*.json")):
                shutil.rmtree(draft.folder, ignore_errors=True)


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset that glombridge wrote."""
    try:
        manifest = parse_json((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def readable_records(folder: Path) -> list[SlideRecord]:
    """Records in a folder, damaged ones left out: their slides are cut again."""
    records = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, InputError, ProtectedError):
            data = file_bytes(path, folder, MOST_RECORD_BYTES)
            records.append(SlideRecord.from_json(data))
    return records


def _check_target(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_dataset(folder):
        msg = (
            f"{folder} is there already and is not a dataset that glombridge wrote; it is left as "
            "it is. Choose another folder with --out."
        )
        raise ProtectedError(msg)


def _is_same(draft: Path, other: Path) -> bool:
    """Whether another dataset holds the same: alike manifest and records, and no file is gone."""
    records = [path.relative_to(draft).as_posix() for path in (draft / FOLDER).glob("*.json")]
    for name in ("manifest.json", "data.yaml", "tiles.csv", *records):
        try:
            if (draft / name).read_bytes() != (other / name).read_bytes():
                return False
        except OSError:
            return False
    has_all_previews = all(
        (other / _PREVIEWS / path.name).is_file() for path in (draft / _PREVIEWS).glob("*.png")
    )
    folders = [Path(kind, part) for kind in ("images", "labels") for part in PARTS]
    has_more = any(_names(draft / f) != _names(other / f) for f in folders)
    return (
        has_all_previews
        and not has_more
        and all(
            _is_shared(r, draft, other) or r.is_complete(other) for r in readable_records(draft)
        )
    )


def _pairs(record: SlideRecord, one: Path, other: Path) -> list[tuple[Path, Path]]:
    """Each file of a slide in two datasets."""
    files = [(t.files(one, record.part), t.files(other, record.part)) for t in record.tiles]
    return [pair for here, there in files for pair in zip(here, there, strict=True)]


def _is_shared(record: SlideRecord, draft: Path, other: Path) -> bool:
    """Whether two datasets share each file of a slide: what was read for one is not read again."""
    try:
        return all(here.samefile(there) for here, there in _pairs(record, draft, other))
    except OSError:
        return False


def _names(folder: Path) -> set[str]:
    """What lies in a folder of tiles or labels."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one that knows no links.
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise machine_error(target, error) from error
