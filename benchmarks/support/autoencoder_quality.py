"""The quality part of the autoencoder benchmark: real CLIP vectors, and whole sources that are held out of training."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.utils.console import CONSOLE
from pretrain.embedding_commands import Train
from pretrain.fidelity import PcaBaseline, fidelity
from pretrain.settings import TrainingSettings
from pretrain.training import train_autoencoder
from support.benchmark import Goal, Row
from support.tables import print_table, with_range

LATENT_DIM = 16
"""Width of all latents that are compared."""

LEARNED = ("residual", "linear")
"""Architectures to train."""

SAME_PHOTO = 0.99
"""Photographs whose vectors have a higher cosine than this count as one photograph."""

STEPS, QUICK_STEPS = 1500, 60
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)

TEXT_FILES = (
    "lvis_v1_clip_a+cname.npy",
    "coco_clip_a+cname.npy",
    "o365_clip_a+cnamefix.npy",
    "oid_clip_a+cname.npy",
)
"""Class names with text vectors, in `clip_text_embeddings_detic`."""

FIGURES = ("cosine", "centered cosine", "recall at 1")
"""The measured figures of a compressor."""


@dataclass(frozen=True)
class Pairs:
    """Unit embeddings of texts and images, and the row of the image that each text describes."""

    texts: Float[Tensor, "num_texts embedding_dim"]
    images: Float[Tensor, "num_images embedding_dim"]
    image_of_text: Int64[Tensor, " num_texts"]

    def recall_at_1(self, images: Float[Tensor, "num_images embedding_dim"]) -> float:
        """The fraction of texts whose nearest image is their own; `images` may be compressed embeddings."""
        return float(((self.texts @ images.T).argmax(dim=-1) == self.image_of_text).float().mean())


@dataclass(frozen=True)
class Fold:
    """Training data, and a source that is held out completely.

    Attributes:
        name: Letter and description.
        trained: Rows to train on.
        tested: Rows of the held-out source.
        pairs: These rows and the captions that describe them, if there are any.
    """

    name: str
    trained: Float[Tensor, "trained embedding_dim"]
    tested: Float[Tensor, "tested embedding_dim"]
    pairs: Pairs | None = None


def unit_vectors(path: Path) -> Float[Tensor, "count embedding_dim"]:
    """Reads vectors and normalizes them."""
    return F.normalize(torch.from_numpy(np.load(path)).float(), dim=-1)


def read_folds(folder: Path) -> list[Fold]:
    """Reads the vectors and makes the folds.

    Args:
        folder: Folder with `clip_embeddings` and `clip_text_embeddings_detic`.
    """
    images = folder / "clip_embeddings"
    photos = unit_vectors(images / "flickr8k_1000_vitb32.npy")
    watches = unit_vectors(images / "watches_696_vitb32.npy")
    words = torch.cat([unit_vectors(folder / "clip_text_embeddings_detic" / name) for name in TEXT_FILES])
    pairs = read_pairs(images, photos)
    return [
        Fold("a: photos + watches -> pairs", torch.cat([photos, watches]), pairs.images, pairs),
        Fold("b: photos + watches + words -> pairs", torch.cat([photos, watches, words]), pairs.images, pairs),
        Fold("c: photos -> watches", photos, watches),
        Fold("d: watches -> photos", watches, photos),
    ]


def read_pairs(folder: Path, known: Float[Tensor, "known embedding_dim"]) -> Pairs:
    """Reads distinct photographs with captions, without the known photographs and their captions.

    Args:
        folder: The folder `clip_embeddings`.
        known: Vectors of photographs in the training data.
    """
    with (folder / "flickr8k_pairs_500_metadata.csv").open(newline="") as file:
        names = [row["image_id"] for row in csv.DictReader(file)]
    images = unit_vectors(folder / "flickr8k_pairs_500_image_vitb32.npy")
    texts = unit_vectors(folder / "flickr8k_pairs_500_text_vitb32.npy")
    firsts = {name: names.index(name) for name in dict.fromkeys(names)}
    is_new = (images @ known.T).amax(dim=1) <= SAME_PHOTO
    kept = [name for name, first in firsts.items() if bool(is_new[first])]
    rows = [row for row, name in enumerate(names) if name in set(kept)]
    image_of_text = torch.tensor([kept.index(names[row]) for row in rows])
    return Pairs(texts[rows], images[[firsts[name] for name in kept]], image_of_text)


def recipe(steps: int, seed: int) -> TrainingSettings:
    """The settings of `python -m pretrain train` for a number of steps, without validation during training."""
    return replace(Train.training, steps=steps, seed=seed, patience=0)


def measure(fold: Fold, reconstructions: Tensor, pca_baseline: PcaBaseline) -> dict[str, float]:
    """What reconstructions of the tested rows keep."""
    kept = fidelity(reconstructions, fold.tested, pca_baseline)
    figures = {name: kept[name] for name in ("cosine", "centered cosine")}
    if fold.pairs is not None:
        figures["recall at 1"] = fold.pairs.recall_at_1(reconstructions)
    return figures


@torch.no_grad()
def measure_untrained(fold: Fold, pca_baseline: PcaBaseline) -> dict[str, dict[str, float]]:
    """What needs no training: nothing compressed, principal components, and one answer for all."""
    constant = F.cosine_similarity(pca_baseline.mean[None], fold.tested, dim=-1).mean()
    return {
        "uncompressed": measure(fold, fold.tested, pca_baseline),
        f"PCA {LATENT_DIM}": measure(fold, pca_baseline.pca(fold.tested, LATENT_DIM), pca_baseline),
        "constant": {"cosine": float(constant)},
    }


def train_and_measure(fold: Fold, architecture: str, settings: TrainingSettings, pca_baseline: PcaBaseline) -> Row:
    """Trains on the fold's rows alone, keeps the last weights, and measures these on the source held out."""
    identity = AutoencoderIdentity(
        f"{architecture}-{LATENT_DIM}", "CLIP ViT-B/32", fold.trained.shape[1], LATENT_DIM, architecture
    )
    generator = torch.Generator().manual_seed(settings.seed)

    def draw(count: int) -> Tensor:
        return fold.trained[torch.randint(len(fold.trained), (count,), generator=generator)]

    result = train_autoencoder(draw, identity, settings)
    with torch.no_grad():
        return measure(fold, result.autoencoder(fold.tested), pca_baseline) | {"seconds": result.seconds}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and range."""
    return {"mean": statistics.fmean(values), "min": min(values), "max": max(values)}


def measure_quality(folder: Path, quick: bool) -> Row:
    """Trains and measures everything; `rows` has one row per fold and compressor, with the spread over the seeds."""
    steps, seeds = (QUICK_STEPS, QUICK_SEEDS) if quick else (STEPS, SEEDS)
    rows: list[Row] = []
    for fold in read_folds(folder):
        pca_baseline = PcaBaseline(fold.trained)
        runs = {name: [figures] for name, figures in measure_untrained(fold, pca_baseline).items()}
        for architecture in LEARNED:
            runs[architecture] = [
                train_and_measure(fold, architecture, recipe(steps, seed), pca_baseline) for seed in seeds
            ]
        counts = {"trained": len(fold.trained), "tested": len(fold.tested)}
        for name, figures in runs.items():
            known = [figure for figure in (*FIGURES, "seconds") if figure in figures[0]]
            spreads = {figure: spread([run[figure] for run in figures]) for figure in known}
            rows.append({"part": "quality", "fold": fold.name, "compressor": name, **counts, **spreads})
        CONSOLE.print(f"Measured fold {fold.name}: {steps} steps, {len(seeds)} seeds.")
    return {"rows": rows}


def print_quality(rows: list[Row]) -> None:
    """Prints one row per fold and compressor: the mean over the seeds and its range."""

    def cell(row: Row, figure: str) -> str:
        return with_range(*row[figure].values(), ".4f") if figure in row else "-"

    lines: list[tuple[str, ...]] = []
    for number, row in enumerate(rows):
        is_first = number == 0 or rows[number - 1]["fold"] != row["fold"]
        if is_first and number:
            lines.append(())
        fold = f"{row['fold']}\n({row['trained']} -> {row['tested']} rows)" if is_first else ""
        seconds = f"{row['seconds']['mean']:.0f}" if "seconds" in row else ""
        lines.append((fold, row["compressor"], *(cell(row, figure) for figure in FIGURES), seconds))
    print_table(
        ("fold", "compressor", *FIGURES, "s a training"),
        lines,
        title=f"What {LATENT_DIM} numbers keep of real CLIP vectors of sources that no training saw",
        caption="Mean (range over seeds). Centered: without the mean of the rows trained on, which differ by fold.",
    )


def quality_goals(rows: list[Row]) -> list[Goal]:
    """The goals: on the first fold, the worst seed of `residual` must reach the principal components."""
    first = {row["compressor"]: row for row in rows if row["fold"] == rows[0]["fold"]}
    learned, linear = first["residual"], first[f"PCA {LATENT_DIM}"]
    return [
        Goal(
            f"fold a, residual, {figure}: margin over PCA, worst seed",
            learned[figure]["min"] - linear[figure]["max"],
            ">=",
            0,
        )
        for figure in ("cosine", "recall at 1")
    ]
