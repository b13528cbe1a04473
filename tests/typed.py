"""Commands as somebody types them, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from glombridge.cli import main


def run(*arguments: object) -> int:
    """The exit code."""
    return int(main([str(a) for a in arguments]))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The JSON document on standard output, ``None`` where an error left none."""
    capsys.readouterr()
    given = run(*arguments, "--json")
    told = capsys.readouterr()
    assert given == code, told.err
    return json.loads(told.out) if told.out else None
