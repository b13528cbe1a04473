"""What is installed: the wheel holds all that the program needs, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import glombridge.api
from glombridge.cli.registry import cli
from glombridge.review.installation import shipped_scripts

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "qupath_golden" / "v0.6.0"
HEAVY = ("jpype", "matplotlib", "paquo", "torch", "ultralytics")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as it is packed: without what tests and a checkout leave in it."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("glombridge", "qupath_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the wheel; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    install = ["-m", "pip", "--python", folder, "install", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True, capture_output=True, timeout=300)
    # A path in a .pth file is searched last, and .pth files that lie there (of an editable glombridge)
    # are not read.
    asked = [programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return programs


def run(program: Path, *arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [program, *map(str, arguments)],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_the_package_and_the_scripts_and_nothing_else(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {n for n in archive.namelist() if ".dist-info/" not in n}
    there = {p.relative_to(source / "glombridge") for p in (source / "glombridge").rglob("*.*")}
    there |= {p.relative_to(source) for p in (source / "qupath_scripts").iterdir()}
    assert packed == {f"glombridge/{p.as_posix()}" for p in there}
    assert "glombridge/py.typed" in packed


def test_every_public_name_is_there_and_loads_nothing_heavy(
    bin_folder: Path, tmp_path: Path
) -> None:
    code = (
        "import json, sys, glombridge.api as api; "
        "there = [n for n in api.__all__ if hasattr(api, n)]; "
        "print(json.dumps([api.__file__, there, sorted(sys.modules)]))"
    )
    file, names, modules = json.loads(run(bin_folder / "python", "-c", code, cwd=tmp_path))
    assert Path(file).is_relative_to(bin_folder.parent)
    assert names == glombridge.api.__all__
    assert [name for name in HEAVY if name in modules] == []


def test_its_commands_work_away_from_any_checkout(bin_folder: Path, tmp_path: Path) -> None:
    program = bin_folder / "glombridge"
    told = run(program, "--help", cwd=tmp_path)
    assert [name for name in cli.commands if f"\n  {name} " not in told] == []
    shutil.copytree(GOLDEN, tmp_path / "project")
    run(program, "init", "project", "--store", "native", "--scheme", "oxford", cwd=tmp_path)
    shutil.rmtree(tmp_path / "project" / "scripts")
    written = json.loads(run(program, "scripts", "project", "--json", cwd=tmp_path))
    assert set(written["scripts"]) == set(shipped_scripts())
    assert set(written["scripts"].values()) == {"written"}
    assert written["scheme"].startswith("oxford")
