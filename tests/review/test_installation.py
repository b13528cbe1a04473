"""``glombridge scripts``: what is put into a project's scripts/ folder, and what is left alone there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glombridge.cli import main
from glombridge.ledger import ProjectLock, Workspace
from glombridge.qupath import ImageServerInfo, NativeStore
from glombridge.review import installation
from glombridge.review.installation import (
    NEW_SUFFIX,
    Installed,
    install_scripts,
    shipped_scripts,
    stamped,
)

ROOT = Path(__file__).parents[2]
NAME = "glombridge_one.groovy"
OLD, NEW = {NAME: "println 'old'\n"}, {NAME: "println 'new'\n"}
REVIEW = "glombridge_review.groovy"


def every_file(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def what(folder: Path, scripts: dict[str, str], **options: bool) -> Installed:
    (change,) = install_scripts(folder, scripts, **options)
    assert change.path == folder / NAME
    return change.what


# What is found in the folder, and what is done then.


def unmodified_old(path: Path) -> None:
    path.write_text(stamped(OLD[NAME]), "utf-8")


def old_with_windows_ends(path: Path) -> None:
    path.write_bytes(stamped(OLD[NAME]).replace("\n", "\r\n").encode())


def changed_old(path: Path) -> None:
    path.write_text(stamped(OLD[NAME]) + "println 'mine'\n", "utf-8")


def changed_new(path: Path) -> None:
    path.write_text(stamped(NEW[NAME]) + "println 'mine'\n", "utf-8")


def changed_new_in_latin_1(path: Path) -> None:
    path.write_bytes(stamped(NEW[NAME]).encode() + "// größer\n".encode("latin-1"))


def copied_by_hand(path: Path) -> None:
    path.write_text(NEW[NAME], "utf-8")


def the_users_own(path: Path) -> None:
    path.write_text("println 'mine'\n", "utf-8")


def without_its_stamp(path: Path) -> None:
    path.write_text(OLD[NAME], "utf-8")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(lambda path: None, Installed.WRITTEN, id="fresh"),
        pytest.param(unmodified_old, Installed.UPDATED, id="older-unmodified"),
        pytest.param(old_with_windows_ends, Installed.UPDATED, id="older-with-windows-line-ends"),
        pytest.param(copied_by_hand, Installed.UPDATED, id="copied-by-hand"),
        pytest.param(changed_old, Installed.BESIDE, id="older-changed"),
        pytest.param(the_users_own, Installed.BESIDE, id="the-users-own"),
        pytest.param(without_its_stamp, Installed.BESIDE, id="its-first-line-removed"),
        pytest.param(empty, Installed.BESIDE, id="emptied"),
        pytest.param(changed_new, Installed.KEPT, id="changed-after-the-newest"),
        pytest.param(changed_new_in_latin_1, Installed.KEPT, id="changed-in-another-encoding"),
    ],
)
def test_what_is_done_with_a_script(
    tmp_path: Path, found: Callable[[Path], None], expected: Installed
) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    path = folder / NAME
    found(path)
    before = every_file(folder)
    assert what(folder, NEW, dry_run=True) is expected
    assert every_file(folder) == before, "a dry run wrote"
    assert what(folder, NEW) is expected
    is_ours = expected in (Installed.WRITTEN, Installed.UPDATED)
    if is_ours:
        assert path.read_text("utf-8") == stamped(NEW[NAME])
        assert sorted(p.name for p in folder.iterdir()) == [NAME]
    else:
        assert every_file(folder)[NAME] == before[NAME], "the user's script was touched"
        assert (folder / (NAME + NEW_SUFFIX)).exists() is (expected is Installed.BESIDE)
    after = every_file(folder)
    assert what(folder, NEW) is (Installed.UNCHANGED if is_ours else Installed.KEPT)
    assert every_file(folder) == after, "the second time wrote again"


def test_what_lay_beside_a_changed_script_goes_when_the_user_gives_it_up(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    install_scripts(folder, OLD)
    changed_old(folder / NAME)
    assert what(folder, NEW) is Installed.BESIDE
    beside = folder / (NAME + NEW_SUFFIX)
    assert beside.read_text("utf-8") == stamped(NEW[NAME])
    (folder / NAME).unlink()
    assert what(folder, NEW) is Installed.WRITTEN
    assert sorted(p.name for p in folder.iterdir()) == [NAME]


def test_another_version_with_the_same_text_only_renews_the_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scripts"
    monkeypatch.setattr(installation, "__version__", "0.0.1")
    install_scripts(folder, NEW)
    monkeypatch.undo()
    assert what(folder, NEW) is Installed.UPDATED
    assert (folder / NAME).read_text("utf-8") == stamped(NEW[NAME])


def test_the_shipped_scripts_are_those_of_the_repository() -> None:
    there = {p.name for p in (ROOT / "qupath_scripts").glob("*.groovy")}
    assert set(shipped_scripts()) == there
    assert {"glombridge_shared.groovy", REVIEW, "glombridge_setup.groovy"} <= there


# As typed.


@pytest.fixture
def project(tmp_path: Path) -> Path:
    store = NativeStore.create(tmp_path / "study")
    info = ImageServerInfo(width=4096, height=3072, mpp_x=0.5, mpp_y=0.5)
    store.add_image(tmp_path / "slides" / "a.tif", name="a.tif", metadata=info)
    return store.folder


@pytest.fixture
def set_up(project: Path) -> Path:
    assert main(["init", str(project), "--store", "native", "--scheme", "lupus"]) == 0
    return project


def typed(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(typed(capsys, *words, "--json"))
    return found


def test_init_installs_scripts_and_scheme(set_up: Path) -> None:
    assert {p.name for p in (set_up / "scripts").iterdir()} == set(shipped_scripts())
    scheme = json.loads((set_up / "glombridge" / "scheme.json").read_text("utf-8"))
    assert (scheme["format"], scheme["name"], scheme["classes"]) == (1, "lupus", ["Glomerulus"])
    assert scheme["lesions"]


def test_a_second_call_changes_no_byte(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = every_file(set_up)
    said = as_json(capsys, "scripts", set_up)
    assert set(said["scripts"].values()) == {"unchanged"}
    assert set(said["scripts"]) == set(shipped_scripts())
    assert (said["scheme"], said["scheme_changed"], said["notes"]) == ("lupus 1", False, [])
    after = every_file(set_up)
    # The lock file says who held it last.
    assert {k: v for k, v in after.items() if "lock" not in k} == {
        k: v for k, v in before.items() if "lock" not in k
    }


def test_a_changed_script_is_left_alone_and_named(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = set_up / "scripts" / REVIEW
    mine = script.read_bytes().replace(b"viewWidths: 4.0d", b"viewWidths: 6.0d")
    assert mine != script.read_bytes()
    script.write_bytes(mine)
    for more in ([], ["--dry-run"]):
        said = as_json(capsys, "scripts", set_up, *more)
        assert (said["scripts"][REVIEW], said["notes"]) == ("kept", []), "nothing lies beside it"
    script.write_bytes(mine.split(b"\n", 1)[1])
    dry = as_json(capsys, "scripts", set_up, "--dry-run")
    assert dry["scripts"][REVIEW] == "beside"
    assert [n.split("; ")[1] for n in dry["notes"]] == [f"ours would be {REVIEW}{NEW_SUFFIX}"]
    said = typed(capsys, "scripts", set_up)
    assert f"note: {REVIEW} was changed by somebody" in said
    assert f"beside    {script}" in said
    assert script.read_bytes() == mine.split(b"\n", 1)[1]
    assert (set_up / "scripts" / (REVIEW + NEW_SUFFIX)).is_file()
    for more in ([], ["--dry-run"]):
        said = as_json(capsys, "scripts", set_up, *more)
        assert said["scripts"][REVIEW] == "kept"
        assert [n.split("; ")[1] for n in said["notes"]] == [f"ours is {REVIEW}{NEW_SUFFIX}"]


def test_a_dry_run_writes_nothing(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(set_up / "scripts")
    (set_up / "glombridge" / "scheme.json").unlink()
    before = every_file(set_up)
    said = as_json(capsys, "scripts", set_up, "--dry-run")
    assert set(said["scripts"].values()) == {"written"}
    assert (said["dry_run"], said["scheme_changed"]) == (True, True)
    assert every_file(set_up) == before
    assert "not written: --dry-run" in typed(capsys, "scripts", set_up, "--dry-run")


def test_another_scheme_in_the_settings_goes_to_the_scripts(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = set_up / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    assert 'scheme = "lupus"' in text
    settings.write_text(text.replace('scheme = "lupus"', 'scheme = "oxford"'), "utf-8")
    assert as_json(capsys, "scripts", set_up)["scheme_changed"]
    scheme = json.loads((set_up / "glombridge" / "scheme.json").read_text("utf-8"))
    assert scheme["name"] == "oxford"


def test_a_copy_for_a_reader_gets_them(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = set_up.parent / "anna"
    typed(capsys, "copy", set_up, "--reader", "anna", "--out", copy)
    as_json(capsys, "scripts", copy)
    assert {p.name for p in (copy / "scripts").iterdir()} == set(shipped_scripts())
    ours, theirs = (f / "glombridge" / "scheme.json" for f in (set_up, copy))
    assert theirs.read_bytes() == ours.read_bytes()


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:  # Windows without the right to make links
        pytest.skip(f"no links here: {error}")


def test_a_scripts_folder_outside_the_project_is_refused(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = set_up.parent / "of all projects"
    outside.mkdir()
    shutil.rmtree(set_up / "scripts")
    link(set_up / "scripts", outside)
    for more in ([], ["--dry-run"]):
        said = typed(capsys, "scripts", set_up, *more, code=4)
        assert str(outside) in said
        assert "is a link" in said
    assert not list(outside.iterdir())


def test_a_link_to_a_script_is_the_users(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = set_up.parent / "mine.groovy"
    elsewhere.write_text("println 'mine'\n", "utf-8")
    script = set_up / "scripts" / REVIEW
    script.unlink()
    link(script, elsewhere)
    assert as_json(capsys, "scripts", set_up)["scripts"][REVIEW] == "beside"
    assert elsewhere.read_text("utf-8") == "println 'mine'\n"
    assert script.is_symlink()


def test_without_init_or_project_it_is_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "glombridge init" in typed(capsys, "scripts", project, code=3)
    assert not (project / "scripts").exists()
    assert str(tmp_path / "none") in typed(capsys, "scripts", tmp_path / "none", code=3)


def test_while_somebody_else_writes_it_is_refused(
    set_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProjectLock(Workspace(set_up).lock_file):
        typed(capsys, "scripts", set_up, code=4)


def test_a_file_where_the_folder_belongs(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(set_up / "scripts")
    (set_up / "scripts").write_text("no folder", "utf-8")
    assert str(set_up / "scripts") in typed(capsys, "scripts", set_up, code=7)
    assert (set_up / "scripts").read_text("utf-8") == "no folder"


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0,
    reason="needs a folder that its owner may not write, which root may and Windows does not know",
)
def test_a_read_only_folder_is_named(set_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = set_up / "scripts"
    (folder / REVIEW).unlink()
    folder.chmod(0o555)
    try:
        before = every_file(folder)
        assert str(folder) in typed(capsys, "scripts", set_up, code=7)
        assert every_file(folder) == before
        # To look is not to write.
        assert as_json(capsys, "scripts", set_up, "--dry-run")["scripts"][REVIEW] == "written"
    finally:
        folder.chmod(0o755)
