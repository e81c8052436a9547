"""Cross-domain evaluation: trains on one domain and measures on the others, to test generalization."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path
from pretrain.fidelity import PcaBaseline, measure_fidelity
from pretrain.settings import TrainingSettings
from pretrain.train import EmbeddingSource, train_autoencoder

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Domain:
    """Embeddings of one domain; `fitted_on` is a sample of its training embeddings, for the PCA baseline."""

    name: str
    source: EmbeddingSource
    held_out: Float[Tensor, "held_out embedding_dim"]
    fitted_on: Float[Tensor, "fitted embedding_dim"]


def evaluate_across(
    domains: Sequence[Domain], latent_dim: int, architecture: str, settings: TrainingSettings, output: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Trains on each domain and measures on the held-out embeddings of all.

    Training does not use the held-out embeddings, not even to select the best step. The JSON file `output` and the
    result have the figures by training domain and measured domain.

    Raises:
        GenLangSplatError: If there are fewer than two domains, or two with the same name.
    """
    names = [domain.name for domain in domains]
    if len(set(names)) < max(2, len(names)):
        raise GenLangSplatError(
            f"A table across domains needs two or more folders with different names, found {', '.join(names)}."
        )
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for trained in domains:
        embedding_dim = trained.held_out.shape[1]
        identity = AutoencoderIdentity(trained.name, "cross", embedding_dim, latent_dim, architecture=architecture)
        autoencoder = train_autoencoder(trained.source, identity, settings).autoencoder
        pca_baseline = PcaBaseline(trained.fitted_on)
        figures[trained.name] = {
            measured.name: measure_fidelity(autoencoder, measured.held_out, pca_baseline) for measured in domains
        }
    with atomic_path(output) as path:
        path.write_text(json.dumps(figures, indent=1))
    show_across_table(figures)
    LOGGER.info("Wrote %s.", output)
    return figures


def show_across_table(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """Prints a table of cosines, with those of a PCA of the same training data in brackets."""
    table = Table("trained on", *figures, title="Cosine on held-out embeddings of each domain (PCA in brackets)")
    for name, row in figures.items():
        table.add_row(name, *(f"{cell['cosine']:.3f} ({cell['PCA cosine']:.3f})" for cell in row.values()))
    CONSOLE.print(table)
