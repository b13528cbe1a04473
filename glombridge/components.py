"""Libraries that do not load: what a person can do about it."""

from __future__ import annotations

OWN_PACKAGE = "glombridge"


def explain_import_error(error: BaseException) -> str | None:
    """The way out of a library not loading; ``None`` if the fault is our own.

    OpenCV without libGL is the most common case on servers, and has the worst traceback.
    """
    text = str(error)
    if any(library in text for library in ("libGL", "libgthread", "libglib")):
        return (
            f"OpenCV cannot start: {text}. This machine lacks a system library. Two ways out: "
            "install it (Debian and Ubuntu: 'apt-get install libgl1 libglib2.0-0'), or use OpenCV "
            "without windows: 'pip uninstall opencv-python' and then "
            "'pip install --force-reinstall opencv-python-headless'."
        )
    if "torchvision::nms" in text:
        return (
            f"torch and torchvision do not belong together: {text}. Install both from one place: "
            "'pip install --force-reinstall torch torchvision'."
        )
    missing = getattr(error, "name", None) or ""
    if isinstance(error, ModuleNotFoundError) and missing.split(".")[0] == OWN_PACKAGE:
        return None
    if isinstance(error, ModuleNotFoundError) or ".so" in text or "DLL" in text:
        return f"a library cannot be loaded: {text}. Run 'pip install {OWN_PACKAGE}' again."
    return None
