"""One walk of the tiny loop, shared by the tests that only look at it, and copies to spoil."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from glombridge.demo.run import DemoResult, run_demo
from glombridge.qupath import path_to_uri


@pytest.fixture(scope="session")
def network_calls() -> list[str]:
    """Every attempt to reach the network while the loop was walked."""
    return []


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory, network_calls: list[str]) -> DemoResult:
    folder = tmp_path_factory.mktemp("walked") / "demo"

    def attempt(name: str) -> Any:
        def refuse(*arguments: object, **_: object) -> None:
            network_calls.append(f"{name} {arguments}")
            raise OSError(f"the loop may not use the network: {name} {arguments}")

        return refuse

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", attempt("connect"))
        patch.setattr(socket.socket, "connect_ex", attempt("connect_ex"))
        patch.setattr(socket, "getaddrinfo", attempt("getaddrinfo"))
        return run_demo(folder, seed=5, quick=True)


@pytest.fixture
def project(walked: DemoResult, tmp_path: Path) -> Path:
    """A copy of the walked project, its slides beside it, ready to be spoilt."""
    return copy_of(walked, tmp_path / "copy")


def copy_of(walked: DemoResult, copy: Path) -> Path:
    """The walked project in another folder, its slides linked beside it."""
    root = walked.project_file.parent.parent
    copy.mkdir()
    shutil.copytree(root / "project", copy / "project")
    (copy / "slides").mkdir()
    for slide in (root / "slides").glob("*.tif"):
        os.link(slide, copy / "slides" / slide.name)
    # The original slides are still where the project says: point it at the copies.
    file = copy / "project" / "project.qpproj"
    text = file.read_text("utf-8")
    assert path_to_uri(root / "slides") in text
    file.write_text(
        text.replace(path_to_uri(root / "slides"), path_to_uri(copy / "slides")), encoding="utf-8"
    )
    return copy / "project"
