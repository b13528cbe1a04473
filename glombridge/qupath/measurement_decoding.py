"""Measurements from the nodes of QuPath's three measurement lists."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from . import descriptors as d
from .javastream import Content, JavaArray, JavaObject, JavaString
from .measurement_table import MeasurementTable
from .outline_decoding import OpaqueError

_LIST_TAGS = (1, 4)
"""Low byte of ``CollSer.tag`` for the two list forms."""


class MeasurementDecoder:
    """Decodes measurement lists into columns; names that objects share are decoded once.

    Values stored with 32 bits stay exactly that: 0.1 reads as 0.10000000149011612.
    """

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, ...]] = {}
        self._tables: dict[tuple[tuple[str, ...], int], MeasurementTable] = {}

    def decode(self, node: JavaObject | None) -> Mapping[str, float]:
        """Name to value; the first of two with one name, which is the one QuPath shows.

        To be read after :meth:`close`.

        Raises:
            OpaqueError: a list class that is not known, or one that is malformed.
        """
        if node is None:
            return {}
        kind = node.desc.name
        if kind == d.FLOAT_LIST:
            return self._numeric(node, d.FLOATS, 4)
        if kind == d.DOUBLE_LIST:
            return self._numeric(node, d.DOUBLES, 8)
        if kind == d.DEFAULT_LIST:
            pairs = [_measurement(item) for item in list_items(node.parts[0][1])]
            names = tuple(name for name, _ in pairs)
            return self._row(names, 8, struct.pack(f">{len(pairs)}d", *(v for _, v in pairs)))
        msg = f"measurement class {kind} is not known"
        raise OpaqueError(msg)

    def close(self) -> None:
        """Make what was decoded ready to be read."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        self._names.clear()

    def _numeric(self, node: JavaObject, array: str, size: int) -> Mapping[str, float]:
        names = self.names(node.parts[0][2])
        values = node.parts[1][1]
        if not isinstance(values, JavaArray) or values.desc.name != array or values.raw is None:
            msg = "measurements without values"
            raise OpaqueError(msg)
        if len(values.raw) < size * len(names):
            msg = f"{len(names)} measurement names for {len(values.raw) // size} values"
            raise OpaqueError(msg)
        return self._row(names, size, values.raw)

    def _row(self, names: tuple[str, ...], size: int, raw: bytes) -> Mapping[str, float]:
        if not names:
            return {}
        table = self._tables.get((names, size))
        if table is None:
            table = self._tables[names, size] = MeasurementTable(names, size)
        return table.add(raw)

    def names(self, node: Content) -> tuple[str, ...]:
        """The texts of a list of names.

        Raises:
            OpaqueError: not a list of strings.
        """
        known = self._names.get(id(node))
        if known is None:
            items = list_items(node)
            if not all(isinstance(item, JavaString) for item in items):
                msg = "a measurement without a name"
                raise OpaqueError(msg)
            known = tuple(item.text for item in items if isinstance(item, JavaString))
            self._names[id(node)] = known
        return known


def list_items(node: Content) -> list[Content]:
    """The elements of one of the list classes that occur in data files.

    Raises:
        OpaqueError: another class, or counts that do not agree.
    """
    if isinstance(node, JavaObject):
        kind = node.desc.name
        if kind == d.UNMODIFIABLE_LIST:
            inner = node.parts[1][1]
            if isinstance(inner, JavaObject) and inner.desc.name == d.ARRAY_LIST:
                return list_items(inner)
        elif kind in (d.ARRAY_LIST, d.COLL_SER):
            number, head, items = _int(node.parts[0][0]), node.parts[1][:1], node.parts[1][1:]
            count = number if kind == d.ARRAY_LIST else _int(*head)
            # The block of an ArrayList is a capacity that nobody reads.
            right_kind = kind == d.ARRAY_LIST or number & 0xFF in _LIST_TAGS
            if head and isinstance(head[0], bytes) and count == len(items) and right_kind:
                return items
    msg = f"a list of an unknown kind ({node!r})"
    raise OpaqueError(msg)


def _measurement(node: Content) -> tuple[str, float]:
    if isinstance(node, JavaObject) and node.desc.name in (
        d.DOUBLE_MEASUREMENT,
        d.FLOAT_MEASUREMENT,
    ):
        raw, name = node.parts[0]
        if isinstance(raw, bytes) and isinstance(name, JavaString):
            return name.text, struct.unpack(">d" if len(raw) == 8 else ">f", raw)[0]
    msg = f"a measurement of an unknown kind ({node!r})"
    raise OpaqueError(msg)


def _int(raw: Content = None) -> int:
    return struct.unpack(">i", raw)[0] if isinstance(raw, bytes) and len(raw) == 4 else -1
