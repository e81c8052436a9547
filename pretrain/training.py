"""Trains an autoencoder on any source of embeddings; a training can be interrupted at any time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR
from torch.optim.swa_utils import AveragedModel

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import linear_maps
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca
from genlangsplat_ns.utils.files import tensors_sha256
from genlangsplat_ns.utils.matrix_products import onednn_matmul
from genlangsplat_ns.utils.progress import Bar, progress_bar
from pretrain.checkpoint import damaged_checkpoint, read_checkpoint, write_checkpoint
from pretrain.distributed import Workers, join_workers
from pretrain.losses import check_unit_rows, mix_rows, reconstruction_loss
from pretrain.settings import TrainingSettings

LOGGER = logging.getLogger(__name__)

EmbeddingSource = Callable[[int], Float[Tensor, "count embedding_dim"]]
"""Returns the given number of unit embeddings, different ones in each call.

Resuming a training needs a source that also has `state_dict()` and `load_state_dict()`.
"""

STEPS_PER_LOSS_READ = 16
"""Number of steps after which losses are read from the device, because each read synchronizes the GPU."""

HELD_OUT_BATCH = 16384
"""Held-out embeddings per batch."""

SECOND_BETA = 0.99

PROGRESS = ("step", "seconds", "losses", "cosines", "best")
"""Attributes of a training that are stored in its checkpoint."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    autoencoder: Autoencoder
    """The trained autoencoder, on the CPU, in evaluation mode and without gradients."""
    losses: list[float]
    """Mean loss over all processes at each step."""
    seconds: float
    """Training time, including the time before interruptions."""
    held_out_cosines: list[tuple[int, float]]
    """(step, mean cosine on the held-out embeddings) of each measurement."""
    best_step: int
    """Step of the autoencoder's weights."""


def train_autoencoder(
    source: EmbeddingSource,
    identity: AutoencoderIdentity,
    settings: TrainingSettings,
    *,
    held_out: Float[Tensor, "held_out embedding_dim"] | None = None,
    checkpoint_dir: Path | None = None,
) -> TrainingResult:
    """Trains an autoencoder.

    The same source, identity and settings give the same weights on the same machine. With a checkpoint folder, the same
    call resumes an interrupted training, with the same result. With held-out embeddings, these are measured during the
    training, and the weights of the best measurement are returned.

    Processes started by `torchrun` train one autoencoder together. Each process calls this function with a source of
    its own rows. All get the same result, and only the first one writes files.

    Raises:
        GenLangSplatError: If the settings are invalid, rows are unusable, the checkpoint is damaged or of another
            training, or the loss or the weights are no longer finite.
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
    training = _Training(source, identity, settings, held_out, checkpoint_dir, workers)
    bar = progress_bar("Training the autoencoder", settings.steps, training.step, visible=workers.is_first)
    with bar as shown, onednn_matmul():
        training.run(shown)
    return training.result()


class _Training:
    """A training and its state; `step` counts completed steps."""

    def __init__(
        self,
        source: EmbeddingSource,
        identity: AutoencoderIdentity,
        settings: TrainingSettings,
        held_out: Tensor | None,
        checkpoint_dir: Path | None,
        workers: Workers,
    ) -> None:
        self._source: Any = source
        self._identity, self._settings, self._workers = identity, settings, workers
        self._held_out, self._checkpoint_dir = held_out, checkpoint_dir
        self._device = workers.device(settings.device)
        self._generator = torch.Generator(self._device).manual_seed(settings.seed * 1_000_003 + workers.rank)
        self._product_type = settings.product_type(self._device)
        self._pending: list[Tensor] = []
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.cosines: list[tuple[int, float]] = []
        self.best: dict[str, Any] | None = None

        state = self._checkpoint()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            autoencoder = Autoencoder(identity).to(self._device).train()
        if workers.world_size > 1 and self._device.type == "cuda":
            autoencoder = nn.SyncBatchNorm.convert_sync_batchnorm(autoencoder)
        self._autoencoder: Autoencoder = autoencoder
        is_linear = linear_maps(autoencoder.encoder, autoencoder.decoder) is not None
        if state is None and settings.pca_rows and is_linear:
            share = max(math.ceil(settings.pca_rows / workers.world_size), identity.latent_dim)
            initialize_from_pca(autoencoder, torch.cat(workers.gather(self._draw(share).cpu())))
        self._network = workers.wrap(autoencoder)
        self._optimizer = torch.optim.AdamW(
            autoencoder.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, SECOND_BETA),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._schedule = _schedule(self._optimizer, settings)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._product_type == torch.float16)
        self._parts: dict[str, Any] = {
            "network": autoencoder,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            "scaler": self._scaler,
        }
        self._average: AveragedModel | None = None
        self._evaluated: nn.Module = autoencoder
        if settings.average_decay > 0:
            self._average = AveragedModel(autoencoder, multi_avg_fn=self._move_average, use_buffers=True)
            self._parts["average"], self._evaluated = self._average, self._average.module
        if state is not None and checkpoint_dir is not None:
            self._restore(checkpoint_dir, state)

    def run(self, bar: Bar) -> None:
        """Trains until the last step or early stopping."""
        settings, started, before = self._settings, time.perf_counter(), self.seconds
        while self.step < settings.steps and not self._should_stop:
            self._train_step()
            is_last = self.step == settings.steps
            measures = self._held_out is not None and (is_last or self.step % settings.eval_every == 0)
            saves = is_last or self.step % settings.checkpoint_every == 0
            if measures or saves or len(self._pending) == STEPS_PER_LOSS_READ:
                self._collect()
                bar.move_to(self.step)
            if measures:
                self._measure(bar)
            self.seconds = before + time.perf_counter() - started
            if saves or self._should_stop:
                self._check_finite_weights()
                self._save()

    def result(self) -> TrainingResult:
        """Returns the autoencoder of the best measurement, or of the last step if nothing was measured."""
        best = self.best or {"step": self.step, "weights": self._weights()}
        with torch.random.fork_rng(devices=[]):
            autoencoder = Autoencoder(self._identity)
        autoencoder.load_state_dict(best["weights"])
        autoencoder.eval().requires_grad_(False)
        return TrainingResult(autoencoder, self.losses, self.seconds, self.cosines, best["step"])

    @property
    def _should_stop(self) -> bool:
        """Whether the last `patience` measurements were not better than the best one before them."""
        if not self._settings.patience or self.best is None:
            return False
        return sum(step > self.best["step"] for step, _ in self.cosines) >= self._settings.patience

    def _draw(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        rows: Tensor = self._source(count)
        origin = f"The source of embeddings, before step {self.step + 1},"
        check_unit_rows(rows, self._identity.embedding_dim, origin)
        return rows.to(self._device, torch.float32, non_blocking=True)

    def _train_step(self) -> None:
        settings = self._settings
        rows = self._draw(settings.batch_size)
        if settings.mix > 0 or settings.mix_noise > 0:
            rows = mix_rows(rows, settings.mix, settings.mix_noise, self._generator)
        lower = self._product_type != torch.float32
        with torch.autocast(self._device.type, self._product_type if lower else torch.bfloat16, enabled=lower):
            reconstructions = self._network(rows)
        loss = reconstruction_loss(reconstructions.float(), rows, settings.cosine_weight, settings.loss)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        if settings.gradient_clip > 0:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._autoencoder.parameters(), settings.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        self.step += 1
        if self._average is not None:
            self._average.update_parameters(self._autoencoder)
        self._pending.append(loss.detach())

    def _move_average(self, averages: Any, trained: Any, _: Any) -> None:
        """Moves the averages of tensors of one type. Early steps move them more, so that the first weights fade."""
        if averages[0].is_floating_point():
            kept = min(self._settings.average_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(averages, trained, 1 - kept)
        else:
            torch._foreach_copy_(averages, trained)

    def _collect(self) -> None:
        """Reads the losses of the last steps."""
        losses: list[float] = self._workers.mean(torch.stack(self._pending)).tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses) + 1):
            if not math.isfinite(loss):
                raise self._diverged(f"The loss is {loss} at step {step}")
        self._pending.clear()
        self.losses += losses

    @torch.no_grad()
    def _measure(self, bar: Bar) -> None:
        """Measures the held-out cosine and keeps the weights if they are the best so far."""
        assert self._held_out is not None
        self._check_finite_weights()
        network = self._evaluated.eval()
        total = 0.0
        for rows in self._held_out.split(HELD_OUT_BATCH):
            rows = rows.to(self._device, torch.float32)
            total += F.cosine_similarity(network(rows), rows, dim=-1).double().sum().item()
        self._autoencoder.train()
        # Rounding may differ between processes, which must agree on when to stop.
        cosine = self._workers.broadcast(total / len(self._held_out))
        self.cosines.append((self.step, cosine))
        if self.best is None or cosine > self.best["cosine"]:
            self.best = {"step": self.step, "cosine": cosine, "weights": self._weights()}
        bar.describe(f"Training (held-out cosine {cosine:.4f})")

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self._evaluated.state_dict().items()}

    def _save(self) -> None:
        if self._checkpoint_dir is None:
            return
        workers = self._workers.gather({"generator": self._generator.get_state(), "source": self._source.state_dict()})
        if self._workers.is_first:
            progress = {name: getattr(self, name) for name in PROGRESS}
            parts = {name: part.state_dict() for name, part in self._parts.items()}
            write_checkpoint(self._checkpoint_dir, self._config(), {**progress, **parts, "workers": workers})

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        workers, rank = state.get("workers"), self._workers.rank
        known = isinstance(workers, list) and rank < len(workers) and isinstance(workers[rank], dict)
        own: dict[str, Any] = workers[rank] if isinstance(workers, list) and known else {}
        lacking = [name for name in (*PROGRESS, *self._parts) if name not in state]
        lacking += [name for name in ("generator", "source") if name not in own]
        if lacking:
            raise damaged_checkpoint(folder, ValueError(f"it lacks {', '.join(lacking)}"))
        try:
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
            self._generator.set_state(own["generator"])
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            raise damaged_checkpoint(folder, error) from error
        self._source.load_state_dict(own["source"])
        for name in PROGRESS:
            setattr(self, name, state[name])
        if self._workers.is_first:
            LOGGER.info("Resuming from %s at step %d of %d.", folder, self.step, self._settings.steps)

    def _checkpoint(self) -> dict[str, Any] | None:
        """Reads the checkpoint in the first process, and broadcasts it or the error to all."""
        if self._checkpoint_dir is None:
            return None
        state, reason = None, ""
        if self._workers.is_first:
            try:
                state = read_checkpoint(self._checkpoint_dir, self._config())
            except GenLangSplatError as error:
                reason = str(error)
        state, reason = self._workers.broadcast((state, reason))
        if reason:
            raise GenLangSplatError(reason)
        return state

    def _config(self) -> dict[str, Any]:
        """Returns all settings that determine the weights."""
        settings = asdict(self._settings)
        del settings["checkpoint_every"]
        names = ("name", "encoder", "embedding_dim", "latent_dim", "architecture")
        identity = {name: getattr(self._identity, name) for name in names}
        held_out = tensors_sha256({} if self._held_out is None else {"rows": self._held_out})[:16]
        return {**identity, **settings, "processes": self._workers.world_size, "held_out": held_out}

    def _check_finite_weights(self) -> None:
        values = [value for value in self._autoencoder.state_dict().values() if value.is_floating_point()]
        if not all(bool(norm.isfinite()) for norm in torch._foreach_norm(values)):
            raise self._diverged(f"The weights are not finite after step {self.step}")

    def _diverged(self, what: str) -> GenLangSplatError:
        return GenLangSplatError(f"{what}. Train into another file with a lower learning rate.")


def _schedule(optimizer: torch.optim.Optimizer, settings: TrainingSettings) -> LRScheduler:
    """Returns the schedule of learning rate and momentum."""
    if settings.schedule == "one-cycle":
        # One more step than the training has, so that the last one has a rate above the minimum.
        total = settings.steps + 1
        # torch divides by zero if the rise is exactly one step.
        share = settings.warmup if settings.warmup * total > 1 else 0.0
        return OneCycleLR(optimizer, settings.learning_rate, total_steps=total, pct_start=share)
    rising = math.ceil(settings.warmup * settings.steps)
    falling = CosineAnnealingLR(optimizer, settings.steps + 1 - rising)
    if not rising:
        return falling
    return SequentialLR(optimizer, [LinearLR(optimizer, 1 / (rising + 1), total_iters=rising), falling], [rising])
