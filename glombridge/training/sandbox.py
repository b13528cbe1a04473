"""The only door to ultralytics: no network, no files outside the project, no surprises.

Left alone, ultralytics 8.4 looks for the network when imported, downloads a font when it checks a
dataset and a model when it checks mixed precision, installs missing packages, reports usage, and
writes its settings into the user's home. Everything here switches one of those off.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from functools import partial, partialmethod
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..components import explain_import_error
from ..errors import MissingComponentError
from ..qupath.saving import atomic_write

_GPUS_WITHOUT_MIXED_PRECISION = re.compile(
    r"(nvidia|geforce|quadro|tesla).*?(1660|1650|1630|t400|t550|t600|t1000|t1200|t2000|k40m)",
    re.IGNORECASE,
)
"""Cards on which ultralytics' own check finds broken half precision (its list, 8.4.190)."""


def load_ultralytics(cache: Path, *, allow_network: bool = False) -> ModuleType:
    """Import ultralytics with its reach limited to one folder.

    ultralytics reads its environment once, at import; the first folder of a process stays.

    Args:
        cache: folder for its settings and font; made if missing.
        allow_network: the user asked for something that must be downloaded.

    Raises:
        MissingComponentError: ultralytics, torch or OpenCV cannot be imported; the message says
            what to install.
    """
    if "ultralytics" not in sys.modules:
        _prepare(cache, allow_network=allow_network)
    try:
        import ultralytics
    except (ImportError, RuntimeError) as error:
        raise MissingComponentError(explain_import_error(error) or str(error)) from error
    quieten()
    module: ModuleType = ultralytics
    return module


def use_threads(threads: int | None) -> int:
    """Let torch use this many CPU threads, all cores by default; returns the number.

    ultralytics takes one less than the machine has, which halves the speed of two cores, and sets
    that again whenever it selects the CPU. Call this after :func:`load_ultralytics`.
    """
    import torch
    from ultralytics.utils import torch_utils

    count = threads or os.cpu_count() or 1
    torch_utils.NUM_THREADS = count
    torch.set_num_threads(count)
    return count


def _prepare(cache: Path, *, allow_network: bool) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "Ultralytics"
    folder.mkdir(exist_ok=True)
    os.environ["YOLO_CONFIG_DIR"] = str(cache)
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    # Weights are pickled programs; this reads only the classes ultralytics itself writes.
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"
    os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    if not allow_network:
        os.environ["YOLO_OFFLINE"] = "true"
    # Without this file ultralytics would point its folders beside the working directory.
    settings = {"sync": False, "api_key": "", "vscode_msg": False, "openvino_msg": False}
    settings |= dict.fromkeys(("clearml", "comet", "dvc", "mlflow", "raytune", "wandb"), False)
    settings |= {f"{name}_dir": str(cache / name) for name in ("datasets", "weights", "runs")}
    path = folder / "settings.json"
    if not path.exists():
        atomic_write(path, json.dumps(settings).encode())
    font = folder / "Arial.ttf"
    spec = find_spec("matplotlib")
    if not font.exists() and spec is not None and spec.origin:
        # It asks for Arial by file name and would download it; any TrueType font serves.
        fonts = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
        atomic_write(font, (fonts / "DejaVuSans.ttf").read_bytes())


def quieten() -> None:
    """Switch off what ultralytics does of its own accord; for each process that imports it."""
    from ultralytics.engine import trainer
    from ultralytics.utils import LOGGER, SETTINGS, TQDM, nms

    LOGGER.setLevel(logging.ERROR)
    if SETTINGS["sync"]:
        SETTINGS.update({"sync": False})
    trainer.check_amp = _check_mixed_precision
    if not hasattr(TQDM, "_glombridge_quiet"):
        # Some of its bars ignore every setting and would write into ours, or into --json.
        TQDM.__init__ = partialmethod(_start_disabled, TQDM.__init__)
        TQDM._glombridge_quiet = True
    if not isinstance(nms.non_max_suppression, partial):
        # Its suppression stops after a number of seconds and drops the boxes of the tiles that are
        # left, with a warning: on a busy machine objects would vanish.
        nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=float("inf"))


def _start_disabled(bar: Any, start: Any, *args: Any, **kwargs: Any) -> None:
    start(bar, *args, **{**kwargs, "disable": True})


def _check_mixed_precision(model: Any) -> bool:
    """Stands in for ultralytics' check, which downloads a model to compare with."""
    import torch

    device = next(model.parameters()).device
    if device.type != "cuda":
        return False
    return not _GPUS_WITHOUT_MIXED_PRECISION.search(torch.cuda.get_device_name(device))
