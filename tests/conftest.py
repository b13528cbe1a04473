"""What all tests share: where the fixtures lie, and which tools the marked tests need."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from glombridge.ledger import running_qupath
from glombridge.qupath.paquo.installation import find_installation
from glombridge.training.trust import CONFIG_VARIABLE

DATA = Path(__file__).parent / "data"

# A machine that is busy, or a disk that is far away, is no fault.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def _missing_tools() -> dict[str, str]:
    missing = {}
    if find_installation() is None:
        missing["qupath"] = "no QuPath: set PAQUO_QUPATH_DIR to an installation of QuPath"
    if shutil.which("node") is None:
        missing["node"] = "Node.js is not installed"
    if shutil.which("chromium") is None and shutil.which("chromium-browser") is None:
        missing["chromium"] = "Chromium is not installed"
    modules = Path(os.environ.get("GLOMBRIDGE_NODE_MODULES", DATA.parents[1] / "node_modules"))
    if shutil.which("java") is None:
        missing["groovy"] = "Java is not installed"
    elif not (modules / "npm-groovy-lint").is_dir():
        missing["groovy"] = f"npm-groovy-lint is not in {modules}: 'npm install npm-groovy-lint'"
    if (
        shutil.which("strace") is None
        or subprocess.run(["strace", "true"], capture_output=True).returncode
    ):
        missing["strace"] = "strace is not installed, or may not trace here"
    return missing


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = _missing_tools()
    required = os.environ.get("GLOMBRIDGE_REQUIRE", "").split()
    for item in items:
        for tool, reason in missing.items():
            if item.get_closest_marker(tool):
                if tool in required:
                    # CI installs these itself: a skip there would hide that nothing was tested.
                    raise pytest.UsageError(f"{item.nodeid} needs {tool}: {reason}")
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def users_own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests trust weights; that must not stay behind with whoever runs them."""
    folder = tmp_path_factory.mktemp("configuration")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_VARIABLE, str(folder))
        yield folder


@pytest.fixture
def data() -> Path:
    """The folder of golden projects, exports and slides. Copy before writing."""
    return DATA


@pytest.fixture(autouse=True)
def no_qupath(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a QuPath open; only tests about that may see one."""
    monkeypatch.setattr(running_qupath, "running_qupath", list)


@pytest.fixture
def replacing_fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Once so many files took their places in this process, one cannot."""
    replace = os.replace

    def fail_after(times: int) -> None:
        left = times

        def failing(*paths: Path) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise OSError(errno.EIO, "Input/output error")
            replace(*paths)

        monkeypatch.setattr("glombridge.qupath.saving.os.replace", failing)

    return fail_after
