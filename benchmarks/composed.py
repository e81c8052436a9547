"""The sanity ladder on composed scenes: exact labels, real CLIP words, autoencoders that never saw them.

    python benchmarks/composed.py --data DATA --json composed.json

DATA is the folder that holds `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Words are asked of
held-out views, by LangSplat's rules with the filters scaled to the small pictures. Shuffled texts ask for another
object and ought to be at chance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from common import Bar, write_results
from composed_autoencoders import RECIPES, STEPS, ForeignVectors, foreign_vectors, train_on
from composed_objects import read_words
from composed_run import THING, FieldRun, WordTable, labels_of
from composed_scene import ComposedScene, RegionSettings, compose, source_vectors
from genlangsplat_ns.console import CONSOLE
from genlangsplat_ns.evaluation.evaluate import TextTarget
from genlangsplat_ns.evaluation.ladder import PaintedRun, Rung, climb
from genlangsplat_ns.evaluation.protocols import LANGSPLAT_LERF
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.lifting import LabelledView, LiftSettings
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.refinement import lift_latents
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.rasterization import CompositingWeights
from language_scene import composite_all, encode_regions

Row = dict[str, Any]

SIZE = {"num_objects": 8, "num_views": 24, "width": 216, "height": 144, "max_gaussians": 4000}
PROTOCOL = replace(LANGSPLAT_LERF, name="langsplat-lerf, filters scaled", kernel=7, smoothing=3)
"""LangSplat's pictures are four to five times as wide."""

DIRTY = RegionSettings(mislabelled=0.05, merged=0.1, split=0.1, missing=0.1, boundary_shift=1.0)
"""Regions as a mask model makes them."""

ARCHITECTURES = ("mlp", "linear", "langsplat", "residual")
DIMENSIONS = (8, 16, 32)
BEST = ("words", "residual")
QUERIES = {
    "one thing": ((THING,), 10.0),
    "one thing, sharp": ((THING,), 50.0),
    "other texts, sharp": (None, 50.0),
}
"""Negatives and temperature of a query; None for all words of the scene and `THING`."""

USUAL = "one thing, sharp"
"""The query that is asked of everything, and that the goals are held against. It was settled on, with the settings of
the recipe `words`, while looking at scenes 0 to 2, so these scenes flatter it."""

WITHOUT = AutoencoderIdentity("none", "CLIP ViT-B/32", 512, 512)


def make_query(scene: ComposedScene, name: str) -> TextQuery:
    """A query with its negatives."""
    negatives, temperature = QUERIES[name]
    return TextQuery(("unused",), negatives or (*scene.objects, THING), temperature=temperature)


class Road:
    """What is common to all ladders of one scene."""

    def __init__(self, data: Path, seed: int, foreign: ForeignVectors | None = None) -> None:
        self.scene = compose(data, seed, **SIZE)
        self.foreign = foreign or foreign_vectors(data, self.scene)
        self.encoder = WordTable(*read_words(data), self.foreign.words)
        self.weights = composite_all(self.scene)
        self.labels = labels_of(self.scene)
        self.targets = [TextTarget(name, name) for name in self.scene.objects]

    def bottom(self) -> dict[str, Any]:
        """The rungs without an autoencoder: the texts themselves, and the image vectors without noise."""
        blank = FieldRun(self.scene, self.encoder, self._painted_sources, lambda rows: rows, WITHOUT)
        background = self.encoder.encode_texts([THING])
        texts = torch.cat([self.scene.texts, background])
        return {
            "texts, painted": PaintedRun(blank, self.labels, self.scene.objects, texts, lambda rows: rows),
            "image vectors, painted": blank,
        }

    def top(self, autoencoder: Autoencoder) -> dict[str, Any]:
        """The rungs with an autoencoder: painted, lifted from exact regions, lifted from those of a mask model."""

        def run(latents: Any) -> FieldRun:
            return FieldRun(self.scene, self.encoder, latents, autoencoder.decode, autoencoder.identity)

        def rendered(settings: RegionSettings) -> FieldRun:
            lifted = self._lift(autoencoder, settings)
            return run(lambda index: _composite(self.weights[index], lifted))

        return {
            "through the autoencoder": run(lambda index: autoencoder.encode(self._painted_sources(index))),
            "lifted and rendered": rendered(RegionSettings(region_noise=0.0)),
            "with noise and wrong regions": rendered(DIRTY),
        }

    def climb(self, rungs: dict[str, Any], query: str) -> list[Rung]:
        """Scores rungs in the held-out views."""
        views = next(iter(rungs.values())).views("eval")
        return climb(rungs, views, self.labels, self.targets, make_query(self.scene, query), PROTOCOL)

    def _painted_sources(self, index: int) -> torch.Tensor:
        labels, patches = self.scene.labels[index].long(), self.scene.patches[index].long()
        vectors = torch.cat([source_vectors(self.scene, RegionSettings()), torch.zeros(1, 512)])
        owners = torch.where(labels >= 0, labels, torch.where(patches >= 0, patches + len(self.scene.objects), -1))
        return vectors[owners][:, :, None].expand(-1, -1, len(LEVELS), -1)

    def _lift(self, autoencoder: Autoencoder, settings: RegionSettings) -> torch.Tensor:
        regions = encode_regions(self.scene, autoencoder, settings)
        views = [LabelledView(self.weights[index], *regions[index]) for index in self.scene.split("train")]
        shape = len(self.scene.gaussians.means), len(LEVELS), autoencoder.identity.latent_dim
        return lift_latents(views, *shape, LiftSettings()).latents


def _composite(weights: CompositingWeights, latents: torch.Tensor) -> torch.Tensor:
    return weights.composite(latents.flatten(1).contiguous()).unflatten(-1, latents.shape[1:])


def measure(road: Road, rungs: dict[str, Any], queries: Sequence[str], **about: Any) -> list[Row]:
    """One row per rung and query."""
    return [
        {"seed": road.scene.seed, "query": query, **about, "rung": rung.name, **asdict(rung)}
        for query in queries
        for rung in road.climb(rungs, query)
    ]


def show(rows: list[Row]) -> None:
    """Prints every rung."""
    table = Table("scene", "recipe", "autoencoder", "query", "rung", "localisation", "mIoU", "shuffled", "mIoU")
    for row in rows:
        autoencoder = f"{row['architecture']} {row['latent_dim']}" if row["architecture"] else "none"
        figures = [row[name] for name in ("localization", "miou", "shuffled_localization", "shuffled_miou")]
        cells = [str(row["seed"]), row["recipe"], autoencoder, row["query"], row["rung"]]
        table.add_row(*cells, *(f"{figure:.3f}" for figure in figures))
    CONSOLE.print(table)


def bars_of(rows: list[Row]) -> list[Bar]:
    """The goals, each by the worst scene, for the one query that was settled on beforehand."""

    def worst(chosen: list[Row], figure: str) -> float:
        return min(row[figure] for row in chosen)

    usual = [row for row in rows if row["query"] == USUAL]
    texts = [row for row in usual if row["rung"] == "texts, painted"]
    final = [
        row
        for row in usual
        if row["rung"] == "with noise and wrong regions"
        and (row["recipe"], row["architecture"], row["latent_dim"]) == (*BEST, 16)
    ]
    scenes = f"worst of {len(final)} scenes"
    return [
        Bar(f"texts painted: localisation, {scenes}", worst(texts, "localization"), ">=", 0.95),
        Bar(f"texts painted: mIoU, {scenes}", worst(texts, "miou"), ">=", 0.95),
        Bar(f"whole road, D = 16: localisation, {scenes}", worst(final, "localization"), ">=", 0.95),
        Bar(f"whole road, D = 16: mIoU, {scenes}", worst(final, "miou"), ">=", 0.75),
        *(
            Bar(
                f"{name}: localisation of shuffled texts, {scenes}",
                max(row["shuffled_localization"] for row in chosen),
                "<=",
                1 / SIZE["num_objects"],
            )
            for name, chosen in {"texts painted": texts, "whole road": final}.items()
        ),
    ]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of all data sets")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--quick", action="store_true", help="one scene, D = 16, residual alone")
    options = parser.parse_args()
    start = time.perf_counter()
    quick = options.quick
    roads = [Road(options.data, 0)]
    roads += [] if quick else [Road(options.data, seed, roads[0].foreign) for seed in (1, 2)]
    rows: list[Row] = []
    blank = {"recipe": "-", "architecture": "", "latent_dim": 512}
    for road in roads:
        rows += measure(road, road.bottom(), tuple(QUERIES), **blank)
    for architecture in ("residual",) if quick else ARCHITECTURES:
        for latent_dim in (16,) if quick else DIMENSIONS:
            for recipe in RECIPES if (architecture, latent_dim) == (BEST[1], 16) else BEST[:1]:
                about = {"recipe": recipe, "architecture": architecture, "latent_dim": latent_dim}
                is_best = (recipe, architecture, latent_dim) == (*BEST, 16)
                autoencoder = train_on(roads[0].foreign, recipe, architecture, latent_dim, STEPS)
                for road in roads if is_best else roads[:1]:
                    queries = tuple(QUERIES) if is_best and not quick else (USUAL,)
                    rows += measure(road, road.top(autoencoder), queries, **about)
                show([row for row in rows if row["recipe"] == recipe and row["architecture"] == architecture])
    show(rows)
    CONSOLE.print(f"{time.perf_counter() - start:.0f} s in all.")
    write_results(options.json, rows, bars_of(rows))


if __name__ == "__main__":
    main()
