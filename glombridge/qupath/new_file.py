"""A new ``data.qpdata`` without objects, for an image that has none yet."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID, uuid4

from ..errors import UsageError
from . import descriptors as d
from . import gson
from .encoding import NodeFactory
from .hierarchy import EOF, HEADERS
from .javastream import Content, JavaEnum, JavaObject, JavaString, emit_stream

IMAGE_TYPES = (
    "BRIGHTFIELD_H_E",
    "BRIGHTFIELD_H_DAB",
    "BRIGHTFIELD_OTHER",
    "FLUORESCENCE",
    "OTHER",
    "UNSET",
)


def new_data_file(
    server_builder: Any,
    *,
    qupath_version: str,
    image_type: str = "UNSET",
    root_id: UUID | None = None,
) -> bytes:
    """The bytes of a data file that QuPath 0.3 to 0.7 open as an image without objects.

    Args:
        server_builder: JSON of the image's reader from the project, ``None`` if it has none.
        qupath_version: written into the file.
        image_type: one of :data:`IMAGE_TYPES`. A brightfield type makes QuPath fail on an image
            that is neither RGB nor of three channels; ``UNSET`` suits every image.
        root_id: id of the invisible root object; random by default.

    Raises:
        UsageError: an image type QuPath does not have.
    """
    if image_type not in IMAGE_TYPES:
        msg = f"image type {image_type!r} is not one of {', '.join(IMAGE_TYPES)}"
        raise UsageError(msg)
    factory = NodeFactory((), {})
    head: dict[str, Any] = {"dataVersion": 3, "qupathVersion": qupath_version or "0.3.0"}
    if server_builder is not None:
        head["server"] = server_builder
    description = gson.dumps(head, pretty=False).decode("utf-8")
    contents: list[Content] = [
        HEADERS[1],
        JavaString.of(description),
        _locale(factory),
        JavaEnum(factory.desc(d.IMAGE_TYPE), JavaString.of(image_type)),
        None,
        factory.object(d.WORKFLOW, [struct.pack(">ii", 1, 0)]),
        factory.object(d.HIERARCHY, [b"", _root(factory, root_id or uuid4()), None]),
        factory.object(d.HASH_MAP, [struct.pack(">fi", 0.75, 12)], [struct.pack(">ii", 16, 0)]),
        JavaString.of(EOF),
    ]
    return emit_stream(contents)


def _locale(factory: NodeFactory) -> JavaObject:
    nothing = JavaString.of("")
    country, language = JavaString.of("US"), JavaString.of("en")
    fields: list[Content] = [struct.pack(">i", -1), country, nothing, language, nothing, nothing]
    return factory.object(d.LOCALE, fields, [])


def _root(factory: NodeFactory, root_id: UUID) -> JavaObject:
    metadata = factory.metadata(root_id, {})
    return factory.object(d.ROOT, [None, None, metadata, None, bytes(4)])
