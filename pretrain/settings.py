"""Training settings and their validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.losses import LossName

ScheduleName = Literal["one-cycle", "cosine"]
"""`one-cycle`: cosine increase of the rate while the momentum decreases, then the reverse. `cosine`: linear warmup,
then cosine decay."""

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
"""`auto` is float32 on CPUs, and on GPUs bfloat16 if supported, else float16 with loss scaling."""


@dataclass(frozen=True)
class TrainingSettings:
    """Training settings."""

    steps: int = 16000
    """Optimizer steps."""
    batch_size: int = 256
    """Embeddings per step and process."""
    learning_rate: float = 1e-2
    """Maximum learning rate."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    cosine_weight: float = 1.0
    """Lambda of the paper's loss."""
    seed: int = 0
    """Seed of the initial weights and the mixing; the source has its own seed."""
    device: str = "cpu"
    """Device of the training."""
    loss: LossName = "squared"
    """squared or l1, the two losses of the paper."""
    schedule: ScheduleName = "one-cycle"
    """Learning rate schedule."""
    warmup: float = 0.1
    """Fraction of the steps in which the learning rate increases."""
    mix: float = 0.0
    """Maximum weight of the other row with which each row is mixed; 0 disables mixing. It improves generalization from
    few embeddings; a synthetic source that never repeats does not need it."""
    mix_noise: float = 0.0
    """Standard deviation of the noise added to each component of a row."""
    average_decay: float = 0.0
    """Decay of the moving average of the weights, which is measured and returned; 0 disables it."""
    gradient_clip: float = 0.0
    """Maximum norm of the gradient; 0 disables clipping."""
    precision: PrecisionName = "auto"
    """Floating-point format of the matrix products."""
    pca_rows: int = 4096
    """Rows of the source whose principal components initialize linear maps; 0 for random initialization."""
    eval_every: int = 500
    """Steps between measurements on the held-out embeddings."""
    patience: int = 0
    """Consecutive measurements without improvement after which training stops; 0 disables early stopping."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""

    def validate(self) -> None:
        """Checks the settings.

        Raises:
            GenLangSplatError: If a value is outside its range, or the device does not exist.
        """
        ranges = {
            (1, math.inf): ("steps", "batch_size", "eval_every", "checkpoint_every"),
            (0, math.inf): ("mix_noise", "gradient_clip", "pca_rows", "patience"),
            (0, 1): ("warmup", "mix", "average_decay"),
        }
        for (low, high), names in ranges.items():
            for name in names:
                value = getattr(self, name)
                if not low <= value < high:
                    raise GenLangSplatError(
                        f"The setting {name} must be at least {low} and below {high}, got {value}. Change it."
                    )
        try:
            kind = torch.device(self.device).type
        except RuntimeError as error:
            raise GenLangSplatError(f"There is no device {self.device!r}. Choose cpu or cuda.") from error
        if kind == "cuda" and not torch.cuda.is_available():
            raise GenLangSplatError("Training on cuda needs a CUDA GPU, and torch finds none. Choose the device cpu.")
        if kind != "cuda" and self.precision == "float16":
            raise GenLangSplatError(
                f"float16 needs a CUDA GPU, the device is {self.device}. Choose bfloat16, float32 or auto."
            )

    def product_type(self, device: torch.device) -> torch.dtype:
        """Returns the floating-point format of the matrix products on a device."""
        if self.precision == "auto":
            if device.type != "cuda":
                return torch.float32
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.precision]
