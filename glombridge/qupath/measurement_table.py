"""Measurements of many objects as columns, and each object's as a mapping on them.

A dictionary of Python numbers for each object takes ten times the memory of the file.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES: dict[int, np.dtype[np.floating[Any]]] = {4: np.dtype(">f4"), 8: np.dtype(">f8")}


class MeasurementTable:
    """Measurements of objects that have the same names.

    Filled row by row with :meth:`add`; :meth:`close` makes the columns.

    Attributes:
        names: of the columns, each once.
        values: shape (objects, names), float32 or float64 as in the file.
    """

    __slots__ = ("_all", "_column", "_rows", "_stored", "names", "values")

    def __init__(self, names: tuple[str, ...], value_bytes: int) -> None:
        """Begin a table.

        Args:
            names: as stored; of two with one name the first is kept, which is the one QuPath shows.
            value_bytes: 4 or 8.
        """
        self._stored = _DTYPES[value_bytes]
        self._all = len(names)
        self._column = {name: i for i, name in reversed(list(enumerate(names)))}
        self.names = tuple(dict.fromkeys(names))
        self._rows: list[bytes] = []
        self.values: NDArray[np.floating[Any]] = np.empty((0, len(self.names)), self._stored)

    def add(self, raw: bytes) -> MeasurementRow:
        """Take in one object's values, big-endian, in the order of all names.

        The row can be read once the table is closed.
        """
        size = self._all * self._stored.itemsize
        # More is unused capacity.
        self._rows.append(raw if len(raw) == size else raw[:size])
        return MeasurementRow(self, len(self._rows) - 1)

    def close(self) -> None:
        """Turn the rows taken in into columns."""
        values = np.frombuffer(b"".join(self._rows), self._stored).reshape(-1, self._all)
        self._rows = []
        columns = [self._column[name] for name in self.names]
        if columns != list(range(self._all)):
            values = values[:, columns]
        self._column = {name: i for i, name in enumerate(self.names)}
        self._all = len(self.names)
        self.values = values.astype(self._stored.newbyteorder("="))

    def value(self, row: int, name: str) -> float:
        """One value.

        Raises:
            KeyError: no such name.
        """
        return _number(float(self.values[row, self._column[name]]))

    def has(self, name: object) -> bool:
        """Whether there is a column of this name."""
        return name in self._column


class MeasurementRow(Mapping[str, float]):
    """The measurements of one object: a mapping from name to value that cannot be changed.

    It keeps its table alive. A copy or pickle of it stands on its own.
    """

    __slots__ = ("_row", "_table")

    def __init__(self, table: MeasurementTable, row: int) -> None:
        self._table = table
        self._row = row

    @property
    def table(self) -> MeasurementTable:
        """The columns this is a row of."""
        return self._table

    def __getitem__(self, name: str) -> float:
        return self._table.value(self._row, name)

    def __contains__(self, name: object) -> bool:
        return self._table.has(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.names)

    def __len__(self) -> int:
        return len(self._table.names)

    def items(self) -> ItemsView[str, float]:
        """Name and value pairs."""
        return self._as_dict().items()

    def values(self) -> ValuesView[float]:
        """The values in the order of the names."""
        return self._as_dict().values()

    def _as_dict(self) -> dict[str, float]:
        numbers = self._table.values[self._row].tolist()
        return {
            name: _number(value) for name, value in zip(self._table.names, numbers, strict=True)
        }

    def __repr__(self) -> str:
        return repr(self._as_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the table: one object sent to another process must not take 100,000 with it.
        values = self._table.values[self._row]
        raw = values.astype(values.dtype.newbyteorder(">")).tobytes()
        return _row_of, (self._table.names, values.dtype.itemsize, raw)


def _row_of(names: tuple[str, ...], value_bytes: int, raw: bytes) -> MeasurementRow:
    table = MeasurementTable(names, value_bytes)
    row = table.add(raw)
    table.close()
    return row


def _number(value: float) -> float:
    # One and the same NaN, so that two mappings with a missing value compare as dictionaries do.
    return value if value == value else math.nan
