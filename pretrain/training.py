"""State and steps of a training that can be interrupted at any time."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import linear_maps
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca, save_autoencoder
from pretrain.averaging import WeightAverage
from pretrain.best_weights import BestWeights
from pretrain.checkpoint import Checkpoint, check_same_training, read_newest_checkpoint, write_checkpoint
from pretrain.distributed import Workers
from pretrain.losses import reconstruction_loss
from pretrain.rows import check_unit_rows, mix_rows
from pretrain.schedule import rates_at
from pretrain.settings import TrainingSettings
from pretrain.training_log import TrainingLog

LOGGER = logging.getLogger(__name__)

STEPS_PER_LOSS_READ = 16
"""Number of steps after which losses are read from the device, because each read synchronizes the GPU."""

HELD_OUT_BATCH = 16384
"""Held-out embeddings per batch."""

SECOND_BETA = 0.99


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        autoencoder: The trained autoencoder, on the CPU, in evaluation mode and without gradients.
        losses: Mean loss over all processes at each step.
        seconds: Training time, including the time before interruptions.
        held_out_cosines: (step, mean cosine on the held-out embeddings) of each measurement.
        best_step: Step of the autoencoder's weights.
    """

    autoencoder: Autoencoder
    losses: list[float]
    seconds: float
    held_out_cosines: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0


class DivergedError(GenLangSplatError):
    """The loss or the weights are no longer finite; `best` is the autoencoder of the best measurement, if any."""

    def __init__(self, message: str, best: Autoencoder | None) -> None:
        super().__init__(message)
        self.best = best


class Training:
    """A training and its state; the arguments are those of `train_autoencoder`, `step` counts completed steps."""

    def __init__(
        self,
        source: Callable[[int], Tensor],
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._autoencoder = Autoencoder(identity).to(self._device).train()
        self._generator = torch.Generator(self._device).manual_seed(settings.seed * 1_000_003 + workers.rank)
        self._product_type = settings.product_type(self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._product_type == torch.float16)
        self.step = 0
        self._losses: list[float] = []
        self._pending: list[Tensor] = []
        self._seconds = 0.0
        self._best = BestWeights(settings.patience)

    def begin(self, start: Autoencoder | None) -> None:
        """Initializes the weights."""
        if start is not None:
            self._check_compatible(start)
            self._autoencoder.load_state_dict(start.state_dict())
        elif self._settings.pca_rows and linear_maps(self._autoencoder.encoder, self._autoencoder.decoder) is not None:
            share = max(math.ceil(self._settings.pca_rows / self._workers.world_size), self._identity.latent_dim)
            initialize_from_pca(self._autoencoder, torch.cat(self._workers.gather(self._draw(share).cpu())))
        self._prepare()

    def resume(self) -> bool:
        """Restores the newest checkpoint; returns False if there is none."""
        checkpoint = self._newest_checkpoint()
        if checkpoint is None:
            return False
        state = checkpoint.state
        self._autoencoder.load_state_dict(state["network"])
        self._prepare()
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.network.load_state_dict(state["average"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        own = state["workers"][self._workers.rank]
        self._generator.set_state(own["generator"])
        self._source.load_state_dict(own["source"])
        self._best.load_state_dict(state["kept"])
        self.step, self._seconds, self._losses = state["step"], state["seconds"], state["losses"].tolist()
        if self._workers.is_first:
            LOGGER.info("Resuming from %s at step %d of %d.", checkpoint.path, self.step, self._settings.steps)
        return True

    def run(self, log: TrainingLog) -> None:
        """Trains until the last step or early stopping."""
        settings, started, before = self._settings, time.perf_counter(), self._seconds
        resumed_at = self.step
        while self.step < settings.steps and not self._best.should_stop:
            self._train_step(check_rows=self.step == resumed_at)
            is_last = self.step == settings.steps
            measures = self._held_out is not None and (is_last or self.step % settings.eval_every == 0)
            saves = self._checkpoint_dir is not None and (is_last or self.step % settings.checkpoint_every == 0)
            if is_last or measures or saves or len(self._pending) == STEPS_PER_LOSS_READ:
                self._collect(log)
            if is_last or measures or saves:
                self._check_finite_weights()
            if measures:
                self._measure(log)
            self._seconds = before + time.perf_counter() - started
            if self._checkpoint_dir is not None and (saves or self._best.should_stop):
                self._save(self._checkpoint_dir)

    def result(self) -> TrainingResult:
        """Returns the autoencoder of the best measurement, or of the last step if nothing was measured."""
        best = self._best.best
        autoencoder = self._rebuild(self._weights() if best is None else best.weights)
        best_step = self.step if best is None else best.step
        return TrainingResult(autoencoder, self._losses, self._seconds, self._best.cosines, best_step)

    def _prepare(self) -> None:
        """Creates the optimizer and the average once the weights are initialized."""
        settings = self._settings
        self._optimizer = torch.optim.AdamW(
            self._autoencoder.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._network = self._workers.wrap(self._autoencoder)
        decay = settings.average_decay
        self._average = WeightAverage(self._autoencoder, decay) if decay > 0 else None

    def _draw(self, count: int) -> Float[Tensor, "count embedding_dim"]:
        rows: Tensor = self._source(count)
        origin = f"The source of embeddings, before step {self.step + 1},"
        check_unit_rows(rows, self._identity.embedding_dim, origin)
        if len(rows) != count:
            raise GenLangSplatError(
                f"{origin} gave {len(rows)} rows, expected {count}. Let it return as many as requested."
            )
        return rows.to(self._device, torch.float32, non_blocking=True)

    def _train_step(self, check_rows: bool) -> None:
        settings = self._settings
        rows = self._draw(settings.batch_size)
        if check_rows:
            self._check_distinct_rows(rows)
        if settings.mix > 0 or settings.mix_noise > 0:
            rows = mix_rows(rows, settings.mix, settings.mix_noise, self._generator)
        rates = rates_at(self.step, settings.steps, settings.learning_rate, settings.warmup, settings.schedule)
        for group in self._optimizer.param_groups:
            group["lr"], group["betas"] = rates.learning_rate, (rates.momentum, SECOND_BETA)
        lower = self._product_type != torch.float32
        with torch.autocast(self._device.type, self._product_type if lower else torch.bfloat16, enabled=lower):
            reconstructions = self._network(rows)
        loss = reconstruction_loss(reconstructions.float(), rows, settings.cosine_weight, settings.loss)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        if settings.gradient_clip > 0:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._autoencoder.parameters(), settings.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)
        self._pending.append(loss.detach())

    def _collect(self, log: TrainingLog) -> None:
        """Reads and logs the losses of the last steps."""
        losses: list[float] = self._workers.mean(torch.stack(self._pending)).tolist()
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise self._diverged(f"The loss is {loss} at step {self.step - len(losses) + 1 + offset}")
        self._pending.clear()
        self._losses += losses
        rows_per_step = self._settings.batch_size * self._workers.world_size
        log.steps_done(self.step, losses, self._optimizer.param_groups[0]["lr"], rows_per_step)

    @torch.no_grad()
    def _measure(self, log: TrainingLog) -> None:
        """Measures the held-out cosine and keeps the weights if they are the best so far."""
        assert self._held_out is not None
        cosine = self._workers.broadcast(self._held_out_cosine() if self._workers.is_first else 0.0)
        self._best.update(self.step, cosine, self._weights)
        log.measured(self.step, cosine)

    def _held_out_cosine(self) -> float:
        assert self._held_out is not None
        network = self._autoencoder if self._average is None else self._average.network
        network.eval()
        total = 0.0
        for rows in self._held_out.split(HELD_OUT_BATCH):
            rows = rows.to(self._device, torch.float32)
            total += F.cosine_similarity(network(rows), rows, dim=-1).double().sum().item()
        self._autoencoder.train()
        return total / len(self._held_out)

    def _weights(self) -> dict[str, Tensor]:
        network = self._autoencoder if self._average is None else self._average.network
        return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}

    def _rebuild(self, weights: dict[str, Tensor]) -> Autoencoder:
        with torch.random.fork_rng(devices=[]):
            autoencoder = Autoencoder(self._identity)
        autoencoder.load_state_dict(weights)
        return autoencoder.eval().requires_grad_(False)

    def _save(self, folder: Path) -> None:
        own = {"generator": self._generator.get_state(), "source": self._source.state_dict()}
        workers = self._workers.gather(own)
        if not self._workers.is_first:
            return
        state = {
            "step": self.step,
            "seconds": self._seconds,
            "losses": torch.tensor(self._losses, dtype=torch.float64),
            "kept": self._best.state_dict(),
            "network": self._autoencoder.state_dict(),
            "average": None if self._average is None else self._average.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "workers": workers,
        }
        write_checkpoint(folder, self.step, self._config(), state)

    def _newest_checkpoint(self) -> Checkpoint | None:
        """Reads the newest checkpoint in the first process, and broadcasts it or the error to all."""
        if self._checkpoint_dir is None:
            return None
        checkpoint, reason = None, ""
        if self._workers.is_first:
            try:
                checkpoint = read_newest_checkpoint(self._checkpoint_dir)
                if checkpoint is not None:
                    check_same_training(checkpoint, self._config())
            except GenLangSplatError as error:
                reason = str(error)
        checkpoint, reason = self._workers.broadcast((checkpoint, reason))
        if reason:
            raise GenLangSplatError(reason)
        return checkpoint

    def _config(self) -> dict[str, Any]:
        """Returns all settings that determine the weights."""
        settings = asdict(self._settings)
        del settings["checkpoint_every"]
        identity = asdict(self._identity)
        named = {name: identity[name] for name in ("name", "encoder", "embedding_dim", "latent_dim", "architecture")}
        held_out = "" if self._held_out is None else _rows_sha256(self._held_out)
        return {**named, **settings, "processes": self._workers.world_size, "held_out": held_out}

    def _check_compatible(self, start: Autoencoder) -> None:
        for name in ("architecture", "embedding_dim", "latent_dim"):
            found, wanted = getattr(start.identity, name), getattr(self._identity, name)
            if found != wanted:
                raise GenLangSplatError(
                    f"The initial autoencoder has {name}={found!r}, expected {name}={wanted!r}. "
                    "Start from one of the same kind."
                )

    def _check_distinct_rows(self, rows: Tensor) -> None:
        digests = self._workers.gather(_rows_sha256(rows))
        if len(set(digests)) < len(digests):
            first = next(rank for rank, digest in enumerate(digests) if digest in digests[rank + 1 :])
            other = digests.index(digests[first], first + 1)
            raise GenLangSplatError(
                f"The processes {first} and {other} use the same rows, so the second one adds no information. Give "
                "each process a source with its own rank or seed."
            )

    def _check_finite_weights(self) -> None:
        norms = torch._foreach_norm(
            [value for value in self._autoencoder.state_dict().values() if value.is_floating_point()]
        )
        if not bool(torch.stack([norm.double() for norm in norms]).isfinite().all()):
            raise self._diverged(f"The weights are not finite after step {self.step}")

    def _diverged(self, what: str) -> DivergedError:
        best = self._best.best
        if best is None:
            return DivergedError(f"{what}, and there is no earlier measurement. Try a lower learning rate.", None)
        autoencoder = self._rebuild(best.weights)
        kept = f"step {best.step} with the held-out cosine {best.cosine:.4f}"
        if self._checkpoint_dir is not None and self._workers.is_first:
            path = self._checkpoint_dir / "best.safetensors"
            save_autoencoder(path, autoencoder)
            kept += f" (written to {path})"
        return DivergedError(f"{what}. The best earlier weights are of {kept}. Try a lower learning rate.", autoencoder)


def _rows_sha256(rows: Tensor) -> str:
    # Not tensors_sha256: checkpoints store this value, and interrupted trainings must be able to resume.
    return hashlib.sha256(rows.detach().cpu().contiguous().view(torch.uint8).numpy().data).hexdigest()
