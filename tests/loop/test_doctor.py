"""``doctor``: every failing thing is one line with its way out, never a traceback."""

from __future__ import annotations

import importlib.abc
import json
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import files_in

from glombridge.cli import main
from glombridge.errors import InputError, MissingComponentError
from glombridge.ledger import ProjectLock, Workspace
from glombridge.qupath import ImageServerInfo, NativeStore, path_to_uri
from glombridge.settings import Settings
from glombridge.steps import doctor as doctor_step
from glombridge.steps import installed
from glombridge.steps.doctor import DoctorResult, doctor
from glombridge.steps.installed import Check, State, check_machine

INFO = ImageServerInfo(width=4096, height=3072, mpp_x=0.5, mpp_y=0.5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is well; the tests of projects need not look at it each time."""
    well = [Check("machine", State.OK, "well")]
    monkeypatch.setattr(doctor_step, "check_machine", lambda **_: list(well))


@pytest.fixture
def project(tmp_path: Path, data: Path) -> Path:
    """Two images, each with its own copy of a real slide."""
    (tmp_path / "slides").mkdir()
    store = NativeStore.create(tmp_path / "project")
    for name in ("a.tif", "b.tif"):
        shutil.copy(data / "slides" / "kidney_a.tif", tmp_path / "slides" / name)
        store.add_image(tmp_path / "slides" / name, metadata=INFO)
    Workspace(store.folder).create(Settings())
    return store.folder


def said(result: DoctorResult, state: State) -> list[Check]:
    return [c for c in result.checks if c.state is state]


class Broken(importlib.abc.MetaPathFinder):
    """Makes the import of a library fail as a broken installation does."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.error = name, error

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == self.name:
            raise self.error


@pytest.mark.parametrize(
    ("library", "error", "name", "says"),
    [
        pytest.param(
            "cv2", ImportError("libGL.so.1: cannot open"), "OpenCV", "apt-get", id="libgl"
        ),
        pytest.param(
            "openslide", ModuleNotFoundError("No module", name="x"), "OpenSlide", "pip", id="absent"
        ),
        pytest.param(
            "torchvision",
            RuntimeError("operator torchvision::nms does not exist"),
            "torchvision",
            "--force-reinstall torch torchvision",
            id="another-build",
        ),
        pytest.param(
            "cv2", OSError("disk\nfell out"), "OpenCV", "--force-reinstall", id="os-error"
        ),
    ],
)
def test_a_component_that_does_not_load_is_one_line(
    monkeypatch: pytest.MonkeyPatch, library: str, error: Exception, name: str, says: str
) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Broken(library, error), *sys.meta_path])
    missing = {c.name: c for c in check_machine() if c.state is State.MISSING}
    assert list(missing) == [name]
    assert says in missing[name].way_out
    assert "\n" not in missing[name].text
    with pytest.raises(MissingComponentError, match=name):
        DoctorResult(tuple(missing.values())).raise_if_ill()


def test_a_machine_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names = [c["name"] for c in document["machine"]]
    assert names[:4] == ["Python", "glombridge", "torch", "torchvision"]
    assert document["missing"] == document["problems"] == 0


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    card = SimpleNamespace(name="NVIDIA Test", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    assert installed._gpu().text == "0: NVIDIA Test, 24 GiB; 1: NVIDIA Test, 24 GiB"


@pytest.mark.skipif(platform.system() != "Linux", reason="folders as QuPath has them on Linux")
def test_qupath_and_its_java_are_found_without_starting_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "QuPath"
    for file in ("app/qupath-core-0.6.0.jar", "runtime/lib/server/libjvm.so", "runtime/release"):
        (home / "lib" / file).parent.mkdir(parents=True, exist_ok=True)
        (home / "lib" / file).write_text('JAVA_VERSION="21.0.4"\n', "utf-8")
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(home))
    check = installed._qupath(needed=True)
    assert (check.state, check.text.split(" in ")[0]) == (State.OK, "0.6.0 with Java 21.0.4")
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path))
    assert installed._qupath(needed=True).state is State.MISSING
    check = installed._qupath(needed=False)
    assert check.state is State.NOTE
    assert str(tmp_path) in check.text


def test_a_sound_project(project: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(project)
    result = doctor(project)
    assert {c.state for c in result.checks} == {State.OK}
    assert [i.size_px for i in result.images] == [(4096, 3072)] * 2
    assert [i.mpp for i in result.images] == [(0.5, 0.5)] * 2
    result.raise_if_ill()
    assert main(["doctor", str(project)]) == 0
    assert "2 slides opened, 0 with a problem" in capsys.readouterr().out
    assert files_in(project) == before


def spoil_json(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        file = project / "project.qpproj"
        document = json.loads(file.read_text("utf-8"))
        change(document["images"][0])
        file.write_text(json.dumps(document), "utf-8")

    return spoil


def metadata(image: dict[str, Any]) -> dict[str, Any]:
    return image["serverBuilder"]["metadata"]  # type: ignore[no-any-return]


def turn_around(image: dict[str, Any]) -> None:
    image["serverBuilder"] = {
        "builderType": "rotated",
        "rotation": "ROTATE_180",
        "builder": image["serverBuilder"],
        "metadata": metadata(image),
    }


def other_size(image: dict[str, Any]) -> None:
    metadata(image)["width"] = 17


def other_mpp(image: dict[str, Any]) -> None:
    for side in ("pixelWidth", "pixelHeight"):
        metadata(image)["pixelCalibration"][side]["value"] = 0.6


def second_name(image: dict[str, Any]) -> None:
    image["imageName"] = "b.tif"


def data_file(project: Path) -> Path:
    return project / "data" / "1" / "data.qpdata"


@pytest.mark.parametrize(
    ("spoil", "state", "says"),
    [
        pytest.param(
            lambda p: (p.parent / "slides" / "a.tif").unlink(),
            State.PROBLEM,
            "slides/a.tif",
            id="slide-missing",
        ),
        pytest.param(
            lambda p: (p.parent / "slides" / "a.tif").write_bytes(b"x"),
            State.PROBLEM,
            "not a slide",
            id="no-slide",
        ),
        pytest.param(spoil_json(other_size), State.PROBLEM, "17 x 3072", id="other-size"),
        pytest.param(spoil_json(other_mpp), State.NOTE, "20.0% apart", id="other-pixel-size"),
        pytest.param(spoil_json(turn_around), State.NOTE, "rotated", id="rotated"),
        pytest.param(spoil_json(second_name), State.NOTE, "entries 1, 2", id="same-name"),
        pytest.param(
            lambda p: data_file(p).write_bytes(data_file(p).read_bytes()[:200]),
            State.PROBLEM,
            "is damaged",
            id="damaged",
        ),
        pytest.param(
            lambda p: data_file(p).with_name("data.qpdata.bkp").write_bytes(b""),
            State.PROBLEM,
            ".bkp",
            id="bkp",
        ),
        pytest.param(
            lambda p: (p / "glombridge" / "glombridge.toml").write_text("sede = 1", "utf-8"),
            State.PROBLEM,
            "sede",
            id="settings",
        ),
        pytest.param(
            lambda p: (p / "glombridge" / "glombridge.toml").write_text(
                '[project]\nslides = {"http://x/y" = "z"}', "utf-8"
            ),
            State.PROBLEM,
            "slides in [project]",
            id="settings-path-map",
        ),
        pytest.param(
            lambda p: (p / "glombridge" / "glombridge.toml").unlink(),
            State.NOTE,
            "not set up",
            id="not-set-up",
        ),
        pytest.param(
            lambda p: (p / "glombridge" / "history.jsonl").write_text("nonsense\n", "utf-8"),
            State.PROBLEM,
            "line 1",
            id="history",
        ),
        pytest.param(
            lambda p: (p / "glombridge" / "lock").write_text(
                '{"host": "elsewhere", "pid": 7, "since": "2026"}', "utf-8"
            ),
            State.NOTE,
            "process 7 on host 'elsewhere' since 2026",
            id="lock-elsewhere",
        ),
        pytest.param(
            lambda p: (p / "project.qpproj").write_text("{", "utf-8"),
            State.PROBLEM,
            "not a QuPath project",
            id="no-project",
        ),
    ],
)
def test_what_is_wrong_with_a_project_is_one_line(
    project: Path, quick: None, spoil: Callable[[Path], Any], state: State, says: str
) -> None:
    spoil(project)
    result = doctor(project)
    found = said(result, state)
    assert len(found) == 1
    assert says in found[0].text
    assert "\n" not in found[0].text
    assert {c.state for c in result.checks} == {State.OK, state}
    if state is State.PROBLEM:
        with pytest.raises(InputError, match="1 problems"):
            result.raise_if_ill()
    else:
        result.raise_if_ill()


def test_a_lock_that_is_held_here(project: Path, quick: None) -> None:
    with ProjectLock(project / "glombridge" / "lock"):
        (check,) = said(doctor(project), State.NOTE)
    assert "on this host" in check.text


def test_a_library_that_fails_does_not_hide_the_objects(
    project: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_file(project).write_bytes(b"x")
    for module in [m for m in sys.modules if m == "glombridge.slides.reader"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(
        sys, "meta_path", [Broken("glombridge.slides.reader", ImportError("libGL"))]
    )
    result = doctor(project)
    assert [c.name for c in said(result, State.PROBLEM)] == ["image 'a.tif' (entry 1)"]
    assert len(said(result, State.NOTE)) == 2


def test_slides_that_have_moved(
    project: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = project.parent / "slides", project.parent / "archive"
    old.rename(new)
    assert main(["doctor", str(project)]) == 3
    assert main(["doctor", str(project), "--slides", f"{old}={new}"]) == 0
    assert main(["doctor", str(project), "--slides", f"{path_to_uri(old)}={path_to_uri(new)}"]) == 0
    assert main(["status", str(project), "--slides", f"{old}={new}", "--json"]) == 0
    assert main(["doctor", str(project), "--slides", "nonsense"]) == 2
    capsys.readouterr()
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    line = next(x for x in text.splitlines() if x.startswith("# slides"))
    settings.write_text(text.replace(line, f"slides = {{ {json.dumps(str(old))} = '../archive' }}"))
    assert main(["doctor", str(project)]) == 0
    capsys.readouterr()
    assert main(["status", str(project), "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert all(i["slide_found"] for i in images)
