"""A run written anew with its latents in fewer bytes, and what that changes."""

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
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView
from genlangsplat_ns.scene.metrics import language_metrics
from genlangsplat_ns.scene_io.runs import MODEL, StoredRun, write_beside
from genlangsplat_ns.utils.progress import track

GENERAL_TEXTS = ("an animal", "a plant", "food", "furniture", "a vehicle")
"""What is asked of a run that has no texts of its own, to compare masks."""


@dataclass(frozen=True)
class CompressionLoss:
    """What changes when a scene carries compressed latents."""

    latents: Agreement
    """Cosines between the latents before and after."""
    embeddings: Agreement
    """Cosines between what they decode to."""
    metrics: dict[str, tuple[float, float]]
    """The language metrics of ns-eval over the held-out views, before and after."""
    overlaps: list[float]
    """IoU of the masks before and after, for each view and text where one of them selects anything."""
    num_asked: int
    """Pairs of a view and a text that were asked."""
    texts: tuple[str, ...]
    """The texts."""


@dataclass(frozen=True)
class CompressedRun:
    """A run written anew with its latents in fewer bytes."""

    config_path: Path
    """config.yml of the new run."""
    shape: tuple[int, ...]
    """Gaussians, levels and width of the latents."""
    bytes: dict[str, tuple[int, int]]
    """Size of the `latents` and of the `checkpoint`, before and after."""
    loss: CompressionLoss
    """What the compression changes."""


def compress_run(scene: LanguageScene, run: StoredRun, encoding: Encoding, texts: Sequence[str] = ()) -> CompressedRun:
    """Writes a run beside another one with its latents in fewer bytes, and measures what is lost.

    Everything else is copied bit for bit, except for the state of the optimizers, which is left out.

    Args:
        scene: The opened run.
        run: Where it is stored; it stays as it is.
        encoding: How latents are stored.
        texts: Texts whose masks are compared over the held-out views; without any, those of the run, or some general
            ones.

    Raises:
        GenLangSplatError: The latents are compressed already, or the new folder exists.
    """
    target = compressed_folder(run.config_path, encoding)
    state = run.load_state(mmap=True)
    stored = state["pipeline"][f"{MODEL}{LATENTS}"]
    if stored.dtype != torch.float32:
        raise GenLangSplatError(
            f"{run.config_path} stores its latents as {stored.dtype} already, expected float32. Name the run it was "
            "made of."
        )
    compressed = compress_latents(stored, encoding)
    loss = measure_loss(scene, compressed.restore(), texts)
    others = {name: value for name, value in state["pipeline"].items() if name.startswith(MODEL)}
    state |= {"pipeline": {**others, **compressed.weights(MODEL)}, "optimizers": {}, "schedulers": {}}
    config = run.read_config()
    config.timestamp = target.name
    written = write_beside(run, target, state, config)
    checkpoint = target / config.relative_model_dir / run.checkpoint.name
    sizes = {
        "latents": (stored.nbytes, sum(part.nbytes for part in compressed.weights().values())),
        "checkpoint": (run.checkpoint.stat().st_size, checkpoint.stat().st_size),
    }
    return CompressedRun(written, tuple(stored.shape), sizes, loss)


def compressed_folder(config_path: Path, encoding: Encoding) -> Path:
    """The folder of a run's compressed version.

    Raises:
        GenLangSplatError: It exists already.
    """
    source = config_path.resolve().parent
    target = source.with_name(f"{source.name}-{encoding}")
    if target.exists():
        raise GenLangSplatError(f"{target} exists already and is not overwritten. Remove it to compress the run again.")
    return target


def measure_loss(scene: LanguageScene, restored: Tensor, texts: Sequence[str] = ()) -> CompressionLoss:
    """Compares a scene with itself carrying other latents.

    Args:
        scene: The scene.
        restored: Its latents, compressed and read again.
        texts: What to ask; see `compress_run`.
    """
    own = tuple(text for text in scene.model.config.query_texts.split(";") if text.strip())
    embedded = scene.embed(TextQuery(tuple(texts) or own or GENERAL_TEXTS))
    after = scene.with_latents(restored)
    scenes = scene, after
    latents = directions_agree(scene.field.latents, after.field.latents)
    embeddings = directions_agree(scene.field.latents, after.field.latents, scene.field.decode)
    before_means, after_means = (language_metrics(one).means for one in scenes)
    overlaps, num_asked = [], 0
    for view in track(scene.views("eval") or scene.views("train"), "Comparing masks"):
        pairs = list(zip(*(_masks(one, view, embedded) for one in scenes), strict=True))
        num_asked += len(pairs)
        overlaps += [intersection_over_union(*pair) for pair in pairs if np.any(pair)]
    metrics = {name: (before_means[name], after_means[name]) for name in before_means}
    return CompressionLoss(latents, embeddings, metrics, overlaps, num_asked, embedded.query.texts)


def _masks(scene: LanguageScene, view: SceneView, query: EmbeddedQuery) -> list[np.ndarray]:
    return [answer.mask.cpu().numpy() for answer in scene.answer(query, scene.camera(view), "rendered").answers]
