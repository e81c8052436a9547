"""Sweep over latent widths: a table and a plot of their fidelity."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.utils.files import atomic_path
from pretrain.fidelity import PcaBaseline, measure_fidelity
from pretrain.settings import TrainingSettings
from pretrain.tables import show_fidelity
from pretrain.train import EmbeddingSource, train_autoencoder

LOGGER = logging.getLogger(__name__)

SWEEP_WIDTHS = (3, 8, 12, 16, 24, 32, 64)
"""Default latent widths, including LangSplat's 3 and the paper's 16."""

Rows = dict[int, dict[str, float]]


def run_sweep(
    make_source: Callable[[], EmbeddingSource],
    held_out: Float[Tensor, "held_out embedding_dim"],
    fitted_on: Float[Tensor, "fitted embedding_dim"],
    latent_dims: Sequence[int],
    architecture: str,
    settings: TrainingSettings,
    output_dir: Path,
) -> Rows:
    """Trains one autoencoder per width with the same settings, and measures all on the same held-out embeddings.

    The PCA baseline is fitted on `fitted_on`. The figures by width are written to `sweep.json` and `sweep.png` in
    `output_dir`, and returned.
    """
    pca_baseline, rows = PcaBaseline(fitted_on), {}
    for latent_dim in latent_dims:
        name = f"sweep-{latent_dim}"
        identity = AutoencoderIdentity(name, "sweep", held_out.shape[1], latent_dim, architecture=architecture)
        result = train_autoencoder(make_source(), identity, settings, held_out=held_out)
        rows[latent_dim] = measure_fidelity(result.autoencoder, held_out, pca_baseline)
    with atomic_path(output_dir / "sweep.json") as path:
        path.write_text(json.dumps(rows, indent=1))
    draw_sweep(rows, output_dir / "sweep.png")
    named = {str(latent_dim): row for latent_dim, row in rows.items()}
    show_fidelity("Fidelity on held-out embeddings by latent width", "D", named)
    LOGGER.info("Wrote sweep.json and sweep.png to %s.", output_dir)
    return rows


def draw_sweep(rows: Rows, path: Path) -> None:
    """Plots the cosines of autoencoder and PCA over the width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    lines = {"cosine": "-o", "centered cosine": "--o", "PCA cosine": "-s", "PCA centered": "--s"}
    for name, style in lines.items():
        axes.plot(list(rows), [row[name] for row in rows.values()], style, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rows), [str(latent_dim) for latent_dim in rows])
    axes.set_xlabel("latent width D")
    axes.set_ylabel("mean over held-out embeddings")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
