"""The learning-rate decay has nerfstudio's values and loads with every torch version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig

from genlangsplat_ns.schedulers import FloatExponentialDecayConfig, FusedAdamOptimizerConfig


def make_optimizer() -> torch.optim.Optimizer:
    return FusedAdamOptimizerConfig(lr=1e-2, eps=1e-15).setup(params=[torch.nn.Parameter(torch.ones(3))])


def test_decay_equals_nerfstudios_at_every_step() -> None:
    options = {"lr_final": 1e-4, "max_steps": 50, "warmup_steps": 5, "lr_pre_warmup": 1e-6}
    ours, theirs = make_optimizer(), make_optimizer()
    our_decay = FloatExponentialDecayConfig(**options).setup().get_scheduler(ours, lr_init=1e-2)
    their_decay = ExponentialDecaySchedulerConfig(**options).setup().get_scheduler(theirs, lr_init=1e-2)
    for _ in range(60):
        assert our_decay.get_last_lr()[0] == pytest.approx(float(their_decay.get_last_lr()[0]), rel=1e-12)
        for optimizer, decay in ((ours, our_decay), (theirs, their_decay)):
            optimizer.step()
            decay.step()


def test_a_checkpoint_of_it_loads_without_pickled_objects(tmp_path: Path) -> None:
    optimizer = make_optimizer()
    decay = FloatExponentialDecayConfig(lr_final=1e-4, max_steps=50).setup().get_scheduler(optimizer, lr_init=1e-2)
    optimizer.step()
    decay.step()
    assert not isinstance(decay.get_last_lr()[0], np.floating)
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": decay.state_dict()}, tmp_path / "state.ckpt")
    state = torch.load(tmp_path / "state.ckpt", weights_only=True)
    assert state["scheduler"]["last_epoch"] == 1
