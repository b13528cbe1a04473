import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qupath_golden import DATA_FILES, file_id, golden_bytes

from glombridge.errors import DamagedFileError
from glombridge.qupath.javastream import (
    MAX_DEPTH,
    ClassDesc,
    Field,
    JavaArray,
    JavaClass,
    JavaEnum,
    JavaObject,
    JavaString,
    TooDeepError,
    emit_contents,
    emit_stream,
    parse_stream,
)
from glombridge.qupath.javastream.text import decode_text, encode_text

MAGIC = b"\xac\xed\x00\x05"
DESC = b"\x72\x00\x01A" + bytes(8) + b"\x02\x00\x00\x78\x70"


@pytest.mark.parametrize("path", DATA_FILES, ids=file_id)
def test_every_golden_file_comes_out_byte_for_byte(path):
    data = path.read_bytes()
    stream = parse_stream(data, path.name)
    assert emit_stream(stream.contents) == data


@given(st.text(st.characters(exclude_categories=[])))
def test_text_round_trip(text):
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    assert decode_text(encode_text(text)) == joined


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("\0", b"\xc0\x80"),
        ("a\0é", b"a\xc0\x80\xc3\xa9"),
        ("😀", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("\ud800", b"\xed\xa0\x80"),
        ("字", b"\xe5\xad\x97"),
    ],
    ids=["nul", "accent", "emoji", "lone-surrogate", "cjk"],
)
def test_modified_utf8(text, raw):
    assert encode_text(text) == raw
    assert decode_text(raw) == text


def test_rare_nodes_survive():
    desc = ClassDesc("E", 0, 18)
    desc.complete()
    bytes_class = ClassDesc("[[F", 7, 2)
    bytes_class.complete()
    both = ClassDesc("W", 3, 3, (Field("I", "n"), Field("L", "o", JavaString.of("LX;"))))
    both.complete()
    shared = JavaString.of("é" * 70_000)
    contents = [
        b"x" * 300,
        b"short",
        None,
        shared,
        JavaEnum(desc, JavaString.of("ONE")),
        JavaClass(desc),
        JavaArray(bytes_class, None, [shared, None, shared]),
        JavaObject(both, [[struct.pack(">i", 5), shared], [b"1234", shared, None]]),
    ]
    data = emit_stream(contents)
    stream = parse_stream(data, "file")
    assert emit_stream(stream.contents) == data
    assert stream.contents[3] is stream.contents[6].items[0]
    assert stream.contents[7].parts[1] == [b"1234", stream.contents[3], None]


def test_same_node_is_one_definition_and_equal_nodes_are_two():
    one, other = JavaString.of("a"), JavaString.of("a")
    assert emit_contents([one, one]) == b"\x74\x00\x01a\x71\x00\x7e\x00\x00"
    assert emit_contents([one, other]) == b"\x74\x00\x01a" * 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x75\x72\x00\x02[B" + bytes(8) + b"\x02\x00\x00\x78\x70\xff\xff\xff\xff", "-1"),
        (b"\x75\x72\x00\x02[B" + bytes(8) + b"\x02\x00\x00\x78\x70\x7f\xff\xff\xff", "fit"),
        (b"\x75\x72\x00\x03[LX" + bytes(8) + b"\x02\x00\x00\x78\x70\x7f\xff\xff\xff", "fit"),
        (b"\x7c\xff\xff\xff\xff\xff\xff\xff\xff", "fit"),
        (b"\x7a\xff\xff\xff\xffabc", "fit"),
        (b"\x77\x05abc", "fit"),
        (b"\x74\x00", "middle"),
        (b"\x79", "reset"),
        (b"\x7b", "exception"),
        (b"\x7d", "proxy"),
        (b"\x00", "0x00"),
        (b"\x78", "0x78"),
        (b"\x71\x00\x7e\x00\x00", "reference"),
        (b"\x71\x00\x00\x00\x00", "reference"),
        (b"\x74\x00\x01a\x73\x71\x00\x7e\x00\x00", "class descriptor"),
        (b"\x73\x70", "descriptor is missing"),
        (DESC + DESC, "twice"),
        (b"\x73\x72\x00\x01A" + bytes(8) + b"\x04\x00\x00\x78\x70", "cannot be read"),
        (b"\x73\x72\x00\x01A" + bytes(8) + b"\x00\x00\x00\x78\x70", "cannot be read"),
        (b"\x72\x00\x01A" + bytes(8) + b"\x02\xff\xff\x78\x70", "-1 fields"),
        (b"\x72\x00\x01A" + bytes(8) + b"\x02\x00\x01Q\x00\x01q\x78\x70", "unknown type"),
        (b"\x72\x00\x01A" + bytes(8) + b"\x02\x00\x00\x78\x71\x00\x7e\x00\x00", "own superclass"),
        (b"\x7e" + DESC + b"\x74\x00\x01a", "enum"),
        (b"\x75" + DESC + bytes(4), "an array of class A"),
        (b"\x72\x00\x01\xff" + bytes(8) + b"\x02\x00\x00\x78\x70", "UnicodeDecodeError"),
    ],
    ids=str,
)
def test_malformed_streams_are_one_clean_error(body, says):
    with pytest.raises(DamagedFileError, match=says) as caught:
        parse_stream(MAGIC + body, "the file")
    assert "the file" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xac", b"PK\x03\x04", b"{}"], ids=str)
def test_other_files_are_named_so(data):
    with pytest.raises(DamagedFileError, match="not a QuPath data file"):
        parse_stream(data, "x")


def nested(depth):
    desc = ClassDesc("N", 1, 2, (Field("L", "next", JavaString.of("LN;")),))
    desc.complete()
    node = None
    for _ in range(depth):
        node = JavaObject(desc, [[b"", node]])
    return node


def test_nesting_is_bounded():
    # The descriptor inside the innermost object takes a level too.
    data = emit_stream([nested(MAX_DEPTH - 1)])
    assert emit_stream(parse_stream(data, "x").contents) == data
    with pytest.raises(TooDeepError):
        emit_stream([nested(MAX_DEPTH + 1)])
    head, reference = b"\x73\x72\x00\x01N" + bytes(7), b"\x73\x71\x00\x7e\x00\x00"
    deep = MAGIC + head + b"\x01\x02\x00\x01L\x00\x01n\x74\x00\x01L\x78\x70" + reference * 100_000
    with pytest.raises(DamagedFileError, match="nested"):
        parse_stream(deep, "x")


def test_cut_at_every_place_of_a_small_file():
    data = golden_bytes("v0.6.0", 2)
    whole = parse_stream(data, "x").contents
    for end in range(len(data)):
        try:
            contents = parse_stream(data[:end], "x").contents
        except DamagedFileError:
            continue
        assert len(contents) < len(whole)
