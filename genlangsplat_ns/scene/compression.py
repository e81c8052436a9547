"""Writes a copy of a run with compressed latents, and measures the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.metrics import intersection_over_union
from genlangsplat_ns.language.compression import LATENTS, Agreement, Encoding, compress_latents, directions_agree
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.scene.labels import usable_labels
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView
from genlangsplat_ns.scene.metrics import metrics_with_labels
from genlangsplat_ns.scene_io.runs import MODEL, StoredRun, write_beside
from genlangsplat_ns.utils.progress import track

GENERAL_TEXTS = ("an animal", "a plant", "food", "furniture", "a vehicle")
"""Texts whose masks are compared if the run has no texts."""


@dataclass(frozen=True)
class CompressionLoss:
    """Differences between a scene and the same scene with compressed latents."""

    latents: Agreement
    """Cosines between the latents before and after."""
    embeddings: Agreement
    """Cosines between the decoded embeddings before and after."""
    metrics: dict[str, tuple[float, float]]
    """The language metrics of ns-eval over the held-out views, before and after; empty without photographs."""
    overlaps: list[float]
    """IoU of the masks before and after, for each pair of view and text where at least one mask is not empty."""
    num_asked: int
    """Number of pairs of view and text; 0 without photographs."""
    texts: tuple[str, ...]


@dataclass(frozen=True)
class CompressedRun:
    """A copy of a run with compressed latents."""

    config_path: Path
    shape: tuple[int, ...]
    """Shape of the latents: Gaussians, levels and width."""
    bytes: dict[str, tuple[int, int]]
    """Size of the `latents` and of the `checkpoint`, before and after."""
    loss: CompressionLoss


def compress_run(scene: LanguageScene, run: StoredRun, encoding: Encoding, texts: Sequence[str] = ()) -> CompressedRun:
    """Writes a copy of a run with compressed latents next to it, and measures the loss.

    Everything else is copied bit for bit, except for the optimizer states, which are dropped. The masks of `texts` are
    compared over the held-out views; if there are none, those of the texts of the run, or `GENERAL_TEXTS`.

    Raises:
        GenLangSplatError: The latents are already compressed, or the new folder exists.
    """
    target = compressed_folder(run.config_path, encoding)
    state = run.load_state(mmap=True)
    stored = state["pipeline"][f"{MODEL}{LATENTS}"]
    if stored.dtype != torch.float32:
        raise GenLangSplatError(
            f"{run.config_path} stores its latents as {stored.dtype} already; expected float32. Give the run that it "
            "was compressed from."
        )
    compressed = compress_latents(stored, encoding)
    loss = _measure_loss(scene, compressed.restore(), texts)
    others = {name: value for name, value in state["pipeline"].items() if name.startswith(MODEL)}
    state |= {"pipeline": {**others, **compressed.weights(MODEL)}, "optimizers": {}, "schedulers": {}}
    config = run.read_config()
    config.timestamp = target.name
    written = write_beside(run, target, state, config)
    checkpoint = target / config.relative_model_dir / run.checkpoint.name
    sizes = {
        "latents": (stored.nbytes, sum(tensor.nbytes for tensor in compressed.weights().values())),
        "checkpoint": (run.checkpoint.stat().st_size, checkpoint.stat().st_size),
    }
    return CompressedRun(written, tuple(stored.shape), sizes, loss)


def compressed_folder(config_path: Path, encoding: Encoding) -> Path:
    """Returns the folder of a run's compressed copy.

    Raises:
        GenLangSplatError: The folder already exists.
    """
    source = config_path.resolve().parent
    target = source.with_name(f"{source.name}-{encoding}")
    if target.exists():
        raise GenLangSplatError(f"{target} exists already and is not overwritten. Remove it to compress the run again.")
    return target


def _measure_loss(scene: LanguageScene, restored: Tensor, texts: Sequence[str]) -> CompressionLoss:
    """Compares a scene with the same scene after its latents are replaced by the restored ones."""
    run_texts = tuple(text for text in scene.model.config.query_texts.split(";") if text.strip())
    embedded = scene.embed(TextQuery(tuple(texts) or run_texts or GENERAL_TEXTS))
    after = scene.with_latents(restored)
    scenes = scene, after
    # Without its photographs a scene has no views.
    views = scene.views("eval") or scene.views("train")
    latents = directions_agree(scene.field.latents, after.field.latents)
    embeddings = directions_agree(scene.field.latents, after.field.latents, scene.field.decode)
    # Read once: a disk that fails between both would leave one of them without some metrics.
    labeled = usable_labels(scene, scene.views("eval")) if views else None
    before_means, after_means = (metrics_with_labels(one, labeled).means if views else {} for one in scenes)
    overlaps, num_asked = [], 0
    for view in track(views, "Comparing masks"):
        pairs = list(zip(*(_masks(one, view, embedded) for one in scenes), strict=True))
        num_asked += len(pairs)
        overlaps += [intersection_over_union(*pair) for pair in pairs if np.any(pair)]
    metrics = {name: (before_means[name], after_means[name]) for name in before_means}
    return CompressionLoss(latents, embeddings, metrics, overlaps, num_asked, embedded.query.texts)


def _masks(scene: LanguageScene, view: SceneView, query: EmbeddedQuery) -> list[np.ndarray]:
    return [answer.mask.cpu().numpy() for answer in scene.answer(query, scene.camera(view), "rendered").answers]
