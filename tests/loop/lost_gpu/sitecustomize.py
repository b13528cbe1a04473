"""Put on the path of the processes a test starts: some of them lose their GPU while the model runs.

There is no GPU here. The network of such a process raises, from some call on and for ever, what torch
raises where the card is gone: after such an error CUDA answers every call of the process with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

ILLEGAL_ACCESS = (
    "CUDA error: an illegal memory access was encountered\n"
    "Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda/ for more information.\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
    "might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
)
CALLS, CLAIMS, MOST = "GLOMBRIDGE_TEST_CALLS", "GLOMBRIDGE_TEST_CLAIMS", "GLOMBRIDGE_TEST_MOST"


def error_of(text: str = ILLEGAL_ACCESS) -> RuntimeError:
    """As torch raises errors of the CUDA runtime since 2.8; before, they were plain."""
    import torch

    kind: type[RuntimeError] = getattr(torch, "AcceleratorError", RuntimeError)
    return kind(text)


def losing(after: int, is_lost: Callable[[], bool] = lambda: True) -> Callable[..., None]:
    """``Detector.__init__`` whose network works for so many batches."""
    from glombridge.detection.detector import Detector

    init = Detector.__init__

    def made(self: Any, *given: Any, **options: Any) -> None:
        init(self, *given, **options)
        net, calls = self._net, 0

        def network(batch: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after and is_lost():
                raise error_of()
            return net(batch)

        network.end2end = getattr(net, "end2end", False)  # type: ignore[attr-defined]
        self._net = network

    return made


def one_of(claims: Path, most: int) -> Callable[[], bool]:
    """Whether this process is among the first so many that ask."""
    answer: list[bool] = []

    def is_lost() -> bool:
        if not answer:
            (claims / str(os.getpid())).touch()
            first = sorted(claims.iterdir(), key=lambda p: p.stat().st_mtime_ns)[:most]
            answer.append(str(os.getpid()) in {p.name for p in first})
        return answer[0]

    return is_lost


if CLAIMS in os.environ:
    from glombridge.detection.detector import Detector

    _is_lost = one_of(Path(os.environ[CLAIMS]), int(os.environ[MOST]))
    Detector.__init__ = losing(int(os.environ[CALLS]), _is_lost)  # type: ignore[method-assign]
