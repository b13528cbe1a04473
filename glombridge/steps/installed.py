"""What is installed on this machine and works, one check each; for ``doctor``.

Every import of a library stands inside its check: one that does not load is a line, no traceback.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..components import explain_import_error
from ..ledger.running_qupath import running_qupath

OLDEST_PYTHON = (3, 10)
FAILURES = (ImportError, OSError, RuntimeError, AttributeError, ValueError, TypeError, SyntaxError)
"""What a broken installation of a library was seen to raise when it is imported or first used."""


class State(str, Enum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        text: what was found, in one line.
        way_out: what a person can do, ``""`` = nothing has to be done.
    """

    name: str
    state: State
    text: str
    way_out: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "state": self.state.value,
            "text": self.text,
            "way_out": self.way_out,
        }


def check_machine(*, needs_qupath: bool = False) -> list[Check]:
    """Look at every component.

    Args:
        needs_qupath: the project is opened through paquo, so a missing QuPath is a fault.
    """
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("Python", _python),
        ("glombridge", lambda: Check("glombridge", State.OK, __version__)),
        ("torch", _torch),
        ("torchvision", _torchvision),
        ("GPU", _gpu),
        ("ultralytics", _ultralytics),
        ("OpenSlide", _openslide),
        ("OpenCV", _opencv),
        ("paquo", lambda: _paquo(needs_qupath)),
        ("QuPath", lambda: _qupath(needs_qupath)),
        ("running QuPath", _running),
    ]
    return [_one_line(_guarded(name, check)) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except FAILURES as error:
        explained = explain_import_error(error)
        if explained is not None:
            text, _, way_out = explained.partition(": ")
            return Check(name, State.MISSING, text, way_out)
        way_out = f"Install it again: 'pip install --force-reinstall {name.lower()}'."
        return Check(
            name, State.MISSING, f"does not work: {error or type(error).__name__}", way_out
        )


def _one_line(check: Check) -> Check:
    text, way_out = (" ".join(t.split()) for t in (check.text, check.way_out))
    return Check(check.name, check.state, text, way_out)


def _python() -> Check:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Check("Python", State.MISSING, text, f"glombridge needs {wanted} or later.")
    return Check("Python", State.OK, text)


def _torch() -> Check:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return Check("torch", State.OK, f"{torch.__version__}, {cuda}")


def _torchvision() -> Check:
    import torch
    import torchvision

    # A torchvision of another build imports well enough and fails at its first operator.
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    torchvision.ops.nms(boxes, torch.tensor([1.0]), 0.5)
    return Check("torchvision", State.OK, f"{torchvision.__version__}, belongs to this torch")


def _gpu() -> Check:
    try:
        import torch
    except FAILURES:
        return Check("GPU", State.NOTE, "not known without torch")
    if torch.cuda.is_available():
        found = []
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            found.append(f"{number}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        return Check("GPU", State.OK, "; ".join(found))
    if torch.backends.mps.is_available():
        return Check("GPU", State.OK, "Apple (--device mps)")
    driver = "" if torch.version.cuda is None else " (torch could use one: is the driver there?)"
    return Check("GPU", State.NOTE, f"none found{driver}; training takes many times longer")


def _ultralytics() -> Check:
    # Not imported: it looks for the network and writes into the home folder, see the sandbox.
    try:
        return Check("ultralytics", State.OK, version("ultralytics"))
    except PackageNotFoundError:
        way_out = "Install it: 'pip install ultralytics'."
        return Check("ultralytics", State.MISSING, "not installed", way_out)


def _openslide() -> Check:
    import openslide

    text = f"library {openslide.__library_version__}, Python binding {openslide.__version__}"
    return Check("OpenSlide", State.OK, text)


def _opencv() -> Check:
    import cv2

    return Check("OpenCV", State.OK, str(cv2.__version__))


def _paquo(needed: bool) -> Check:
    try:
        return Check("paquo", State.OK, version("paquo"))
    except PackageNotFoundError:
        state = State.MISSING if needed else State.NOTE
        return Check("paquo", state, "not installed", "Install it: 'pip install paquo'.")


def _qupath(needed: bool) -> Check:
    from ..qupath.paquo.installation import find_installation

    found = find_installation()
    if found is not None:
        java = _java_version(found.app_folder)
        text = f"{found.version or 'unknown version'} with {java} in {found.app_folder}"
        return Check("QuPath", State.OK, text)
    given = os.environ.get("PAQUO_QUPATH_DIR")
    text = f"PAQUO_QUPATH_DIR={given} is no installation of QuPath" if given else "none found"
    if needed:
        way_out = (
            'The settings say store = "paquo": set PAQUO_QUPATH_DIR to the folder of QuPath, or '
            'write store = "native" into [project].'
        )
        return Check("QuPath", State.MISSING, text, way_out)
    return Check(
        "QuPath", State.NOTE, f"{text}; not needed, projects are read and written without it"
    )


def _java_version(app: Path) -> str:
    """Of the Java that comes with QuPath, from its ``release`` file; nothing is started."""
    runtime = app.parent / "runtime"
    for home in (runtime, runtime / "Contents" / "Home"):
        try:
            text = (home / "release").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
        if found:
            return f"Java {found[1]}"
    return "its own Java"


def _running() -> Check:
    pids = running_qupath()
    if not pids:
        return Check("running QuPath", State.OK, "none on this machine (others cannot be seen)")
    text = f"process {', '.join(map(str, pids))}"
    return Check("running QuPath", State.NOTE, text, "Close the project in it before a push.")
