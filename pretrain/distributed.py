"""Training with several processes started by `torchrun`."""

from __future__ import annotations

import atexit
import gc
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class Workers:
    """The processes that train together. With a single process, the collective operations do nothing.

    `local_rank` is the rank of this process on its machine, and the number of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Returns the device of this process: `cuda` becomes the GPU of the local rank."""
        return torch.device(f"cuda:{self.local_rank}" if name == "cuda" and self.world_size > 1 else name)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wraps a network so that gradients are averaged over the processes."""
        return network if self.world_size == 1 else DistributedDataParallel(network, gradient_as_bucket_view=True)

    def mean(self, values: Tensor) -> Tensor:
        """Averages a tensor over the processes."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def broadcast(self, value: Any) -> Any:
        """Returns the value of the first process in all processes."""
        box = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, by rank."""
        values: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values


def join_workers(device: str) -> Workers:
    """Initializes torch's process group if torchrun started this process, and returns this process's place in it.

    The backend is NCCL on GPUs and gloo on CPUs. The group lives as long as the process.

    Raises:
        GenLangSplatError: If only some of torchrun's variables are set, or they are inconsistent.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return Workers()
    on_gpu = torch.device(device).type == "cuda"
    try:
        workers = Workers(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
        if on_gpu:
            torch.cuda.set_device(workers.local_rank)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if on_gpu else "gloo")
            atexit.register(_leave)
    except (LookupError, ValueError) as error:
        raise GenLangSplatError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} requests several processes, but the variables of torchrun are "
            f"missing or inconsistent ({error}). Start the training with torchrun, or unset WORLD_SIZE."
        ) from error
    return workers


def _leave() -> None:
    # Networks in reference cycles keep the group alive; its threads would outlive the interpreter.
    gc.collect()
    dist.destroy_process_group()
