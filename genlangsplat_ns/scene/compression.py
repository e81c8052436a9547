"""A run written anew with its latents in fewer bytes, and what that costs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.metrics import intersection_over_union
from genlangsplat_ns.language.compression import (
    LATENTS,
    Agreement,
    CompressedLatents,
    Encoding,
    compress_latents,
    directions_agree,
    storage_of_methods,
)
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene, SceneView
from genlangsplat_ns.scene.metrics import language_metrics
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_folder
from genlangsplat_ns.utils.progress import track

GENERAL_TEXTS = ("an animal", "a plant", "food", "furniture", "a vehicle")
"""What is asked of a run that has no texts of its own, to compare masks."""


def compress_run(config_path: Path, encoding: Encoding, texts: Sequence[str] = ()) -> Path:
    """Writes a run beside another one with its latents in fewer bytes, and prints sizes and what is lost.

    Everything else is as it was, bit for bit, except that the state of the optimizers stays behind.

    Args:
        config_path: config.yml of the run, which stays as it is.
        encoding: How latents are stored.
        texts: Texts whose masks are compared over the held-out views; without any, those of the run, or some general
            ones.

    Returns:
        config.yml of the new run.

    Raises:
        GenLangSplatError: There is no such run, it has no language phase, its latents are compressed already, or the
            new folder exists.
    """
    source = config_path.resolve().parent
    target = source.with_name(f"{source.name}-{encoding}")
    if target.exists():
        raise GenLangSplatError(f"{target} exists already and is not overwritten. Remove it to compress the run again.")
    scene = open_run(config_path)
    config = yaml.load(config_path.read_text(encoding="utf-8"), Loader=yaml.Loader)
    checkpoint = source / config.relative_model_dir / f"step-{scene.model.step:09d}.ckpt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    stored = state["pipeline"][f"_model.{LATENTS}"]
    if stored.dtype != torch.float32:
        raise GenLangSplatError(
            f"{config_path} stores its latents as {stored.dtype} already, expected float32. Name the run it was made "
            "of."
        )
    compressed = compress_latents(stored, encoding)
    lost = measure_loss(scene, compressed.restore(), texts)

    others = {name: value for name, value in state["pipeline"].items() if name.startswith("_model.")}
    state |= {"pipeline": {**others, **compressed.weights("_model.")}, "optimizers": {}, "schedulers": {}}
    config.timestamp = target.name
    # Where the run was resumed from would be looked for among the new checkpoints.
    config.load_dir = config.load_step = config.load_checkpoint = None
    with atomic_folder(target) as folder:
        models = folder / config.relative_model_dir
        models.mkdir(parents=True)
        torch.save(state, models / checkpoint.name)
        (folder / "config.yml").write_text(yaml.dump(config), encoding="utf-8")
        shutil.copy(source / "dataparser_transforms.json", folder)

    _print_sizes(stored, compressed, checkpoint, target / config.relative_model_dir / checkpoint.name, encoding)
    _print_loss(lost)
    CONSOLE.print(f"The compressed run is {escape(str(target / 'config.yml'))}.", soft_wrap=True)
    return target / "config.yml"


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


def measure_loss(scene: LanguageScene, restored: Tensor, texts: Sequence[str] = ()) -> CompressionLoss:
    """Compares a scene with itself carrying other latents.

    Args:
        scene: The scene, which is left as it is.
        restored: Its latents, compressed and read again.
        texts: What to ask; see `compress_run`.
    """
    own = tuple(text for text in scene.model.config.query_texts.split(";") if text.strip())
    embedded = scene.embed(TextQuery(tuple(texts) or own or GENERAL_TEXTS))
    restored = restored.to(scene.model.device)
    latents = directions_agree(scene.model.latents, restored)
    embeddings = directions_agree(scene.model.latents, restored, scene.decode)
    before = language_metrics(scene).means
    with _carrying(scene, restored):
        after = language_metrics(scene).means
    overlaps, num_asked = [], 0
    for view in track(scene.views("eval") or scene.views("train"), "Comparing masks"):
        masks = _masks(scene, view, embedded)
        with _carrying(scene, restored):
            pairs = list(zip(masks, _masks(scene, view, embedded), strict=True))
        num_asked += len(pairs)
        overlaps += [intersection_over_union(*pair) for pair in pairs if np.any(pair)]
    metrics = {name: (before[name], after[name]) for name in before}
    return CompressionLoss(latents, embeddings, metrics, overlaps, num_asked, embedded.query.texts)


@contextmanager
def _carrying(scene: LanguageScene, latents: Tensor) -> Iterator[None]:
    """Lets the Gaussians carry other latents for a while."""
    own = scene.model.latents.data
    scene.model.latents.data = latents
    try:
        yield
    finally:
        scene.model.latents.data = own


def _masks(scene: LanguageScene, view: SceneView, query: EmbeddedQuery) -> list[np.ndarray]:
    return [answer.mask.cpu().numpy() for answer in scene.answer(query, scene.camera(view), "rendered").answers]


def _print_sizes(stored: Tensor, compressed: CompressedLatents, before: Path, after: Path, encoding: Encoding) -> None:
    """Prints what methods store for language, and what this run stored and stores."""
    table = Table("method", "stored on a Gaussian", "MB per million Gaussians", title="Language of a scene, all levels")
    for row in storage_of_methods(*stored.shape[1:]):
        table.add_row(row.method, row.stored, f"{row.bytes_per_gaussian:,}")
    CONSOLE.print(table)
    sizes = {
        "latents": (stored.nbytes, sum(part.nbytes for part in compressed.weights().values())),
        "checkpoint": (before.stat().st_size, after.stat().st_size),
    }
    table = Table("MB", "before", encoding, title=f"This run, {len(stored):,} Gaussians")
    for name, pair in sizes.items():
        table.add_row(name, *(f"{size / 1e6:,.2f}" for size in pair))
    CONSOLE.print(table)


def _print_loss(lost: CompressionLoss) -> None:
    """Prints how alike the scene is before and after."""
    table = Table("", "mean", "worst", title="What is left, 1 being all")
    for name, agreement in (("cosine of latents", lost.latents), ("cosine of embeddings", lost.embeddings)):
        table.add_row(name, f"{agreement.mean:.6f}", f"{agreement.worst:.6f}")
    if lost.overlaps:
        table.add_row("IoU of masks", f"{np.mean(lost.overlaps):.4f}", f"{min(lost.overlaps):.4f}")
    CONSOLE.print(table)
    asked = "; ".join(lost.texts)
    CONSOLE.print(escape(f"Masks of {len(lost.overlaps)} of {lost.num_asked} pairs of view and text ({asked});"))
    CONSOLE.print("in the others nothing is selected before or after.")
    table = Table("held-out views", "before", "after")
    for name, pair in lost.metrics.items():
        table.add_row(name, *(f"{value:.4f}" for value in pair))
    CONSOLE.print(table)
