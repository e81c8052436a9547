"""A learning-rate decay and an Adam whose checkpoints every torch can load."""

from __future__ import annotations

from dataclasses import dataclass, field

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecayScheduler, ExponentialDecaySchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass
class FusedAdamOptimizerConfig(AdamOptimizerConfig):
    """Adam with torch's fused update, which is several times faster with many Gaussians on any device."""

    fused: bool = True
    """Whether torch updates all parameters of a group in one fused kernel."""


@dataclass
class FloatExponentialDecayConfig(ExponentialDecaySchedulerConfig):
    """nerfstudio's exponential decay, with learning rates that are Python floats."""

    _target: type = field(default_factory=lambda: FloatExponentialDecay)
    """target class to instantiate"""


class FloatExponentialDecay(ExponentialDecayScheduler):
    """Exponential decay whose factors are Python floats.

    nerfstudio's own scheduler computes numpy scalars; they end up in the checkpoint, and torch 2.6 and newer refuse to
    load it with `weights_only=True`.
    """

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LRScheduler:
        stock = super().get_scheduler(optimizer, lr_init)
        assert isinstance(stock, LambdaLR)
        factor = stock.lr_lambdas[0]
        return LambdaLR(optimizer, lr_lambda=lambda step: float(factor(step)))
