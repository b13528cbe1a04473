"""The road of the design: a room imports only what stands before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import glombridge

ROOT = Path(glombridge.__file__).parent
ROAD = [
    {"__init__"},
    {"components", "errors", "filenames", "placement", "progress", "provenance"},
    {"objects"},
    {"schemes"},
    {"settings", "frames", "geojson_codec"},
    {"qupath"},
    {"ledger"},
    {"slides"},
    {"tiles"},
    {"training"},
    {"detection"},
    {"evaluation"},
    {"sync"},
    {"review"},
    {"report"},
    {"steps"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
PLACE = {room: place for place, rooms in enumerate(ROAD) for room in rooms}
# frames names the type of a project's entry in annotations only.
ALLOWED = {("frames", "qupath")}


def imported(path: Path) -> set[str]:
    """Rooms of glombridge that a module imports, wherever in it."""
    package = list(path.relative_to(ROOT).parts[:-1])
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            full = [*base, *(node.module.split(".") if node.module else [])]
            names = [full[0]] if full else [alias.name for alias in node.names]
            rooms.update("__init__" if n == "__version__" else n for n in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glombridge"):
            rooms.add((node.module or "").split(".")[1])
    return rooms


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_room_imports_one_to_its_right(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in imported(path) - {room}:
        assert PLACE[other] <= PLACE[room] or (room, other) in ALLOWED, f"{room} imports {other}"


def test_every_room_has_a_place() -> None:
    rooms = {p.stem for p in ROOT.glob("*.py")} | {p.name for p in ROOT.iterdir() if p.is_dir()}
    assert rooms - {"__pycache__"} == set(PLACE)
