"""What torch and the libraries below it raise when a device has no memory left, or works no more.

Since 2.8 torch raises ``torch.AcceleratorError`` for errors of the CUDA runtime; before, and for
cuBLAS, cuDNN and NCCL to this day, a plain ``RuntimeError``. So errors are told by their words
(c10/cuda/CUDAException.cpp, ATen/cuda/Exceptions.h of torch 2.15, and those of ROCm beside them).
"""

from __future__ import annotations

from ..errors import DeviceError, GlombridgeError

_NO_MEMORY = (
    "out of memory",
    # What torch says where a CPU's memory ends.
    "can't allocate memory",
    # What CUDA's libraries say instead when the last bit is gone (ultralytics 8.4 lists the same).
    "cublas_status_alloc_failed",
    "cudnn_status_internal_error",
    "unable to find an engine",
    # Of ultralytics' measuring of batches: not even the smallest could be tried.
    "no usable batch size found",
)
_FAILED = (
    *("cuda error", "cuda driver error", "hip error", "nccl error", "miopen error"),
    *("cudnn error", "cudnn frontend error", "cublas_status_", "cusolver error"),
    # A driver that went away between two looks at it.
    *("found no nvidia driver", "no cuda gpus are available", "invalid device id"),
    "invalid cuda 'device=",  # ultralytics, of a GPU that was there when it was asked for
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch could help."""
    text = str(error).lower()
    return any(words in text for words in _NO_MEMORY)


def is_device_failure(error: Exception) -> bool:
    """Whether a device does not work any more; whatever is asked of it next would fail as well.

    After an illegal access or a lost card CUDA answers every call of the process with that error.
    """
    if isinstance(error, GlombridgeError) or is_out_of_memory(error):
        return False
    text = str(error).lower()
    return any(words in text for words in _FAILED)


def device_failed(device: str, error: Exception, kept: str = "") -> DeviceError:
    """What to say of a device that does not work any more.

    Args:
        device: as torch names it.
        error: what was raised. torch adds advice for programmers below its first line.
        kept: what is kept and the way on, as sentences.
    """
    said = str(error).strip().partition("\n")[0].rstrip(".")
    msg = (
        f"device {device} works no more: {said}. See what 'nvidia-smi' and 'glombridge doctor' say of it; a "
        "lost GPU comes back with its driver or with a restart of the machine."
    )
    return DeviceError(f"{msg} {kept}" if kept else msg)
