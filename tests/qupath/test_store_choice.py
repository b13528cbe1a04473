"""Which store a project gets: what is installed, what is asked for, and what the settings say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import glombridge.steps.init as init_step
from glombridge.errors import MissingComponentError
from glombridge.qupath import NativeStore, PaquoStore, find_installation, version_numbers
from glombridge.qupath.paquo import Installation
from glombridge.settings import Settings
from glombridge.steps.init import init
from glombridge.steps.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return NativeStore.create(tmp_path / "project", "0.6.0").folder


def installed(version: str | None, folder: Path) -> Path:
    """What paquo takes for a QuPath on Linux, without anything in it."""
    for part in ("lib/app", "lib/runtime/lib/server"):
        (folder / part).mkdir(parents=True)
    (folder / "lib/runtime/lib/server/libjvm.so").touch()
    if version:
        (folder / f"lib/app/qupath-core-{version}.jar").touch()
    return folder


CASES = {
    "nothing-installed": ("none", None, "native"),
    "same-version": ("0.6.0", None, "paquo"),
    "newer": ("0.7.0-rc1", None, "paquo"),
    "older": ("0.5.1", None, "native"),
    "unknown-version": (None, None, "paquo"),
    "asked-native": ("0.6.0", "native", "native"),
    "asked-paquo": ("0.6.0", "paquo", "paquo"),
    "asked-paquo-older": ("0.5.1", "paquo", "paquo"),
}


@pytest.mark.parametrize(("version", "asked", "expected"), CASES.values(), ids=CASES.keys())
def test_init_chooses_the_store(
    project: Path, monkeypatch: pytest.MonkeyPatch, version: str, asked: object, expected: str
) -> None:
    found = None if version == "none" else Installation(Path("/opt/QuPath"), version)
    monkeypatch.setattr(init_step, "find_installation", lambda: found)
    result = init(project, store_kind=asked)  # type: ignore[arg-type]
    assert result.settings.project.store == expected
    assert f'store = "{expected}"' in result.settings_file.read_text("utf-8")


def test_an_older_qupath_is_named_in_a_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_step, "find_installation", lambda: Installation(Path(), "0.5.1"))
    assert any("0.5.1" in note and "0.6.0" in note for note in init(project).notes)


def test_asking_for_paquo_without_a_qupath_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_step, "find_installation", lambda: None)
    with pytest.raises(MissingComponentError, match="--store native"):
        init(project, store_kind="paquo")
    assert not (project / "glombridge" / "glombridge.toml").exists()


def test_settings_given_are_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_step, "find_installation", lambda: Installation(Path(), "0.7.0"))
    assert init(project, settings=Settings()).settings.project.store == "native"


@pytest.mark.skipif(sys.platform != "linux", reason="the layout of an installation on Linux")
def test_an_installation_is_found_by_paquos_settings(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed("0.6.0", tmp_path / "QuPath")
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(folder))
    assert find_installation() == Installation(folder / "lib" / "app", "0.6.0")
    assert init(project).settings.project.store == "paquo"
    assert isinstance(Project.open(project).store, PaquoStore)
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path))
    assert find_installation() is None
    with pytest.raises(MissingComponentError, match='store = "native"'):
        Project.open(project)


ORDER = [None, "", "0.4.4", "v0.5", "0.5.1", "0.6.0-rc3", "0.7.0", "0.10.0"]


def test_versions_are_ordered() -> None:
    numbers = [version_numbers(v) for v in ORDER]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(ORDER) - 1
