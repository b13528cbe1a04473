"""A project of thousands of images: what is asked once stays asked once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from glombridge.cli import console, main
from glombridge.qupath import create_project, gson, locations, path_to_uri, project_file
from glombridge.steps.status import status


def large_project(folder: Path, n: int) -> Path:
    """Only the small JSON files, no slides and no data files; half of the slides exist."""
    project = create_project(folder / "project")
    slides = folder / "slides"
    slides.mkdir()
    project.document["images"] = [
        {
            "serverBuilder": {
                "builderType": "uri",
                "providerClassName": project_file.OPENSLIDE_PROVIDER,
                "uri": path_to_uri(slides / f"{k}.svs"),
                "args": [],
                "metadata": {"name": f"{k}.svs", "width": 100000, "height": 80000},
            },
            "entryID": k,
            "randomizedName": str(k),
            "imageName": f"{k // 2}.svs",
            "metadata": {"patient": f"P{k // 3}"},
        }
        for k in range(1, n + 1)
    ]
    project.path.write_text(json.dumps(project.document), "utf-8")
    for k in range(1, n + 1, 2):
        (slides / f"{k}.svs").touch()
    return project.path


@pytest.mark.parametrize("n", [10, 10_000])
def test_status_asks_the_file_system_as_often_for_many_as_for_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    path = large_project(tmp_path, n)
    calls = {"parse": 0, "list": 0, "exists": 0}

    def counted(name: str, owner: object, attribute: str) -> None:
        real = getattr(owner, attribute)

        def call(*arguments: object, **options: object) -> object:
            calls[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, attribute, call)

    counted("parse", gson, "loads")
    counted("list", os, "scandir")
    counted("exists", locations.os.path, "exists")
    result = status(path)
    assert len(result.images) == n
    assert sum(i["slide_found"] for i in result.images) == n // 2
    assert calls["parse"] == 1
    assert calls["list"] < 10
    assert calls["exists"] < 10


def test_what_is_too_long_to_read_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n = console.MOST_ROWS + 200
    project = large_project(tmp_path, n)
    assert main(["status", str(project)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(" MISSING " in line or " found " in line for line in lines) == console.MOST_ROWS
    assert "... and 200 more rows, all with --json" in lines
    assert f"slides missing: {n // 2} of {n}" in lines
    assert main(["status", str(project), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == n
