"""Fused Adam, and a learning-rate decay whose checkpoints load with every torch version."""

from __future__ import annotations

from dataclasses import dataclass, field

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecayScheduler, ExponentialDecaySchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass
class FusedAdamOptimizerConfig(AdamOptimizerConfig):
    """Adam with torch's fused update, which is several times faster for many Gaussians."""

    fused: bool = True
    """Whether torch updates all parameters of a group in one fused kernel."""


@dataclass
class FloatExponentialDecayConfig(ExponentialDecaySchedulerConfig):
    """nerfstudio's exponential decay with Python floats as learning rates."""

    _target: type = field(default_factory=lambda: FloatExponentialDecay)
    """target class to instantiate"""


class FloatExponentialDecay(ExponentialDecayScheduler):
    """Exponential decay with Python floats as factors.

    nerfstudio's scheduler computes numpy scalars, which become part of checkpoints. torch 2.6 and newer cannot load
    such checkpoints with `weights_only=True`.
    """

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LRScheduler:
        stock = super().get_scheduler(optimizer, lr_init)
        assert isinstance(stock, LambdaLR)
        factor = stock.lr_lambdas[0]
        return LambdaLR(optimizer, lr_lambda=lambda step: float(factor(step)))
