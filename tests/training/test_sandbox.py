"""What ultralytics finds in its folder: whole files, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glombridge.errors import MachineError
from glombridge.training import sandbox


def test_its_files_are_never_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacing_fails: Callable[[int], None]
) -> None:
    """They are written once: half a font or half of the settings would stay for ever."""
    monkeypatch.setattr(sandbox.os, "environ", {})
    folder = tmp_path / "Ultralytics"
    for times, there in ((0, []), (1, ["settings.json"])):
        replacing_fails(times)
        with pytest.raises(MachineError):
            sandbox._prepare(tmp_path, allow_network=False)
        assert [p.name for p in folder.iterdir()] == there
        (folder / "settings.json").unlink(missing_ok=True)
    sandbox._prepare(tmp_path, allow_network=False)
    assert sorted(p.name for p in folder.iterdir()) == ["Arial.ttf", "settings.json"]
