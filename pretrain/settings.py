"""Training settings and their validation."""

from __future__ import annotations

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
    """Training settings.

    Attributes:
        steps: Optimizer steps.
        batch_size: Embeddings per step and process.
        learning_rate: Maximum learning rate.
        weight_decay: Weight decay of AdamW.
        cosine_weight: Lambda of the paper's loss.
        seed: Seed of the initial weights and the mixing; the source has its own seed.
        device: Device of the training.
        loss: squared or l1, the two losses of the paper.
        schedule: Learning rate schedule.
        warmup: Fraction of the steps in which the learning rate increases.
        mix: Maximum weight of the other row with which each row is mixed; 0 disables mixing. Mixing improves
            generalization from few embeddings; a synthetic source that never repeats does not need it.
        mix_noise: Standard deviation of the noise added to each component of a row.
        average_decay: Decay of the moving average of the weights; 0 disables it. The averaged weights are measured and
            returned.
        gradient_clip: Maximum norm of the gradient; 0 disables clipping.
        precision: Floating-point format of the matrix products.
        pca_rows: Rows of the source whose principal components initialize linear maps; 0 for random initialization.
        eval_every: Steps between measurements on the held-out embeddings.
        patience: Consecutive measurements without improvement after which training stops; 0 disables early stopping.
        checkpoint_every: Steps between checkpoints.
    """

    steps: int = 16000
    batch_size: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    cosine_weight: float = 1.0
    seed: int = 0
    device: str = "cpu"
    loss: LossName = "squared"
    schedule: ScheduleName = "one-cycle"
    warmup: float = 0.1
    mix: float = 0.0
    mix_noise: float = 0.0
    average_decay: float = 0.0
    gradient_clip: float = 0.0
    precision: PrecisionName = "auto"
    pca_rows: int = 4096
    eval_every: int = 500
    patience: int = 0
    checkpoint_every: int = 1000

    def validate(self) -> None:
        """Checks the settings.

        Raises:
            GenLangSplatError: If a value is outside its range, or the device does not exist.
        """
        if self.steps < 1 or self.batch_size < 1:
            raise GenLangSplatError(
                f"Training needs at least one step and one embedding per step, got steps={self.steps} and "
                f"batch_size={self.batch_size}."
            )
        ranges = {
            "warmup": (0.0, 1.0),
            "mix": (0.0, 1.0),
            "average_decay": (0.0, 1.0),
            "mix_noise": (0.0, float("inf")),
            "gradient_clip": (0.0, float("inf")),
            "pca_rows": (0, float("inf")),
            "patience": (0, float("inf")),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value < high:
                raise GenLangSplatError(f"The setting {name} must be at least {low:g} and below {high:g}, got {value}.")
        if self.eval_every < 1 or self.checkpoint_every < 1:
            raise GenLangSplatError(
                "eval_every and checkpoint_every must be at least one step, got "
                f"eval_every={self.eval_every} and checkpoint_every={self.checkpoint_every}."
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
