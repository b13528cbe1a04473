import dataclasses
import struct

import pytest
from qupath_golden import (
    alone,
    an_object,
    edited,
    golden_bytes,
    new_id,
    objects_of,
    parsed,
)

from glombridge.errors import DamagedFileError, ProtectedError
from glombridge.objects import ObjectKind, Outline
from glombridge.qupath import HierarchyEdit
from glombridge.qupath import descriptors as d
from glombridge.qupath.decoding import decode_tree
from glombridge.qupath.editing import FileEditor
from glombridge.qupath.encoding import NodeFactory
from glombridge.qupath.hierarchy import HierarchyNode
from glombridge.qupath.javastream import ClassDesc, JavaArray, JavaObject, JavaString
from glombridge.qupath.new_file import new_data_file

UUID_CLASS = "java.util.UUID"
EMPTY = new_data_file(None, qupath_version="0.6.0")


# Files that QuPath writes but the golden set lacks, and files nobody should edit.


def crafted(change):
    """A small file with two annotations, changed node by node."""
    data = edited(EMPTY, HierarchyEdit(add=(an_object("a"), an_object("b", parent=new_id("a")))))
    file = parsed(data)
    change(file, NodeFactory(file.handles, {}))
    return file.emit()


def a_desc(name, flags=2, fields=()):
    desc = ClassDesc(name, 1, flags, fields)
    desc.complete()
    return desc


def first(file) -> HierarchyNode:
    return file.root.children[0]


def with_tma(file, factory):
    node = first(file).node
    contents = node.parts[0]
    contents[-1] += b"\1"
    core = JavaObject(factory.desc(d.TMA_CORE), [contents])
    file.root.contents[-1] = core
    grid = factory.object(
        d.TMA_GRID,
        [
            struct.pack(">ii", 1, 1),
            factory.object(d.ARRAY_LIST, [bytes((0, 0, 0, 1))], [bytes((0, 0, 0, 1)), core]),
        ],
    )
    file.hierarchy.parts[0][2] = grid


def with_connection(file, factory):
    """An image property that points at an object, as Delaunay connections do."""
    properties = file.contents[-2]
    properties.parts[1][:] = [
        struct.pack(">ii", 16, 1),
        JavaString.of("OBJECT_CONNECTIONS"),
        first(file).node,
    ]


def with_unknown_roi(file, factory):
    fields = factory.desc(d.RECTANGLE).fields
    roi = JavaObject(a_desc("qupath.lib.roi.NewROI", fields=fields), [[bytes(44), None]])
    first(file).contents[-2] = roi


def with_unknown_measurements(file, factory):
    first(file).contents[3] = factory.object(d.HASH_MAP, [bytes(8)], [struct.pack(">ii", 16, 0)])


def with_nan_outline(file, factory):
    raw = struct.pack(">iiddddi", -1, 0, float("nan"), 1, 2, 3, 0)
    first(file).contents[-2] = factory.object(d.RECTANGLE, [raw, None])


def with_bad_wkb(file, factory):
    wkb = JavaArray(factory.desc(d.BYTES), b"\0\0\0\0\x63abc", None)
    first(file).contents[-2] = factory.object(d.GEOMETRY, [bytes(12), None, wkb])


def with_same_id(file, factory):
    child = first(file).children[0]
    child.contents[2] = first(file).contents[2]


def with_other_geometry(file, factory):
    desc = a_desc("qupath.lib.roi.GeometryROI$SerializationProxy")
    first(file).contents[-2] = JavaObject(desc, [[b""]])


def with_stains(file, factory):
    file.contents[4] = factory.object(d.STAINS, [bytes(4), JavaString.of("{}")])


def test_tma_core_is_read_and_protected():
    data = crafted(with_tma)
    core, child = objects_of(data)
    assert (core.kind, core.missing, core.name) == (ObjectKind.TMA_CORE, True, "a")
    renamed = edited(
        data, HierarchyEdit(replace=(dataclasses.replace(core, name="A-1", missing=False),))
    )
    assert [(o.name, o.missing) for o in objects_of(renamed)] == [("A-1", False), ("b", False)]
    with pytest.raises(ProtectedError, match="TMA core"):
        edited(data, HierarchyEdit(remove=frozenset({core.id})))
    moved = dataclasses.replace(core, outline=Outline.rectangle(0, 0, 1, 1))
    with pytest.raises(ProtectedError, match="TMA core"):
        edited(data, HierarchyEdit(replace=(moved,)))
    assert len(objects_of(edited(data, HierarchyEdit(remove=frozenset({child.id}))))) == 1


def test_connected_object_is_protected():
    data = crafted(with_connection)
    connected, child = objects_of(data)
    with pytest.raises(ProtectedError, match="connections"):
        edited(data, HierarchyEdit(remove=frozenset({connected.id})))
    moved = dataclasses.replace(connected, outline=Outline.rectangle(0, 0, 1, 1))
    with pytest.raises(ProtectedError, match="connections"):
        edited(data, HierarchyEdit(replace=(moved,)))
    renamed = edited(
        data,
        HierarchyEdit(
            replace=(dataclasses.replace(connected, name="n"),), remove=frozenset({child.id})
        ),
    )
    assert [o.name for o in objects_of(renamed)] == ["n"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_unknown_roi, "NewROI"),
        (with_unknown_measurements, "HashMap"),
        (with_nan_outline, "finite"),
        (with_bad_wkb, "cannot be read"),
    ],
)
def test_object_that_is_not_understood_is_named_kept_and_protected(change, says):
    data = crafted(change)
    opaque, child = decode_tree(parsed(data).root, "s")
    assert opaque.object is None
    assert says in opaque.problem
    assert child.object.parent is None  # the nearest listed ancestor
    with pytest.raises(ProtectedError, match="not understood"):
        edited(data, HierarchyEdit(remove=frozenset({opaque.id})))
    with pytest.raises(ProtectedError, match="not understood"):
        edited(data, HierarchyEdit(add=(an_object("c", parent=opaque.id),)))
    more = edited(data, HierarchyEdit(add=(an_object("c"),), remove=frozenset({child.id})))
    assert [e.object and e.object.name for e in decode_tree(parsed(more).root, "s")] == [None, "c"]
    assert alone(more)[0] == alone(data)[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_same_id, "told apart"),
        (with_other_geometry, "GeometryROI"),
        (with_stains, "stains"),
    ],
)
def test_file_that_can_be_read_but_not_edited(change, says):
    data = crafted(change)
    decode_tree(parsed(data).root, "s")
    with pytest.raises(ProtectedError, match=says):
        FileEditor(data, "file", "s", {})


def test_repeated_id_is_listed_with_another_id():
    found = decode_tree(parsed(crafted(with_same_id)).root, "s")
    assert found[0].id == new_id("a")
    assert found[1].id != new_id("a")
    assert found[1].object is not None
    assert str(new_id("a")) in found[1].problem


def test_file_written_another_way_is_not_edited():
    # A long block of a few bytes reads the same and would come out short.
    data = EMPTY.replace(b"\x77\x08\0\0\0\x01\0\0\0\0", b"\x7a\0\0\0\x08\0\0\0\x01\0\0\0\0", 1)
    assert data != EMPTY
    parsed(data)
    with pytest.raises(ProtectedError, match="byte for byte"):
        FileEditor(data, "file", "s", {})


def uid_of(name):
    raw = name.encode()
    return len(raw).to_bytes(2, "big") + raw


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.replace(b"version 3", b"version 9", 1), "version 9"),
        (lambda b: b[:-6], "end mark"),
        (lambda b: b + b"\x70", "follows"),
        (lambda b: b + b, "0xAC"),
        (
            lambda b: b.replace(
                uid_of(d.METADATA) + bytes(7) + b"\1", uid_of(d.METADATA) + bytes(7) + b"\2"
            ),
            "unknown layout",
        ),
        (lambda b: b.replace(b"\x0arootObject", b"\x0arootObjecu"), "unknown layout"),
        (lambda b: b.replace(b"\x13Ljava/lang/Integer", b"\x13Ljava/lang/Integes"), "layout"),
    ],
)
def test_changed_envelope(change, says):
    data = change(golden_bytes("v0.6.0"))
    assert data != golden_bytes("v0.6.0")
    with pytest.raises(DamagedFileError, match=says):
        parsed(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda f, n: f.contents.insert(5, f.hierarchy),
        lambda f, n: f.contents.remove(f.hierarchy),
        lambda f, n: f.root.contents.__setitem__(-1, None),
        lambda f, n: f.root.contents.append(first(f).node),
        lambda f, n: f.root.contents.__setitem__(
            slice(4, None), [b"\0\0\0\2", first(f).node, first(f).node]
        ),
        lambda f, n: f.root.contents.__setitem__(4, b"\0\0\0\2"),
        lambda f, n: f.root.contents.__setitem__(4, b"\0\1"),
        lambda f, n: first(f).contents.__setitem__(-1, bytes(9)),
        lambda f, n: first(f).contents.__setitem__(-4, None),
        lambda f, n: first(f).contents.__setitem__(0, n.integer(1)),
        lambda f, n: first(f).contents.__setitem__(-3, n.integer(1)),
        lambda f, n: f.hierarchy.parts[0].__setitem__(1, None),
        # The layout with a UUID in place of the metadata, which no release writes.
        lambda f, n: first(f).contents.__setitem__(2, JavaObject(a_desc(UUID_CLASS), [[b""]])),
    ],
)
def test_hierarchy_of_an_unknown_layout(change):
    with pytest.raises(DamagedFileError):
        parsed(crafted(change))


def test_wrong_result_is_not_published(monkeypatch):
    """The comparison after reading back catches an encoder that writes something else."""
    original = golden_bytes("v0.6.0")
    wrong = {
        "another name": lambda f, e: e.contents.__setitem__(0, JavaString.of("x")),
        "another lock": lambda f, e: e.contents.__setitem__(
            e.tail_at, f.root.children[0].contents[-4]
        ),
    }
    for change in wrong.values():
        editor = FileEditor(original, "file", "s", {})
        data = editor.apply(HierarchyEdit(add=(an_object(),)))
        for place in (0, -1):  # an untouched object, and the new one
            file = parsed(data)
            change(file, file.root.children[place])
            if file.emit() != data:
                with pytest.raises(ProtectedError, match="read back"):
                    editor.check(file.emit())
        file = parsed(data)
        file.contents[2].parts[0][0] = bytes(4)
        with pytest.raises(ProtectedError, match="outside the objects"):
            editor.check(file.emit())
        file = parsed(data)
        file.root.contents[-1:] = []
        count = struct.pack(">i", len(file.root.children) - 1)
        file.root.contents[file.root.measurements_at + 1] = count
        with pytest.raises(ProtectedError, match="objects where"):
            editor.check(file.emit())
        with pytest.raises(ProtectedError, match="read back"):
            editor.check(data[:-20])


def test_legacy_area():
    """Two rings, one inside the other and the other way round: a hole by the winding rule."""

    def change(file, factory):
        desc = factory.desc(d.FLOATS)
        both = a_desc(d.FLOAT_ARRAYS)

        def rings(*values):
            return JavaArray(
                both,
                None,
                [JavaArray(desc, struct.pack(f">{len(v)}f", *v), None) for v in values],
            )

        roi = factory.object(
            d.AREA,
            [
                struct.pack(">iii", -1, 2, 1),
                None,
                None,
                rings((0, 10, 10, 0), (2, 2, 8, 8), (20, 30, 30)),
                rings((0, 0, 10, 10), (2, 8, 8, 2), (0, 0, 10)),
            ],
        )
        first(file).contents[-2] = roi

    outline = objects_of(crafted(change))[0].outline
    assert outline.geometry.area == pytest.approx(100 - 36 + 50)
    assert (outline.plane.t, outline.plane.z) == (2, 1)


def test_float_measurements_and_double_lists_are_read_and_keep_their_precision():
    def change(file, factory):
        names = factory.object(
            d.ARRAY_LIST,
            [struct.pack(">i", 2)],
            [struct.pack(">i", 2), JavaString.of("a"), JavaString.of("b")],
        )
        values = JavaArray(factory.desc(d.DOUBLES), struct.pack(">3d", 0.1, float("nan"), 9), None)
        first(file).contents[3] = factory.object(d.DOUBLE_LIST, [b"\1", None, names], [b"", values])
        single = factory.object(d.FLOAT_MEASUREMENT, [struct.pack(">f", 0.1), JavaString.of("f")])
        items = factory.object(d.ARRAY_LIST, [struct.pack(">i", 1)], [struct.pack(">i", 9), single])
        first(file).children[0].contents[3] = factory.object(d.DEFAULT_LIST, [b"", items])

    data = crafted(change)
    one, other = objects_of(data)
    assert one.measurements["a"] == 0.1
    assert list(one.measurements) == ["a", "b"]
    assert other.measurements == {"f": 0.10000000149011612}
    asked = dataclasses.replace(one, measurements={"a": 0.2})
    assert objects_of(edited(data, HierarchyEdit(replace=(asked,))))[0].measurements == {"a": 0.2}
