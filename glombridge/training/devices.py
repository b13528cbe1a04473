"""Which devices there are to train on."""

from __future__ import annotations

from ..errors import InputError


def training_device(device: str | None) -> str:
    """The device as ultralytics names it: ``cpu``, ``mps``, ``0``, ``0,1``; a GPU if there is one.

    Raises:
        InputError: a GPU was asked for that torch does not see.
    """
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return "0" if n_gpus else "cpu"
    if device == "cpu":
        return device
    if device == "mps":
        if torch.backends.mps.is_available():
            return device
        msg = "device 'mps' is Apple's GPU, and torch sees none on this machine. Give --device cpu."
        raise InputError(msg)
    numbers = [part.strip().removeprefix("cuda:") for part in device.split(",")]
    if not all(number.isdigit() for number in numbers) or len(set(numbers)) < len(numbers):
        msg = f"no device {device!r}. Give cpu, mps, or the numbers of GPUs: 0 or 0,1."
        raise InputError(msg)
    absent = [number for number in numbers if int(number) >= n_gpus]
    if absent:
        seen = f"torch sees {n_gpus}" if n_gpus else "torch sees no GPU"
        way_out = f"Give --device {'0' if n_gpus else 'cpu'}"
        msg = (
            f"device {device!r}: there is no GPU {', '.join(absent)} on this machine ({seen}). {way_out}, "
            "or see what 'glombridge doctor' says about the GPU."
        )
        raise InputError(msg)
    return ",".join(numbers)
