"""What a Parquet file says about itself, before polars believes it.

polars (2.1) asks for as much memory as a page header claims, and a process that does not get it ends at
once, without an exception. So the footer and the header of each page are read here first: both are Thrift
structures, in the compact protocol, and small. Only what polars writes of flat columns is let through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAGIC = b"PAR1"
_MOST_VALUES = 1_000_000  # of a footer: 20 million boxes have some 100,000
_MOST_DEPTH = 16
_MOST_HEADER_BYTES = 1 << 20  # statistics of a page hold at most two of its values
_MOST_SCHEMA_BYTES = (
    1 << 16
)  # Arrow's own description of the columns, which polars takes apart as well
_ARROW = b"ARROW:schema"
_CODECS = {0: "none", 6: "zstd"}
_OF_PAGE = {0: 5, 2: 7, 3: 8}
"""Where the header of a page says more, by kind of page: data, dictionary, data of the second version."""
_LEAST_ALLOWED_BYTES = 64 << 20
_MOST_EXPANSION = 64

BOOLEAN, INT32, FLOAT, BYTES = 0, 1, 4, 6
"""Physical types of Parquet."""


@dataclass(frozen=True)
class Claims:
    """What a file says that it holds.

    Attributes:
        rows: of the table.
        columns: names.
        most_bytes: that anything taken out of the file may have.
    """

    rows: int
    columns: tuple[str, ...]
    most_bytes: int


def claims_of(data: bytes, types: Mapping[str, int]) -> Claims:
    """Check what a file says about itself.

    Args:
        data: the file.
        types: physical type of each column that there may be.

    Raises:
        ValueError: it is no such file, or claims more than can be in it.
    """
    most_bytes = max(_LEAST_ALLOWED_BYTES, _MOST_EXPANSION * len(data))
    length = int.from_bytes(data[-8:-4], "little")
    _require(data[:4] == data[-4:] == _MAGIC and length <= len(data) - 12, "it is no Parquet file")
    end = len(data) - 8 - length
    footer = _Thrift(data, end, len(data) - 8).struct()
    names = _columns(footer, types)
    for pair in _items(footer, 5):
        if pair.get(1) == _ARROW:
            _require(len(pair.get(2, b"")) <= _MOST_SCHEMA_BYTES, "its schema is enormous")
    rows = claimed = 0
    for group in _items(footer, 4):
        of_group = _number(group, 3)
        rows += of_group
        chunks = _items(group, 1)
        _require(len(chunks) == len(names), "a column is missing in it")
        for chunk, name in zip(chunks, names, strict=True):
            _require(1 not in chunk, "it refers to another file")
            about = _struct(chunk, 3)
            _require(
                about.get(1) == types[name]
                and about.get(3) == [name.encode()]
                and about.get(4) in _CODECS
                and about.get(5) == of_group,
                f"column {name!r} is not what it should be",
            )
            for size, values in _pages(data, end, about):
                claimed += size
                _require(values <= of_group, f"a page of column {name!r} claims {values} values")
                _require(claimed <= most_bytes, f"its pages claim {claimed} bytes and more")
    _require(_number(footer, 3) == rows, "it contradicts itself about the number of rows")
    return Claims(rows, names, most_bytes)


def _columns(footer: Mapping[int, Any], types: Mapping[str, int]) -> tuple[str, ...]:
    root, *fields = _items(footer, 2) or [{}]
    names = []
    for field in fields:
        name = bytes(field.get(4, b"")).decode("utf-8", "replace")
        known = name in types and field.get(1) == types[name]
        _require(
            known and 5 not in field and field.get(3) in (0, 1),
            f"no column {name[:80]!r} of it is known",
        )
        names.append(name)
    _require(root.get(5) == len(names) == len(set(names)) > 0, "it has no columns")
    return tuple(names)


def _pages(data: bytes, end: int, about: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
    """Bytes and values that each page of a column claims."""
    starts = [_number(about, key) for key in (9, 11) if key in about]
    at = min(starts, default=0)
    stop = at + _number(about, 7)
    _require(len(_MAGIC) <= at <= stop <= end, "a column of it lies outside of the file")
    while at < stop:
        reader = _Thrift(data, at, min(stop, at + _MOST_HEADER_BYTES))
        header = reader.struct()
        size, packed = _number(header, 2), _number(header, 3)
        inner = _struct(header, _OF_PAGE.get(_number(header, 1), 0))
        at = reader.at + packed
        _require(at <= stop, "a page of it is longer than its column")
        yield size, _number(inner, 1)


class _Thrift:
    """Reads structures as numbered fields; whatever is wrong is a ``ValueError``."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end
        self.left = _MOST_VALUES

    def struct(self, depth: int = 0) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            # The value of a truth is its type.
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self.left -= 1
        _require(self.left >= 0 and depth <= _MOST_DEPTH, "it says too much about itself")
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._unsigned())
        if kind in (9, 10):
            head = self._byte()
            n = head >> 4 if head >> 4 < 15 else self._unsigned()
            _require(n <= self.end - self.at, "a list of it is longer than the file")
            return [self._value(head & 15, depth + 1) for _ in range(n)]
        _require(kind == 12, "it is no Parquet file")  # maps are in no structure of the format
        return self.struct(depth)

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, n: int) -> bytes:
        _require(n <= self.end - self.at, "it ends too early")
        self.at += n
        return self.data[self.at - n : self.at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            _require(shift < 64, "a number of it has no end")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _items(structure: Mapping[int, Any], number: int) -> list[dict[int, Any]]:
    found = structure.get(number, [])
    _require(
        isinstance(found, list) and all(isinstance(item, dict) for item in found),
        "it is no Parquet file",
    )
    return list(found)


def _struct(structure: Mapping[int, Any], number: int) -> dict[int, Any]:
    found = structure.get(number)
    if not isinstance(found, dict):
        msg = "a part of it is missing, or of no known kind"
        raise ValueError(msg)
    return found


def _number(structure: Mapping[int, Any], number: int) -> int:
    found = structure.get(number)
    if type(found) is not int or found < 0:
        msg = "a number of it is missing or below 0"
        raise ValueError(msg)
    return found


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)
