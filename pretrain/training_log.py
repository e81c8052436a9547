"""Progress bar and TensorBoard curves of a training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.progress import Bar, progress_bar


class TrainingLog:
    """Shows the progress of a training; `writer` is TensorBoard's, None writes nothing."""

    def __init__(self, bar: Bar, writer: Any | None) -> None:
        self._bar, self._writer = bar, writer
        self._clock = time.perf_counter()

    def steps_done(self, step: int, losses: Sequence[float], learning_rate: float, rows_per_step: int) -> None:
        """Logs the losses of the steps since the last call; `rows_per_step` counts the rows of all processes."""
        now = time.perf_counter()
        self._bar.move_to(step)
        if self._writer is not None:
            for offset, loss in enumerate(losses):
                self._writer.add_scalar("loss", loss, step - len(losses) + 1 + offset)
            self._writer.add_scalar("learning rate", learning_rate, step)
            self._writer.add_scalar("rows per second", len(losses) * rows_per_step / max(now - self._clock, 1e-9), step)
        self._clock = now

    def measured(self, step: int, held_out_cosine: float) -> None:
        """Logs a measurement on the held-out embeddings."""
        self._bar.describe(f"Training (held-out cosine {held_out_cosine:.4f})")
        if self._writer is not None:
            self._writer.add_scalar("held-out cosine", held_out_cosine, step)


@contextmanager
def training_log(steps: int, done: int, log_dir: Path | None, visible: bool) -> Iterator[TrainingLog]:
    """Opens the log of a training inside a block.

    TensorBoard values of an interrupted run after step `done` are dropped. Without `log_dir` no curves are written;
    only a `visible` process shows progress and writes curves.

    Raises:
        GenLangSplatError: If TensorBoard is not installed.
    """
    writer = None if log_dir is None or not visible else _open_writer(log_dir, done)
    try:
        with progress_bar("Training the autoencoder", steps, completed=done, visible=visible) as bar:
            yield TrainingLog(bar, writer)
    finally:
        if writer is not None:
            writer.close()


def _open_writer(log_dir: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise GenLangSplatError(
            "Writing curves needs TensorBoard, which is not installed. Install it (pip install tensorboard), or train "
            "without a log folder."
        ) from error
    return SummaryWriter(str(log_dir), purge_step=done + 1 if done else None)
