"""Codes for names: the same ones for ever, of no use without the key, and the key is never lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.errors import DamagedFileError
from glombridge.ledger import Codes, Workspace, open_codes

SECRET = bytes(range(32))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.folder.mkdir()
    return workspace


@given(st.lists(st.text(), unique=True, max_size=30))
def test_every_name_has_one_code_and_every_code_leads_back(names: list[str]) -> None:
    codes, again = Codes(SECRET), Codes(SECRET)
    for kind in ("image", "patient"):
        made = [getattr(codes, kind)(name) for name in names]
        assert made == [getattr(again, kind)(name) for name in reversed(names)][::-1]
        assert len(set(made)) == len(names)
        assert [codes.name_of(code) for code in made] == names


def test_a_code_is_what_rfc_2104_says() -> None:
    """So that whoever holds the key can check one with any other program."""
    # printf 'image\0a.svs' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f
    assert Codes(SECRET).image("a.svs") == "image-fc9aff955027b"


def test_without_the_secret_codes_cannot_be_guessed(tmp_path: Path) -> None:
    made = []
    for folder in ("a", "b"):
        workspace = Workspace(tmp_path / folder)
        workspace.folder.mkdir(parents=True)
        with open_codes(workspace) as codes:
            made.append(
                (
                    codes.image("a.svs"),
                    codes.patient("P1"),
                    codes.entry(1),
                    codes.fingerprint("00"),
                    codes.object_id(UUID(int=1)),
                )
            )
    assert all(first != second for first, second in zip(*made, strict=True))


def test_an_image_and_a_patient_of_one_name_cannot_be_matched() -> None:
    codes = Codes(SECRET)
    assert codes.image("P1").split("-")[1] != codes.patient("P1").split("-")[1]


def test_a_code_of_a_patient_stays_as_it_is() -> None:
    codes = Codes(SECRET)
    assert codes.patient(codes.patient("P1")) == codes.patient("P1")


def test_numbers_are_exact_in_every_reader_of_json() -> None:
    assert all(0 <= Codes(SECRET).entry(k) < 2**53 for k in range(1000))


def test_the_key_is_made_once_and_grows(workspace: Workspace) -> None:
    with open_codes(workspace) as codes:
        first = codes.image("a.svs")
    with open_codes(workspace) as codes:
        assert codes.image("a.svs") == first
        second = codes.image("b.svs")
    key = json.loads(workspace.code_key.read_text("utf-8"))
    assert key["names"] == {first: "a.svs", second: "b.svs"}


def test_names_of_two_at_once_are_both_kept(workspace: Workspace) -> None:
    with open_codes(workspace) as one, open_codes(workspace) as other:
        made = {one.image("a.svs"), other.image("b.svs")}
    assert set(json.loads(workspace.code_key.read_text("utf-8"))["names"]) == made


def test_names_are_kept_when_the_work_fails(workspace: Workspace) -> None:
    def fail() -> None:
        with open_codes(workspace) as codes:
            codes.image("a.svs")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert '"a.svs"' in workspace.code_key.read_text("utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_may_read_it_at_any_time(workspace: Workspace) -> None:
    for name in ("a.svs", "b.svs"):
        with open_codes(workspace) as codes:
            codes.image(name)
            assert workspace.code_key.stat().st_mode & 0o777 == 0o600
        assert workspace.code_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": "glombridge codes 1", "secret": "00", "names": {}}',
        '{"format": 2}',
    ],
    ids=["empty", "cut", "no object", "a short secret", "another format"],
)
def test_a_damaged_key_is_never_made_anew(workspace: Workspace, text: str) -> None:
    workspace.code_key.write_text(text, "utf-8")
    with (
        pytest.raises(DamagedFileError, match="bring it back from a backup"),
        open_codes(workspace),
    ):
        pass
    assert workspace.code_key.read_text("utf-8") == text
