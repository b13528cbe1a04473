"""What a training ran on, for its manifest."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil


def hardware(device: str) -> dict[str, Any]:
    """Processor, memory and, for a GPU, card and driver; nothing that names the machine."""
    import torch

    facts: dict[str, Any] = {
        "device": device,
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    if device not in ("cpu", "mps"):
        cards = [torch.cuda.get_device_properties(int(number)) for number in device.split(",")]
        facts["gpus"] = [{"name": c.name, "memory_bytes": c.total_memory} for c in cards]
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def _cpu_name() -> str:
    facts = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    for line in facts.read_text("utf-8").splitlines() if facts.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
