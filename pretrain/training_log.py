"""What a training shows while it runs: a progress bar, and curves for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.progress import Bar, progress_bar


class TrainingLog:
    """Takes in what a training measures.

    Args:
        bar: The progress bar over the steps.
        writer: TensorBoard's writer; None to write nothing.
    """

    def __init__(self, bar: Bar, writer: Any | None) -> None:
        self._bar, self._writer = bar, writer
        self._clock = time.perf_counter()

    def steps_done(self, step: int, losses: Sequence[float], learning_rate: float, rows_per_step: int) -> None:
        """Shows that steps are done.

        Args:
            step: How many are done in all.
            losses: Losses of those done since the last call.
            learning_rate: That of the last one.
            rows_per_step: Rows that all processes together take in a step.
        """
        now = time.perf_counter()
        self._bar.move_to(step)
        if self._writer is not None:
            for offset, loss in enumerate(losses):
                self._writer.add_scalar("loss", loss, step - len(losses) + 1 + offset)
            self._writer.add_scalar("learning rate", learning_rate, step)
            self._writer.add_scalar("rows per second", len(losses) * rows_per_step / max(now - self._clock, 1e-9), step)
        self._clock = now

    def measured(self, step: int, held_out_cosine: float) -> None:
        """Shows a measurement on the held-out embeddings."""
        self._bar.describe(f"Training (held-out cosine {held_out_cosine:.4f})")
        if self._writer is not None:
            self._writer.add_scalar("held-out cosine", held_out_cosine, step)


@contextmanager
def training_log(steps: int, done: int, log_dir: Path | None, visible: bool) -> Iterator[TrainingLog]:
    """Opens the log of a training for the length of the block.

    Args:
        steps: Steps of the whole training.
        done: Those done already; what TensorBoard has of later ones, from a run that was interrupted, is dropped.
        log_dir: Folder of the curves for TensorBoard; None for none.
        visible: Whether this process is the one that shows and writes anything.

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
            "Writing curves needs TensorBoard, which is not installed: pip install tensorboard. Or train without a log "
            "folder."
        ) from error
    return SummaryWriter(str(log_dir), purge_step=done + 1 if done else None)
