"""Path maps, several files per entry, and projects of thousands of images."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from glombridge.errors import UsageError
from glombridge.qupath import NativeStore, SlideMap, create_project, gson, path_to_uri
from glombridge.qupath.locations import uri_to_path
from glombridge.qupath.project_file import ProjectFile
from glombridge.qupath.store import ImageEntry

posix_only = pytest.mark.skipif(os.name == "nt", reason="the new place is a POSIX path")


@posix_only
@pytest.mark.parametrize(
    ("rule", "uri", "place"),
    [
        pytest.param(r"D:\slides=/mnt/s", "file:/D:/slides/a/k.svs", "/mnt/s/a/k.svs", id="drive"),
        pytest.param("D:/slides=/mnt/s", "file:///D:/slides/k.svs", "/mnt/s/k.svs", id="slashes"),
        pytest.param(r"d:\SLIDES\=/mnt/s/", "file:/D:/Slides/k.svs", "/mnt/s/k.svs", id="case"),
        pytest.param("file:/D:/slides=/mnt/s", "file:/D:/slides/k.svs", "/mnt/s/k.svs", id="uri"),
        pytest.param("D:=/mnt/d", "file:/D:/k.svs", "/mnt/d/k.svs", id="drive-letter"),
        pytest.param("D:\\=/mnt/d", "file:/D:/x/k.svs", "/mnt/d/x/k.svs", id="whole-drive"),
        pytest.param(r"\\srv\scans=/mnt/s", "file://srv/scans/k.svs", "/mnt/s/k.svs", id="unc"),
        pytest.param("//SRV/scans=/mnt/s", "file:////srv/scans/k.svs", "/mnt/s/k.svs", id="unc-2"),
        pytest.param("file://srv/scans=/mnt/s", r"\\srv\scans\k.svs", "/mnt/s/k.svs", id="unc-3"),
        pytest.param("/data=/mnt/s", "file:///data/k%201%3D.svs", "/mnt/s/k 1=.svs", id="escaped"),
        pytest.param("/a b=file:///mnt/s%20t", "file:/a%20b/k.svs", "/mnt/s t/k.svs", id="new-uri"),
        pytest.param("file:/a%3Db=/mnt/s=1", "file:/a=b/k.svs", "/mnt/s=1/k.svs", id="equals"),
        pytest.param("/data/k.svs=/mnt/x.svs", "file:/data/k.svs", "/mnt/x.svs", id="one-file"),
        pytest.param("/dat=/mnt/s", "file:/data/k.svs", None, id="not-half-a-name"),
        pytest.param("/DATA=/mnt/s", "file:/data/k.svs", None, id="case-counts-on-posix"),
        pytest.param("/slides=/mnt/s", "file:/D:/slides/k.svs", None, id="posix-for-windows"),
        pytest.param(r"D:\slides=/mnt/s", "file:/slides/k.svs", None, id="windows-for-posix"),
    ],
)
def test_a_path_map(rule: str, uri: str, place: str | None) -> None:
    written = uri_to_path(uri)
    assert written is not None
    assert SlideMap.parse([rule]).apply(written) == ([] if place is None else [Path(place)])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        pytest.param("/data", "OLD=NEW", id="no-equals"),
        pytest.param("=/mnt", "neither a path", id="no-old"),
        pytest.param("/data=", "neither a path", id="no-new"),
        pytest.param("omero:1=/mnt", "neither a path", id="other-scheme"),
        pytest.param("http://x/y=/mnt", "neither a path", id="web"),
        pytest.param(
            "/data=" + ("/mnt" if os.name == "nt" else "D:\\slides"), "another kind", id="foreign"
        ),
    ],
)
def test_a_path_map_that_is_none(rule: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SlideMap.parse([rule])


def test_a_map_of_the_settings_for_another_system_is_left_alone(tmp_path: Path) -> None:
    foreign = "/mnt/s" if os.name == "nt" else "D:\\s"
    rules = {"/old": foreign, "/old/": "slides"}
    found = SlideMap.from_settings(rules, tmp_path).apply(PurePosixPath("/old/k.svs"))
    assert found == [tmp_path / "slides" / "k.svs"]


def test_rules_are_tried_in_order_and_the_first_file_wins(tmp_path: Path) -> None:
    for name in ("a", "b", "project"):
        (tmp_path / name).mkdir()
    project = create_project(tmp_path / "project")
    entry = project.add_image(tmp_path / "gone" / "k.svs")
    project.save()
    store = NativeStore.open(tmp_path / "project")
    old = tmp_path / "gone"
    slides = SlideMap.parse([f"{old}={tmp_path / 'a'}"]) + SlideMap.parse(
        [f"{old}={tmp_path / 'b'}"]
    )
    assert store.slide_path(entry, slides) is None
    (tmp_path / "b" / "k.svs").touch()
    assert store.slide_path(entry, slides) == tmp_path / "b" / "k.svs"
    (tmp_path / "a" / "k.svs").touch()
    assert store.slide_path(entry, slides) == tmp_path / "a" / "k.svs"
    assert store.slide_path(entry) is None


def test_of_several_files_the_first_that_exists_is_the_slide(tmp_path: Path) -> None:
    project = create_project(tmp_path / "project")
    files = [tmp_path / name for name in ("a.mrxs", "b.mrxs", "c.mrxs")]
    entry = ImageEntry(1, "k", tuple(path_to_uri(f) for f in files))
    store = NativeStore.open(project.path)
    assert store.slide_path(entry) is None
    files[2].touch()
    assert store.slide_path(entry) == files[2]
    files[1].touch()
    assert store.slide_path(entry) == files[1]
    assert [f.found for f in store.slide_finder().files(entry)] == [None, *files[1:]]
    assert [f.tried[0] for f in store.slide_finder().files(entry)] == files


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        pytest.param("k.svs", "k.svs", True, id="there"),
        pytest.param("k.svs", "other.svs", False, id="another"),
        pytest.param("Glomérule.svs", "Glomérule.svs", True, id="accent"),
        pytest.param(None, "k.svs", False, id="no-folder"),
    ],
)
def test_a_look_at_all_slides_is_the_same_as_at_each(
    tmp_path: Path, there: str | None, asked: str, found: bool
) -> None:
    project = create_project(tmp_path / "project")
    if there:
        (tmp_path / "slides").mkdir()
        (tmp_path / "slides" / there).touch()
    entry = ImageEntry(1, "k", (path_to_uri(tmp_path / "slides" / asked),))
    store = NativeStore.open(project.path)
    expected = tmp_path / "slides" / asked if found else None
    assert store.slide_path(entry) == store.slide_finder().find(entry) == expected


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_that_leads_nowhere_is_no_slide(tmp_path: Path) -> None:
    project = create_project(tmp_path / "project")
    (tmp_path / "k.svs").symlink_to(tmp_path / "gone.svs")
    entry = ImageEntry(1, "k", (path_to_uri(tmp_path / "k.svs"),))
    assert NativeStore.open(project.path).slide_finder().find(entry) is None


def test_windows_paths_in_a_map_keep_their_flavour() -> None:
    ((old, _),) = SlideMap.parse(
        ["//srv/share=/mnt" if os.name != "nt" else "//srv/share=C:/x"]
    ).rules
    assert old == PureWindowsPath(r"\\srv\share")


def test_the_project_file_is_parsed_once_and_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = create_project(tmp_path / "project")
    for k in range(20):
        project.add_image(tmp_path / f"{k}.svs")
    project.save()
    parses = 0
    loads = gson.loads

    def counting(data: bytes) -> object:
        nonlocal parses
        parses += 1
        return loads(data)

    monkeypatch.setattr(gson, "loads", counting)
    store = NativeStore.open(project.path)
    for age_seconds in (0, 3600):  # written just now, and long ago
        stat = project.path.stat()
        os.utime(project.path, ns=(stat.st_atime_ns, stat.st_mtime_ns - age_seconds * 10**9))
        for entry in store.images():
            store.slide_path(entry)
            store.read(entry.id)
    assert parses == 1
    other = ProjectFile.open(project.path)
    other.set_image_metadata(3, {"patient": "P1"})
    other.save()
    assert store.entry(3).metadata == {"patient": "P1"}
    assert parses == 3
    # Of the same length, and within the resolution of a coarse clock.
    data, stat = project.path.read_bytes(), project.path.stat()
    project.path.write_bytes(data.replace(b"P1", b"P2"))
    os.utime(project.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.entry(3).metadata == {"patient": "P2"}
