"""``project.qpproj``: the images of a QuPath project.

Everything QuPath or anyone else put there is kept: a document is parsed, changed where needed,
and written with all its keys in their order.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import InputError, MachineError, ProtectedError
from ..filenames import require_inside
from ..placement import ImageTransform
from . import gson
from .leftovers import remove_leftovers
from .locations import path_to_uri
from .saving import atomic_write, check_unchanged, folder_for, keep_copy, read_stamped
from .store import FileStamp, ImageEntry

SUFFIX = ".qpproj"
DATA_FILE = "data.qpdata"
OPENSLIDE_PROVIDER = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
_TAGS_SINCE = (0, 6)
_MICROMETRE = {"µm", "μm", "um"}  # micro sign and Greek mu are different characters
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST_UM = 1e9
_LARGEST_ID = 2**63 - 1  # QuPath keeps a Java long
_RGB = (("Red", -65536), ("Green", -16711936), ("Blue", -16776961))
_UNREADABLE_VERSIONS = ("v0.2.0-m1", "v0.2.0-m2")


@dataclass(frozen=True)
class ImageServerInfo:
    """What QuPath wants to know of a slide before it opens it.

    Attributes:
        width, height: full resolution, in pixels of QuPath's frame.
        mpp_x, mpp_y: micrometres per pixel, ``None`` = not calibrated.
        levels: of the pyramid, finest first: downsample, width, height. Empty = only the finest.
        magnification: of the objective, ``None`` = unknown.
        tile_px: width and height of the tiles in the file.
    """

    width: int
    height: int
    mpp_x: float | None = None
    mpp_y: float | None = None
    levels: tuple[tuple[float, int, int], ...] = ()
    magnification: float | None = None
    tile_px: tuple[int, int] = (256, 256)


class ProjectFile:
    """A project file in memory, and the folder it stands in.

    Changes are made with the methods and take effect on disk with :meth:`save`.
    """

    def __init__(self, path: Path, document: dict[str, Any], stamp: FileStamp) -> None:
        self.path = path
        self.document = document
        self._stamp = stamp
        images = document.get("images") or []
        self._places = {_entry_id(item): place for place, item in enumerate(images)}

    @classmethod
    def open(cls, path: Path | str) -> ProjectFile:
        """Open a project by its file, or by a folder that holds exactly one.

        Raises:
            InputError: no project there, several, or not a project file.
            ProtectedError: it is being written.
            MachineError: it cannot be read.
        """
        file = _find(Path(path))
        return cls._parse(file, *read_stamped(file))

    def refreshed(self) -> ProjectFile:
        """The project as the file is now; this same one if the bytes are those it was read from.

        Reading and hashing a file of 10,000 images takes a twentieth of parsing it. Not for one
        that was changed in memory.

        Raises:
            GlombridgeError: as :meth:`open`.
        """
        data, stamp = read_stamped(self.path)
        if stamp.sha256 != self._stamp.sha256:
            return self._parse(self.path, data, stamp)
        return self

    @classmethod
    def _parse(cls, file: Path, data: bytes, stamp: FileStamp) -> ProjectFile:
        if not stamp.exists:
            msg = f"there is no project at {file}. Give the folder of a QuPath project."
            raise InputError(msg)
        try:
            document = gson.loads(data)
        except ValueError as error:
            msg = (
                f"{file} is not a QuPath project: it is not JSON ({error}). QuPath keeps the "
                f"previous one as {file.name}.backup."
            )
            raise InputError(msg) from error
        _check_document(document, file)
        return cls(file, document, stamp)

    @property
    def folder(self) -> Path:
        """The project folder."""
        return self.path.parent

    @property
    def version(self) -> str:
        """Version of QuPath that saved the project, ``""`` where it does not say."""
        return str(self.document.get("version") or "").removeprefix("v")

    @property
    def uri(self) -> str | None:
        """Where the project was when it was saved."""
        uri = self.document.get("uri")
        return uri if isinstance(uri, str) else None

    def data_file(self, entry_id: int) -> Path:
        """The ``data.qpdata`` of an image, there or not.

        Raises:
            ProtectedError: a link leads it out of the project.
        """
        file = self.folder / "data" / str(entry_id) / DATA_FILE
        require_inside(file, self.folder)
        return file

    def entries(self) -> list[ImageEntry]:
        """Every image in the project's order."""
        return [self._entry(item) for item in self.document.get("images") or []]

    def entry(self, entry_id: int) -> ImageEntry:
        """One image.

        Raises:
            InputError: the project has none with this id.
        """
        return self._entry(self._item(entry_id))

    def server_builder(self, entry_id: int) -> Any:
        """The JSON of the image's reader, which a new data file repeats; ``None`` if absent."""
        return self._item(entry_id).get("serverBuilder")

    def _item(self, entry_id: int) -> dict[str, Any]:
        items: list[dict[str, Any]] = self.document.get("images") or []
        place = self._places.get(entry_id)
        if place is not None:  # images are only ever appended
            return items[place]
        known = ", ".join(str(item.get("entryID")) for item in items[:10]) or "none"
        msg = f"{self.path} has no image {entry_id}; its images are: {known}."
        raise InputError(msg)

    def _entry(self, item: dict[str, Any]) -> ImageEntry:
        entry_id = _entry_id(item)
        builder = item.get("serverBuilder")
        uris, transforms = _walk_builder(builder)
        geometry, source_size = _chain(builder)
        server = _server_metadata(builder)
        description = item.get("description")
        return ImageEntry(
            id=entry_id,
            name=_text(item.get("imageName") or (uris[0] if uris else entry_id)),
            uris=uris,
            transforms=transforms,
            width=_size(server.get("width")),
            height=_size(server.get("height")),
            mpp_x=_micrometres(server, "pixelWidth"),
            mpp_y=_micrometres(server, "pixelHeight"),
            description=_text(description) if isinstance(description, str) else None,
            metadata={_text(k): _text(v) for k, v in (item.get("metadata") or {}).items()},
            tags=tuple(_text(tag) for tag in item.get("tags") or ()),
            # Text, not paths: of 10,000 images these are a good part of the time.
            has_data=os.path.isfile(f"{self.path.parent}/data/{entry_id}/{DATA_FILE}"),  # noqa: PTH113
            geometry=geometry,
            source_size=source_size,
        )

    def add_image(
        self,
        path: Path,
        *,
        name: str | None = None,
        metadata: ImageServerInfo | None = None,
        image_metadata: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        description: str | None = None,
    ) -> ImageEntry:
        """Add a slide that QuPath reads with OpenSlide; :meth:`save` makes it last.

        Args:
            path: the slide; need not exist yet.
            name: shown in QuPath; the file name by default.
            metadata: what is known of the slide. Without it QuPath looks into the file.
            image_metadata: the key-value pairs of the project's image list.
            tags: QuPath 0.6 and later show them.
            description: free text.
        """
        entry_id = 1 + max(
            [_int(self.document.get("lastID")) or 0]
            + [_entry_id(item) for item in self.document.get("images") or []]
        )
        builder: dict[str, Any] = {
            "builderType": "uri",
            "providerClassName": OPENSLIDE_PROVIDER,
            "uri": path_to_uri(path),
            "args": [],
        }
        if metadata is not None:
            builder["metadata"] = _server_json(metadata, path.name)
        item: dict[str, Any] = {
            "serverBuilder": builder,
            "entryID": entry_id,
            "randomizedName": str(uuid4()),
            "imageName": name or path.name,
        }
        if description is not None:
            item["description"] = description
        item["metadata"] = dict(image_metadata or {})
        if _version_of(self.version) >= _TAGS_SINCE or tags:
            item["tags"] = list(tags)
        images: list[dict[str, Any]] = self.document.setdefault("images", [])
        self._places[entry_id] = len(images)
        images.append(item)
        self.document["lastID"] = entry_id
        return self._entry(item)

    def set_image_metadata(self, entry_id: int, values: Mapping[str, str | None]) -> bool:
        """Set some of an image's metadata, or remove it with ``None``; :meth:`save` makes it last.

        Returns:
            Whether anything changed.

        Raises:
            InputError: no such image, or an empty key.
        """
        item = self._item(entry_id)
        metadata = item.get("metadata") or {}
        changed = {key: text for key, text in values.items() if metadata.get(key) != text}
        if "" in changed:
            msg = f"image {entry_id}: a metadata key must not be empty."
            raise InputError(msg)
        if not changed:
            return False
        metadata.update(changed)
        item["metadata"] = {key: text for key, text in metadata.items() if text is not None}
        return True

    def save(self, *, snapshot: Path | None = None) -> None:
        """Write the file, if nobody else did since it was opened.

        Args:
            snapshot: where to keep the file as it was.

        Raises:
            ProtectedError: it changed meanwhile.
            MachineError: it cannot be written.
        """
        before = check_unchanged(self.path, self._stamp)
        if snapshot is not None:
            keep_copy(before, snapshot)
        remove_leftovers(self.path.parent)
        atomic_write(self.path, gson.dumps(self.document))
        self._stamp = read_stamped(self.path)[1]


def create_project(folder_or_file: Path | str, qupath_version: str = "0.6.0") -> ProjectFile:
    """Make an empty project.

    Args:
        folder_or_file: a folder, made if needed, for ``project.qpproj``; or the file itself.
        qupath_version: the version whose conventions it follows.

    Raises:
        ProtectedError: there is a project already.
        MachineError: it cannot be written.
    """
    path = Path(folder_or_file)
    file = path if path.suffix == SUFFIX else path / f"project{SUFFIX}"
    existing = sorted(file.parent.glob(f"*{SUFFIX}")) if file.parent.is_dir() else []
    if existing:
        msg = f"{existing[0]} is a project already. Open it, or choose an empty folder."
        raise ProtectedError(msg)
    now = int(time.time() * 1000)
    document = {
        "version": qupath_version.removeprefix("v"),
        "createTimestamp": now,
        "modifyTimestamp": now,
        # QuPath writes its own place with one slash.
        "uri": path_to_uri(file).replace("file:///", "file:/", 1),
        "lastID": 0,
        "images": [],
    }
    with folder_for(file):
        atomic_write(file, gson.dumps(document))
    return ProjectFile.open(file)


def _find(path: Path) -> Path:
    if not path.is_dir():
        if path.suffix == SUFFIX:
            return path
        msg = f"{path} is neither a folder nor a {SUFFIX} file. Give the folder of a project."
        raise InputError(msg)
    try:
        # Not glob, which takes a folder that it may not look into for an empty one.
        found = sorted(p for p in path.iterdir() if p.suffix == SUFFIX and p.is_file())
    except OSError as error:
        msg = f"cannot look into {path}: {error.strerror or error}. Ask for permission to read it."
        raise MachineError(msg) from error
    if not found:
        where = path if path.name else f"the folder {str(path)!r}"
        msg = (
            f"there is no {SUFFIX} file in {where}. Give a project's folder, or make one in "
            "QuPath: File > Project > Create project."
        )
        raise InputError(msg)
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        msg = f"{path} holds several projects: {names}. Give the one you mean."
        raise InputError(msg)
    return found[0]


def _check_document(document: Any, file: Path) -> None:
    if not isinstance(document, dict) or not ({"version", "lastID"} & document.keys()):
        msg = f"{file} is not a QuPath project: it has neither a version nor a lastID."
        raise InputError(msg)
    if document.get("version") in _UNREADABLE_VERSIONS:
        msg = (
            f"{file} was saved by the QuPath milestone {document['version']}, whose projects no "
            "release reads. Make a new project."
        )
        raise InputError(msg)
    images = document.get("images") or []
    if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
        msg = f"{file} is not a QuPath project: 'images' is not a list of images."
        raise InputError(msg)
    ids = []
    for place, item in enumerate(images):
        entry_id, metadata, tags = item.get("entryID"), item.get("metadata"), item.get("tags")
        is_sound = isinstance(metadata, dict | None) and isinstance(tags, list | None)
        if _int(entry_id) is None or not is_sound:
            shown = repr(entry_id)[:60]
            msg = (
                f"{file}: image number {place + 1} has the entryID {shown}, or metadata or tags that "
                "are none. QuPath keeps the previous project as "
                f"{file.name}.backup."
            )
            raise InputError(msg)
        ids.append(_entry_id(item))
    if len(set(ids)) != len(ids):
        msg = f"{file} has two images with the same entryID. Remove one of them in QuPath."
        raise InputError(msg)


def _entry_id(item: dict[str, Any]) -> int:
    return _int(item.get("entryID")) or 0


def _int(value: Any) -> int | None:
    """A whole number that a Java long holds, written as number or text; ``None`` for all else."""
    text = str(value)
    usable = text.isdecimal() and len(text) < 20 and int(text) <= _LARGEST_ID
    return int(text) if usable else None


def _text(value: Any) -> str:
    """As text that can be written anywhere: half of a surrogate pair, which JSON may hold, cannot."""
    return _LONE_SURROGATE.sub("\ufffd", str(value))


def _walk_builder(builder: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """URIs of all readers in a builder tree, and the types around them, outermost first."""
    uris: dict[str, None] = {}
    transforms: list[str] = []
    stack = [builder]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(reversed(node))
        if not isinstance(node, dict):
            continue
        kind = node.get("builderType")
        if isinstance(kind, str) and kind != "uri":
            transforms.append(kind)
        if isinstance(node.get("uri"), str) and kind in ("uri", None):
            uris[node["uri"]] = None
        stack.extend(reversed([value for key, value in node.items() if key != "metadata"]))
    return tuple(uris), tuple(transforms)


def _chain(builder: Any) -> tuple[tuple[ImageTransform, ...], tuple[int, int] | None]:
    """The builders around the first reader, outermost first, and the size that reader gives."""
    steps = []
    while isinstance(builder, dict) and builder.get("builderType") not in ("uri", None):
        parameters = {
            key: value
            for key, value in builder.items()
            if key not in ("builderType", "builder", "metadata")
        }
        steps.append(ImageTransform(str(builder["builderType"]), parameters))
        builder = builder.get("builder")
    server = _server_metadata(builder)
    width, height = _size(server.get("width")), _size(server.get("height"))
    return tuple(steps), None if width is None or height is None else (width, height)


def _server_metadata(builder: Any) -> dict[str, Any]:
    """What the outermost builder says of the image, which is what QuPath shows."""
    found = builder.get("metadata") if isinstance(builder, dict) else None
    return found if isinstance(found, dict) else {}


def _size(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 2**31 else None


def _micrometres(server: dict[str, Any], key: str) -> float | None:
    calibration = server.get("pixelCalibration")
    side = calibration.get(key) if isinstance(calibration, dict) else None
    if not isinstance(side, dict) or str(side.get("unit")) not in _MICROMETRE:
        return None
    value = side.get("value")
    # Whatever is left of a whole number of a thousand digits is no pixel size.
    usable = isinstance(value, int | float) and 0 < value < _LARGEST_UM
    return float(value) if usable and value is not None else None


def _version_of(text: str) -> tuple[int, ...]:
    numbers = text.split("-")[0].split(".")
    return tuple(int(n) for n in numbers if n.isdecimal())


def _server_json(info: ImageServerInfo, name: str) -> dict[str, Any]:
    levels = info.levels or ((1.0, info.width, info.height),)

    def side(mpp: float | None) -> dict[str, Any]:
        return {"value": 1.0, "unit": "px"} if mpp is None else {"value": float(mpp), "unit": "µm"}

    found: dict[str, Any] = {
        "name": name,
        "width": info.width,
        "height": info.height,
        "sizeZ": 1,
        "sizeT": 1,
        "channelType": "DEFAULT",
        "isRGB": True,
        "pixelType": "UINT8",
        "levels": [
            {"downsample": float(downsample), "width": width, "height": height}
            for downsample, width, height in levels
        ],
        "channels": [{"name": channel, "color": color} for channel, color in _RGB],
        "pixelCalibration": {
            "pixelWidth": side(info.mpp_x),
            "pixelHeight": side(info.mpp_y),
            "zSpacing": {"value": 1.0, "unit": "z-slice"},
            "timeUnit": "SECONDS",
            "timepoints": [],
        },
    }
    if info.magnification is not None:
        found["magnification"] = float(info.magnification)
    found["preferredTileWidth"], found["preferredTileHeight"] = info.tile_px
    return found
