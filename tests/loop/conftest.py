"""One walk of the tiny loop, shared by the tests that only look at it, and copies to spoil."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from walked_copy import copy_of

from glombridge.demo.run import DemoResult, run_demo


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
