"""What is stored with a trained autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch

from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from pretrain.report import save_measured
from pretrain.training import TrainingResult

ROW = {"cosine": 0.95, "centered cosine": 0.9, "constant": 0.5, "PCA cosine": 0.9, "PCA centered": 0.8}


def test_a_slower_machine_makes_the_same_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderIdentity("tiny", "encoder", 8, latent_dim=4))
    for name, seconds in (("fast", 0.2), ("slow", 7.5)):
        result = TrainingResult(autoencoder, [0.5], seconds, [(1, 0.95)], 1)
        save_measured(tmp_path / f"{name}.safetensors", result, {"all": {**ROW, "latent spread": 1.0}})
    assert (tmp_path / "fast.safetensors").read_bytes() == (tmp_path / "slow.safetensors").read_bytes()
