"""The speed part of the autoencoder benchmark: embeddings per second compared with a simple loop, and streaming memory.

The simple loop follows the training of LangSplat's autoencoder: one array in memory, a data set that returns single
rows, a shuffling loader with one process per core, squared error and cosine, Adam, and a loss that is read and logged
at every step. Network, rows, batches and cores are the same for both. Every run has its own process, and the compared
runs alternate.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from genlangsplat_ns.features.store import StoreIdentity
from genlangsplat_ns.language.architectures import ARCHITECTURES
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.matrix_products import onednn_matmul
from genlangsplat_ns.utils.progress import track
from pretrain.scene_files import read_folders, scene_paths, write_scene
from pretrain.settings import PrecisionName, TrainingSettings
from pretrain.stream import EmbeddingStream
from pretrain.training import train_autoencoder
from support.benchmark import Goal, Row
from support.processes import in_own_process, peak_memory_gb
from support.tables import print_table, with_range
from support.timing import repeat

ARCHITECTURE = "langsplat"
EMBEDDING_DIM, LATENT_DIM = 512, 16
LEARNING_RATE = 1e-4

HIDDEN_DIM = 24
"""Intrinsic dimensions of the synthetic embeddings."""

SCENE_ROWS = 20_000
"""Number of synthetic embeddings in a file."""

ROW_BYTES = 2 * EMBEDDING_DIM + 1
"""Size of an embedding on disk, with its level."""

OURS, OURS_BFLOAT16, PLAIN = "train_autoencoder, float32", "train_autoencoder, bfloat16", "plain loop"
FLOOR, FLOOR_FAST = "step alone, torch's products", "step alone, fast products"
OUR_ROWS, PLAIN_ROWS = "rows alone, our stream", "rows alone, plain loader"


def write_embeddings(folder: Path, rows: int) -> int:
    """Writes distinct synthetic embeddings near a low-dimensional subspace, and returns their number.

    Args:
        folder: Folder of the files.
        rows: Minimum number of rows; only whole scenes are written.
    """
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(HIDDEN_DIM, EMBEDDING_DIM, generator=generator)
    levels = torch.zeros(SCENE_ROWS, dtype=torch.uint8)
    kind = StoreIdentity("synthetic", "synthetic", EMBEDDING_DIM, "none", {}, ("subpart",))
    for number in track(range(max(1, rows // SCENE_ROWS)), f"Writing {rows:,} embeddings"):
        hidden = torch.randn(SCENE_ROWS, HIDDEN_DIM, generator=generator)
        units = F.normalize(hidden @ basis, dim=-1).half()
        write_scene(folder, kind, "synthetic", f"scene{number:04d}", {f"{number:04d}": (units, levels)}, {})
    return sum(file.rows for file in read_folders([folder], verify=False))


def built() -> AutoencoderIdentity:
    """The autoencoder to build."""
    return AutoencoderIdentity("speed", "synthetic", EMBEDDING_DIM, LATENT_DIM, ARCHITECTURE)


def train_on_stream(folder: Path, batch: int, precision: PrecisionName) -> float:
    """Trains for an epoch and returns embeddings per second.

    The stream is opened before the clock starts, like the array of the simple loop. It reads ahead during training, so
    the same number of rows is read and trained on while the clock runs.
    """
    stream = EmbeddingStream(read_folders([folder], verify=False))
    steps = stream.rows // batch
    settings = TrainingSettings(steps, batch, LEARNING_RATE, loss="squared", precision=precision)
    start = time.perf_counter()
    train_autoencoder(stream, built(), settings)
    return steps * batch / (time.perf_counter() - start)


class ArrayRows(Dataset[Tensor]):
    """The single rows of an array."""

    def __init__(self, rows: Float32[np.ndarray, "rows embedding_dim"]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Float[Tensor, " embedding_dim"]:
        return torch.from_numpy(self._rows[index])


class PlainNetwork(nn.Module):
    """The same network without the package; latents and outputs are normalized once each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = ARCHITECTURES[ARCHITECTURE](EMBEDDING_DIM, LATENT_DIM)

    def forward(self, rows: Float[Tensor, "batch embedding_dim"]) -> Float[Tensor, "batch embedding_dim"]:
        return F.normalize(self.decoder(F.normalize(self.encoder(rows), dim=-1)), dim=-1)


def plain_loader(folder: Path, batch: int) -> DataLoader[Tensor]:
    """Keeps all rows in one array and shuffles them. An incomplete last batch is dropped, as in our training."""
    rows = torch.cat([file.embeddings() for file in read_folders([folder], verify=False)]).float().numpy()
    return DataLoader(ArrayRows(rows), batch, shuffle=True, num_workers=os.cpu_count() or 1, drop_last=True)


def plain_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, rows: Float[Tensor, "batch embedding_dim"]
) -> Float[Tensor, ""]:
    """Forward, loss, backward and Adam."""
    reconstructions = network(rows)
    distance = F.mse_loss(reconstructions, rows)
    loss = distance + (1 - F.cosine_similarity(reconstructions, rows, dim=-1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def train_plainly(folder: Path, batch: int) -> float:
    """Trains for an epoch with the simple loop and returns embeddings per second."""
    torch.manual_seed(0)
    loader = plain_loader(folder, batch)
    with tempfile.TemporaryDirectory() as log, SummaryWriter(log) as writer:
        start = time.perf_counter()
        network = PlainNetwork().train()
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        for step, rows in enumerate(loader):
            writer.add_scalar("loss", plain_step(network, optimizer, rows).item(), step)
        return len(loader) * batch / (time.perf_counter() - start)


def step_alone(folder: Path, batch: int) -> dict[str, float]:
    """Embeddings per second of forward, backward and Adam on rows in memory: an upper bound for any training.

    It uses fused Adam, which is faster than that of the simple loop.
    """
    torch.manual_seed(0)
    rows = EmbeddingStream(read_folders([folder], verify=False))(batch)
    network = PlainNetwork().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    rates = {}
    products: dict[str, Callable[[], AbstractContextManager[None]]]
    products = {FLOOR: contextlib.nullcontext, FLOOR_FAST: onednn_matmul}
    for name, context in products.items():
        with context():
            timing = repeat(max(10, 12_800 // batch), lambda: plain_step(network, optimizer, rows))
        rates[name] = batch / (timing.median / 1e3)
    return rates


def rows_alone(folder: Path, batch: int) -> dict[str, float]:
    """Embeddings per second of reading batches without using them."""
    stream = EmbeddingStream(read_folders([folder], verify=False))
    steps = stream.rows // batch
    start = time.perf_counter()
    for _ in range(steps):
        stream(batch)
    ours = time.perf_counter() - start
    loader = plain_loader(folder, batch)
    start = time.perf_counter()
    for _ in loader:
        pass
    plain = time.perf_counter() - start
    return {OUR_ROWS: steps * batch / ours, PLAIN_ROWS: steps * batch / plain}


RUNS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "float32": lambda folder, batch: {OURS: train_on_stream(folder, batch, "float32")},
    "plain": lambda folder, batch: {PLAIN: train_plainly(folder, batch)},
    "bfloat16": lambda folder, batch: {OURS_BFLOAT16: train_on_stream(folder, batch, "bfloat16")},
    "step": step_alone,
    "rows": rows_alone,
}
"""The alternating runs, each in its own process."""


def measure_rates(run: str, folder: Path, batch: int) -> Row:
    """Makes one of `RUNS`; `rates` has embeddings per second by name."""
    return {"rates": RUNS[run](folder, batch)}


def measure_throughput(rows: int, batches: Sequence[int], repetitions: int) -> list[Row]:
    """Measures embeddings per second: one row per batch size.

    Ratios are computed per turn, so that a slowdown of the machine affects both sides of a ratio.
    """
    results: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        written = write_embeddings(Path(folder), rows)
        for batch in batches:
            turns: list[dict[str, float]] = []
            for _ in track(range(repetitions), f"Training with batches of {batch}"):
                turn: dict[str, float] = {}
                for run in RUNS:
                    turn |= in_own_process(measure_rates, run, Path(folder), batch)["rates"]
                turns.append(turn)
            rates = {name: middle([turn[name] for turn in turns]) for name in turns[0]}
            ratios = {name: middle([turn[name] / turn[PLAIN] for turn in turns]) for name in turns[0]}
            results.append({"part": "throughput", "rows": written, "batch": batch, "rates": rates, "ratios": ratios})
    return results


def middle(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def print_throughput(rows: list[Row]) -> None:
    """Prints one row per measurement, with two columns per batch size."""
    headers = [header for row in rows for header in (f"batch {row['batch']}: embeddings/s", "times the simple loop")]
    print_table(
        ("what", *headers),
        (
            (
                name,
                *(
                    with_range(*row[figure][name].values(), digits)
                    for row in rows
                    for figure, digits in (("rates", ",.0f"), ("ratios", ".2f"))
                ),
            )
            for name in rows[0]["rates"]
        ),
        title=f"{ARCHITECTURE}, {EMBEDDING_DIM} -> {LATENT_DIM}, an epoch of {rows[0]['rows']:,} rows",
        caption="Median (from to). The ratio of a step alone is what a training could reach if rows cost nothing.",
    )


def throughput_goals(rows: list[Row]) -> list[Goal]:
    """The goals."""
    return [
        Goal(f"training, batch {row['batch']}, times the simple loop", row["ratios"][OURS]["median"], ">=", 10)
        for row in rows
    ]


def measure_streaming(rows: int, batch: int) -> Row | None:
    """Trains an epoch on many rows in its own process; returns None if the disk is too small for them."""
    with tempfile.TemporaryDirectory() as folder:
        free, needed = shutil.disk_usage(folder).free, 1.1 * rows * ROW_BYTES
        if free < needed:
            CONSOLE.print(
                f"[yellow]Streaming is left out: {rows:,} rows take {needed / 1e9:.1f} GB, but {folder} has "
                f"{free / 1e9:.1f} GB. Point TMPDIR to a larger disk."
            )
            return None
        start = time.perf_counter()
        written = write_embeddings(Path(folder), rows)
        writing = time.perf_counter() - start
        gigabytes = sum(path.stat().st_size for path in scene_paths(Path(folder))) / 1e9
        row = in_own_process(stream_epoch, Path(folder), batch)
    return {"part": "streaming", "rows": written, "gigabytes": gigabytes, "seconds_writing": writing, **row}


def stream_epoch(folder: Path, batch: int) -> Row:
    """Trains one epoch; the time includes opening the stream."""
    before, start = peak_memory_gb(), time.perf_counter()
    stream = EmbeddingStream(read_folders([folder], verify=False))
    steps = stream.rows // batch
    settings = TrainingSettings(steps, batch, LEARNING_RATE, loss="squared", precision="float32")
    losses = train_autoencoder(stream, built(), settings).losses
    seconds = time.perf_counter() - start
    rates = {"rows_per_second": steps * batch / seconds, "first_loss": losses[0], "last_loss": losses[-1]}
    return {"batch": batch, "steps": steps, "seconds": seconds, "memory_before_gb": before, **rates}


def print_streaming(row: Row) -> None:
    """Prints one row."""
    headings = ("rows", "on disk", "batch", "seconds", "rows/s", "peak memory", "before training")
    cells = (
        f"{row['rows']:,}",
        f"{row['gigabytes']:.2f} GB",
        str(row["batch"]),
        f"{row['seconds']:.1f}",
        f"{row['rows_per_second']:,.0f}",
        f"{row['peak_memory_gb']:.2f} GB",
        f"{row['memory_before_gb']:.2f} GB",
    )
    print_table(headings, [cells], title="Streaming")


def streaming_goals(row: Row) -> list[Goal]:
    """The goal."""
    return [Goal(f"streaming {row['rows']:,} rows, peak GB of the whole process", row["peak_memory_gb"], "<=", 2)]
