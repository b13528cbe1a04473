"""Measurements in columns: each object's are a mapping like any other, and memory stays small."""

import copy
import importlib.util
import json
import math
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qupath_golden import an_object, edited, objects_of, parsed

from glombridge.objects import ObjectKind
from glombridge.qupath import HierarchyEdit
from glombridge.qupath.decoding import decode_and_forget, decode_tree
from glombridge.qupath.measurement_table import MeasurementRow, MeasurementTable
from glombridge.qupath.new_file import new_data_file
from glombridge.qupath.stored_form import differences

EMPTY = new_data_file(None, qupath_version="0.6.0")


def rows_of(names, rows, size=8):
    table = MeasurementTable(tuple(names), size)
    code = {4: "f", 8: "d"}[size]
    found = [table.add(struct.pack(f">{len(names)}{code}", *row)) for row in rows]
    table.close()
    return found


NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True)


@given(NAMES, st.data())
def test_a_row_is_a_mapping_like_a_dictionary(names, data):
    numbers = st.lists(st.floats(), min_size=len(names), max_size=len(names))
    rows = data.draw(st.lists(numbers, min_size=1, max_size=4))
    for row, values in zip(rows_of(names, rows), rows, strict=True):
        truth = {n: math.nan if math.isnan(v) else v for n, v in zip(names, values, strict=True)}
        assert row == truth
        assert truth == row
        assert dict(row) == truth
        assert {**row} == truth
        assert list(row) == list(row.keys()) == names
        assert list(row.items()) == list(truth.items())
        assert list(row.values()) == list(truth.values())
        assert row.keys() == truth.keys()
        assert len(row) == len(names)
        assert all(type(v) is float for v in row.values())
        assert all(type(row[n]) is float for n in names)
        assert repr(row) == repr(truth)
        assert row.get("\0none\0") is None
        assert "\0none\0" not in row
        for other in (pickle.loads(pickle.dumps(row)), copy.copy(row), copy.deepcopy(row)):
            assert other == row
            assert list(other) == names


def test_a_missing_name_is_a_key_error_and_nothing_can_be_changed():
    (row,) = rows_of(["a"], [[1]])
    with pytest.raises(KeyError, match="b"):
        row["b"]
    with pytest.raises(TypeError):
        row["a"] = 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(row)
    assert row != {"a": 2}
    assert row != {"b": 1}
    assert row != 1


def test_32_bits_stay_what_they_are():
    (row,) = rows_of(["a"], [[0.1]], size=4)
    assert row["a"] == 0.10000000149011612
    assert pickle.loads(pickle.dumps(row))["a"] == 0.10000000149011612


def test_the_first_of_two_with_one_name_counts():
    first, second = rows_of(["a", "b", "a"], [[1, 2, 3], [4, 5, 6]])
    assert dict(first) == {"a": 1, "b": 2}
    assert list(second.items()) == [("a", 4), ("b", 5)]


def test_a_pickled_row_does_not_take_its_table_along():
    rows = rows_of(["a", "b"], [[i, -i] for i in range(10_000)])
    assert len(pickle.dumps(rows[0])) < 300
    # Names are stored once for all of them.
    names = rows_of([f"{'long ' * 20}{k}" for k in range(20)], [[0.0] * 20] * 100)
    assert len(pickle.dumps(names)) < 100 * 20 * 8 * 2


def test_objects_with_the_same_names_share_one_table():
    some = [
        an_object(k, kind=ObjectKind.DETECTION, measurements={"x": k, "y": -k}) for k in range(5)
    ]
    other = an_object("other", kind=ObjectKind.DETECTION, measurements={"z": 1.5})
    none = an_object("none", kind=ObjectKind.DETECTION, measurements={})
    found = objects_of(edited(EMPTY, HierarchyEdit(add=(*some, other, none))))
    rows = [o.measurements for o in found]
    assert all(isinstance(row, MeasurementRow) for row in rows[:6])
    assert len({id(row.table) for row in rows[:5]}) == 1
    assert rows[5].table is not rows[0].table
    assert rows[0].table.values.dtype == np.float32
    assert rows[0].table.values[:, 1].tolist() == [0, -1, -2, -3, -4]
    assert [dict(row) for row in rows] == [{"x": k, "y": -k} for k in range(5)] + [{"z": 1.5}, {}]
    assert [o.measurements for o in pickle.loads(pickle.dumps(found))] == rows


def test_giving_up_the_graph_changes_nothing_that_was_decoded():
    data = edited(EMPTY, HierarchyEdit(add=(an_object(1), an_object(2, parent=an_object(1).id))))
    kept = decode_tree(parsed(data).root, "s")
    file = parsed(data)
    forgotten = decode_and_forget(file, "s", {})
    for one, other in zip(forgotten, kept, strict=True):
        assert differences(one.object, other.object) == []
        assert (one.object.id, one.object.parent) == (other.object.id, other.object.parent)
    assert [e.source.kind for e in forgotten] == [e.source.kind for e in kept]
    assert (file.contents, file.handles, file.root.children) == ([], [], [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="ru_maxrss")
def test_100_000_detections_are_read_in_less_than_a_gigabyte(tmp_path):
    path = Path(__file__).parent.parent / "benchmarks" / "bench_read_memory.py"
    spec = importlib.util.spec_from_file_location("bench_read_memory", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    found = bench.read(bench.build(tmp_path / "project", 100_000))
    assert (found["objects"], found["measurements"], found["vertices"]) == (100_000, 20, 20)
    assert found["peak_mb"] < 1000, json.dumps(found)
