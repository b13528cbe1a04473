"""Two processes of ultralytics' launcher on one CPU, in place of two GPUs.

Import after ultralytics is loaded. Everything is the real thing but three: how many devices there are, gloo in
place of NCCL, and that PyTorch is told of no GPU for the shared model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, RANK

from glombridge.training.engine import DetectTrainer

FAIL = "GLOMBRIDGE_TEST_FAIL"
"""What goes wrong in the second epoch: ``crash`` or ``memory``."""

_shared = torch.nn.parallel.DistributedDataParallel


def _on_cpu(model: Any, device_ids: object = None, **options: Any) -> Any:
    return _shared(model, **options)


class PairTrainer(DetectTrainer):
    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None
    ) -> None:
        super().__init__(cfg, {**overrides, "device": "cpu"}, _callbacks)
        self.world_size = 2
        self.ddp = LOCAL_RANK == -1

    def _setup_ddp(self) -> None:
        torch.set_num_threads(1)
        torch.nn.parallel.DistributedDataParallel = _on_cpu
        dist.init_process_group("gloo", rank=RANK, world_size=2)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.epoch == 1 and RANK == 1 and os.environ.get(FAIL) == "memory":
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB."
            raise torch.cuda.OutOfMemoryError(msg)
        if self.epoch == 1 and RANK == 1 and os.environ.get(FAIL) == "crash":
            os._exit(9)
        if self.model.training:
            names = [Path(f).name for f in batch["im_file"]]
            with (self.save_dir.parent.parent / f"seen-{RANK}.txt").open("a") as file:
                file.write(f"{self.epoch} {' '.join(names)}\n")
        return super().preprocess_batch(batch)
