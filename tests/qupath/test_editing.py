import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qupath_golden import (
    DATA_FILES,
    OUTLINES,
    VERSIONS,
    alone,
    an_object,
    edited,
    file_id,
    golden_bytes,
    new_id,
    objects_of,
    parsed,
)

from glombridge.errors import InputError, ProtectedError
from glombridge.objects import Color, ObjectKind, PathClass
from glombridge.qupath import HierarchyEdit
from glombridge.qupath.javastream.writer import emit_contents
from glombridge.qupath.stored_form import as_stored, differences


def other_items(data):
    file = parsed(data)
    return [emit_contents([n]) for n in file.contents if n is not file.hierarchy]


@pytest.mark.parametrize("path", DATA_FILES, ids=file_id)
def test_replacing_all_objects_by_themselves_changes_no_byte(path):
    data = path.read_bytes()
    assert edited(data, HierarchyEdit(replace=tuple(objects_of(data)))) == data


NEW_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.none() | st.text(max_size=5),
        "color": st.none() | st.just(Color(9, 8, 7)),
        "locked": st.booleans(),
        "path_class": st.sampled_from(
            [None, PathClass(("Glomerulus",)), PathClass(("New", "Leaf"), Color(1, 1, 1))]
        ),
        "measurements": st.dictionaries(
            st.sampled_from(["score", "DAB: mean", "x"]), st.floats(width=32), max_size=3
        ),
        "metadata": st.dictionaries(
            st.text(min_size=1, max_size=3), st.text(max_size=3), max_size=2
        ),
        "probability": st.floats(0, 1),
        "outline": st.sampled_from(list(OUTLINES.values())),
    },
)


@st.composite
def edits(draw, objects, step):
    present = [o.id for o in objects]
    remove = draw(st.sets(st.sampled_from(present), max_size=4)) if present else set()
    stay = [o for o in objects if o.id not in remove]
    chosen = (
        draw(st.lists(st.sampled_from(stay), max_size=4, unique_by=lambda o: o.id)) if stay else []
    )
    replace = tuple(dataclasses.replace(o, **draw(NEW_VALUES)) for o in chosen)
    kinds = [k for k in ObjectKind if k is not ObjectKind.TMA_CORE]
    add: list = []
    for i in range(draw(st.integers(0, 3))):
        parents = [None, *(o.id for o in stay), *(o.id for o in add)]
        kind = draw(st.sampled_from(kinds))
        values = draw(NEW_VALUES)
        parent = draw(st.sampled_from(parents))
        new = an_object(f"new {step}.{i}", kind=kind, parent=parent)
        add.append(dataclasses.replace(new, **values))
    return HierarchyEdit(tuple(add), frozenset(remove), replace)


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_edit_sequences_touch_only_what_they_name(version, data):
    current = golden_bytes(version)
    for step in range(3):
        before = objects_of(current)
        edit = data.draw(edits(before, step))
        after_bytes = edited(current, edit)
        after = objects_of(after_bytes)

        assert len(after) == len(before) - len(edit.remove) + len(edit.add)
        assert other_items(after_bytes) == other_items(current)
        asked = {o.id: o for o in (*edit.add, *edit.replace)}
        untouched = [b for i, _, b in alone(current) if i not in asked and i not in edit.remove]
        left = [b for i, _, b in alone(after_bytes)]
        for one in untouched:  # every untouched object is there with all its bytes
            left.remove(one)
        assert len(left) <= len(asked)
        for obj in asked.values():
            found = [o for o in after if o.id == obj.id]
            old = next((o for o in before if o.id == obj.id), None)
            if old is not None and differences(old, obj) == []:
                continue
            assert len(found) == 1
            # The stored form with the precision of the list the object had.
            stored = [as_stored(obj, wide=wide) for wide in (True, False)]
            assert [] in [differences(found[0], s) for s in stored]
        current = after_bytes


@pytest.mark.parametrize("version", VERSIONS)
def test_adding_and_removing_again_gives_the_old_objects(version):
    data = golden_bytes(version)
    added = tuple(an_object(i) for i in range(3))
    more = edited(data, HierarchyEdit(add=added))
    assert more != data
    less = edited(more, HierarchyEdit(remove=frozenset(o.id for o in added)))
    assert less == data


@pytest.mark.parametrize("version", VERSIONS)
def test_children_of_a_removed_object_move_to_its_parent(version):
    data = golden_bytes(version)
    before = objects_of(data)
    by_name = {o.name: o for o in before}
    parent = by_name["Glom 1"]
    lesion = by_name["inner lesion"]
    after = objects_of(edited(data, HierarchyEdit(remove=frozenset({parent.id, lesion.id}))))
    assert len(after) == len(before) - 2
    assert all(o.parent is None or o.name != "Glom 1" for o in after)
    ellipse_child = [o for o in after if o.parent is not None]
    assert len(ellipse_child) == 1  # the detection inside the ellipse inside the lesion


@pytest.mark.parametrize("version", VERSIONS)
def test_editing_twice_the_same_way_changes_nothing_the_second_time(version):
    data = golden_bytes(version)
    target = objects_of(data)[0]
    asked = dataclasses.replace(target, measurements={"score": 0.1}, outline=OUTLINES["polygon"])
    once = edited(data, HierarchyEdit(replace=(asked,)))
    assert once != data
    target = objects_of(once)[0]
    asked = dataclasses.replace(asked, id=target.id)
    assert edited(once, HierarchyEdit(replace=(asked,))) == once


def test_objects_of_an_old_file_get_their_id_when_they_are_changed():
    data = golden_bytes("v0.3.2")
    target = objects_of(data)[3]
    assert not target.id_is_stored
    after = objects_of(
        edited(data, HierarchyEdit(replace=(dataclasses.replace(target, name="n"),)))
    )
    assert [(o.id, o.id_is_stored) for o in after if o.name == "n"] == [(target.id, True)]
    assert len({o.id for o in after}) == len(after)


FIRST = "v0.6.0"


def first_objects():
    return objects_of(golden_bytes(FIRST))


@pytest.mark.parametrize(
    ("edit", "error", "says"),
    [
        (lambda o: HierarchyEdit(remove=frozenset({new_id("?")})), InputError, "not there"),
        (lambda o: HierarchyEdit(replace=(an_object("?"),)), InputError, "not there"),
        (lambda o: HierarchyEdit(replace=(o[0], o[0])), InputError, "twice"),
        (
            lambda o: HierarchyEdit(replace=(o[0],), remove=frozenset({o[0].id})),
            InputError,
            "at once",
        ),
        (lambda o: HierarchyEdit(add=(o[0],)), InputError, "already"),
        (lambda o: HierarchyEdit(add=(an_object(), an_object())), InputError, "already"),
        (lambda o: HierarchyEdit(add=(an_object(parent=new_id("?")),)), InputError, "not there"),
        (
            lambda o: HierarchyEdit(add=(an_object(parent=o[0].id),), remove=frozenset({o[0].id})),
            InputError,
            "removed by the same edit",
        ),
        (
            lambda o: HierarchyEdit(
                add=(an_object("a", parent=new_id("b")), an_object("b", parent=new_id("a")))
            ),
            InputError,
            "below itself",
        ),
        (lambda o: HierarchyEdit(add=(an_object(outline=None),)), InputError, "no outline"),
        (
            lambda o: HierarchyEdit(add=(an_object(kind=ObjectKind.TMA_CORE),)),
            ProtectedError,
            "TMA core",
        ),
        (
            lambda o: HierarchyEdit(replace=(dataclasses.replace(o[0], kind=ObjectKind.TILE),)),
            InputError,
            "kind and parent cannot change",
        ),
        (
            lambda o: HierarchyEdit(replace=(dataclasses.replace(o[1], parent=None),)),
            InputError,
            "kind and parent cannot change",
        ),
        (
            lambda o: HierarchyEdit(replace=(dataclasses.replace(o[0], outline=None),)),
            InputError,
            "outline",
        ),
        (
            lambda o: HierarchyEdit(
                replace=(dataclasses.replace(o[0], path_class=PathClass((" x",))),)
            ),
            InputError,
            "class name",
        ),
    ],
)
def test_edit_that_cannot_be_is_refused(edit, error, says):
    with pytest.raises(error, match=says):
        edited(golden_bytes(FIRST), edit(first_objects()))
