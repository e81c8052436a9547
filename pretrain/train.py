"""Trains an autoencoder on any source of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.utils.matrix_products import onednn_matmul
from pretrain.distributed import join_workers
from pretrain.losses import reconstruction_loss
from pretrain.rows import check_unit_rows
from pretrain.settings import TrainingSettings
from pretrain.training import DivergedError, Training, TrainingResult
from pretrain.training_log import training_log

EmbeddingSource = Callable[[int], Float[Tensor, "count embedding_dim"]]
"""Returns the given number of unit embeddings, different ones in each call.

Resuming a training needs a source that also has `state_dict()` and `load_state_dict()`.
"""


def train_autoencoder(
    source: EmbeddingSource,
    identity: AutoencoderIdentity,
    settings: TrainingSettings,
    *,
    held_out: Float[Tensor, "held_out embedding_dim"] | None = None,
    start: Autoencoder | None = None,
    checkpoint_dir: Path | None = None,
    log_dir: Path | None = None,
) -> TrainingResult:
    """Trains an autoencoder.

    The same source, identity and settings give the same weights on the same machine. With a checkpoint folder, the same
    call resumes an interrupted training from the newest checkpoint, with the same result.

    Processes started by `torchrun` train one autoencoder together. Each process calls this function with a source of
    its own rows. All get the same result, and only the first one writes files.

    Args:
        source: Source of the training embeddings.
        identity: Identity of the autoencoder; the evaluation adds its figures later.
        settings: Training settings.
        held_out: Embeddings to measure during training; the weights of the best measurement are returned.
        start: Initial weights; by default random ones, or principal components (`pca_rows`).
        checkpoint_dir: Folder of the checkpoints; None writes none.
        log_dir: Folder of the TensorBoard curves; None writes none.

    Raises:
        GenLangSplatError: If the settings are invalid, rows are unusable, the checkpoint folder is of another training
            or unreadable, or the loss is no longer finite (`DivergedError`, which has the best weights).
    """
    settings.validate()
    if checkpoint_dir is not None and not (hasattr(source, "state_dict") and hasattr(source, "load_state_dict")):
        raise GenLangSplatError(
            f"Checkpoints need a source that can resume, but {type(source).__name__} has no state_dict() and "
            "load_state_dict(). Add both, or train without a checkpoint folder."
        )
    if held_out is not None:
        check_unit_rows(held_out, identity.embedding_dim, "The held-out set")
    workers = join_workers(settings.device)
    training = Training(source, identity, settings, held_out, checkpoint_dir, workers)
    if not training.resume():
        training.begin(start)
    with training_log(settings.steps, training.step, log_dir, workers.is_first) as log, onednn_matmul():
        training.run(log)
    return training.result()


__all__ = [
    "DivergedError",
    "EmbeddingSource",
    "TrainingResult",
    "TrainingSettings",
    "reconstruction_loss",
    "train_autoencoder",
]
