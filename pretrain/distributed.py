"""Training with several processes started by `torchrun`: ranks and collective operations."""

from __future__ import annotations

import atexit
import gc
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import RowBatchNorm


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
        if self.world_size == 1:
            return network
        synchronize_batch_norm(network)
        return DistributedDataParallel(network, gradient_as_bucket_view=True)

    def mean(self, values: Tensor) -> Tensor:
        """Averages a tensor over the processes."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def broadcast(self, value: Any) -> Any:
        """Returns the value of the first process in all processes."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


def workers_from_environment() -> Workers:
    """Reads RANK, WORLD_SIZE and LOCAL_RANK, which torchrun sets; without them there is a single process.

    Raises:
        GenLangSplatError: If only some of the variables are set, or they are inconsistent.
    """
    if "WORLD_SIZE" not in os.environ:
        return Workers()
    try:
        world_size = int(os.environ["WORLD_SIZE"])
        if world_size == 1:
            return Workers()
        rank = int(os.environ["RANK"])
        workers = Workers(rank, world_size, int(os.environ.get("LOCAL_RANK", rank)))
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    except (KeyError, ValueError) as error:
        raise GenLangSplatError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} requests several processes, but RANK, LOCAL_RANK and WORLD_SIZE "
            f"are not all integers ({error}). Start the training with torchrun, or unset WORLD_SIZE."
        ) from error
    if missing or not 0 <= workers.rank < world_size:
        raise GenLangSplatError(
            f"RANK={workers.rank} and WORLD_SIZE={world_size} request several processes, but "
            + (f"{' and '.join(missing)} are not set." if missing else "the rank is not below the world size.")
            + " Start the training with torchrun, or unset WORLD_SIZE."
        )
    return workers


def join_workers(device: str) -> Workers:
    """Initializes the process group if torchrun started this process.

    The backend is NCCL on GPUs and gloo on CPUs. The process group lives as long as the process, because torchrun's
    store supports only one; an existing process group is reused.
    """
    workers = workers_from_environment()
    if workers.world_size == 1:
        return workers
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(workers.device(device))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo", rank=workers.rank, world_size=workers.world_size)
        atexit.register(leave_workers)
    return workers


def leave_workers() -> None:
    """Destroys the process group if it exists."""
    if dist.is_initialized():
        # Networks in reference cycles keep the group alive; its threads would outlive the interpreter.
        gc.collect()
        dist.destroy_process_group()


class SynchronizedBatchNorm(RowBatchNorm):
    """Batch normalization with the statistics of all processes, which have equally many rows.

    Several processes then train the same network as one process with all rows. torch's SyncBatchNorm only supports
    GPUs.
    """

    def forward(self, rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Normalizes the rows; uses the running statistics in evaluation mode."""
        if not self.training:
            return super().forward(rows)
        # Statistics are in full precision, even if autocast lowers the precision of the rows.
        flat = rows.reshape(-1, self.num_features).float()
        mean = _mean_over_workers(flat.mean(dim=0))
        centered = flat - mean
        variance = _mean_over_workers(centered.square().mean(dim=0))
        self._track(mean, variance, len(flat) * dist.get_world_size())
        normalized = centered * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normalized.to(rows.dtype).view_as(rows)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        self.num_batches_tracked += 1


def synchronize_batch_norm(network: nn.Module) -> None:
    """Replaces all batch normalization of a network by the synchronized one; keeps parameters and their names."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is RowBatchNorm:
                shared = SynchronizedBatchNorm(child.num_features, child.eps, child.momentum)
                shared._parameters, shared._buffers = child._parameters, child._buffers
                setattr(parent, name, shared.train(child.training))


def _mean_over_workers(values: Float[Tensor, " width"]) -> Float[Tensor, " width"]:
    return _MeanOverWorkers.apply(values)


class _MeanOverWorkers(torch.autograd.Function):
    """Averages over the processes in the forward and backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _average(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _average(gradients[0])


def _average(values: Tensor) -> Tensor:
    values = values.clone()
    dist.all_reduce(values)
    return values / dist.get_world_size()
