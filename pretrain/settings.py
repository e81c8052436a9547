"""How to train, and which trainings make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from genlangsplat_ns.errors import GenLangSplatError
from pretrain.losses import LossName
from pretrain.schedule import ScheduleName

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
"""`auto` is float32 on CPUs; on GPUs bfloat16 where they have it, else float16 with a scaled loss."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: Optimizer steps.
        batch_size: Embeddings per step and process.
        learning_rate: Peak of the schedule.
        weight_decay: AdamW's.
        cosine_weight: Lambda of the paper's loss.
        seed: Seeds the weights and the mixing; the source has its own seed.
        device: Where to train.
        loss: Which of the paper's two losses.
        schedule: Shape of the learning rate over the steps.
        warmup: Part of the steps in which the learning rate rises.
        mix: Greatest weight of another row that each row is mixed with; 0 mixes nothing. A source of few embeddings
            needs it to generalize, a synthetic one that never repeats does not.
        mix_noise: Standard deviation of the noise added to each component of a row.
        average_decay: How much the running average of the weights keeps of itself in a step; 0 averages nothing. The
            average is what is measured and returned.
        gradient_clip: Greatest norm of the gradient; 0 leaves it as it is.
        precision: Number format of the products.
        pca_rows: Architectures with a linear map start from the principal components of this many rows of the source;
            0 starts them at random.
        eval_every: Steps between measurements on the held-out embeddings.
        patience: Measurements in a row without a better one after which training stops; 0 never stops early.
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
        """Refuses settings that cannot be trained by.

        Raises:
            GenLangSplatError: If a number is outside its range, or the device is not there.
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
                f"Measurements and checkpoints need at least one step between them, got eval_every={self.eval_every} "
                f"and checkpoint_every={self.checkpoint_every}."
            )
        self._validate_device()

    def _validate_device(self) -> None:
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
        """The number format of the products on a device."""
        if self.precision == "auto":
            if device.type != "cuda":
                return torch.float32
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.precision]
