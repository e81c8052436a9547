"""Measures the loss from compressed latents: cosine and mIoU on composed scenes, and sizes compared with other methods.

    python benchmarks/compression.py --data DATA --json compression.json

DATA is the folder with `splat_objects`, `clip_embeddings` and `clip_text_embeddings_detic`. Composed scenes have exact
labels, so the loss is measured against the ground truth instead of the uncompressed scene. Words are queried with the
memory, as in `composed.py`.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from genlangsplat_ns.language.compression import compress_latents, directions_agree
from genlangsplat_ns.language.projection import projection_autoencoder
from support.benchmark import Benchmark, Goal, Results, Row
from support.composed_fidelity import scene_fidelity
from support.composed_lift import SceneSetup
from support.composed_run import ENCODER
from support.tables import print_table

ENCODINGS: tuple[Literal["float32", "fp16", "int8"], ...] = ("float32", "fp16", "int8")

STORAGE = (
    ("Gen-LangSplat", "3 x 16 float32", 3 * 16 * 4),
    ("Gen-LangSplat", "3 x 16 fp16", 3 * 16 * 2),
    ("Gen-LangSplat", "3 x 16 int8", 3 * 16),
    ("LangSplat", "3 models x 3 float32, and a per-scene autoencoder", 3 * 3 * 4),
    ("LangSplatV2", "3 x (4 of 64 entries: 1 byte and a float32 each), at queries", 3 * 4 * 5),
    ("LangSplatV2", "3 models x 64 float32 logits, in its checkpoints", 3 * 64 * 4),
    ("Occam's LGS", "3 models x 512 float32", 3 * 512 * 4),
)
"""Language storage of methods at three levels, in bytes per Gaussian, which is also MB per million Gaussians.

The sizes exclude the geometry, which LangSplat and LangSplatV2 store once per level.
"""


def measure_scene(data: Path, seed: int) -> list[Row]:
    """Lifts one scene and scores its latents before and after each encoding."""
    scene = SceneSetup(data, seed).lift(projection_autoencoder(ENCODER, 512))
    latents, count = scene.lifted.latents, len(scene.lifted.latents)
    rows = []
    for encoding in ENCODINGS:
        restored, stored = latents, latents.nbytes
        if encoding != "float32":
            compressed = compress_latents(latents, encoding)
            restored, stored = compressed.restore(), sum(part.nbytes for part in compressed.weights().values())
        agreements = {
            "latents": directions_agree(latents, restored),
            "embeddings": directions_agree(latents, restored, scene.decoders["memory"]),
        }
        found = replace(scene, lifted=replace(scene.lifted, latents=restored))
        (fidelity,) = [
            row for row in scene_fidelity(found, "") if (row["decoder"], row["latents"]) == ("memory", "rendered")
        ]
        row = {"seed": seed, "gaussians": count, "encoding": encoding, "cosine": fidelity["source_cosine"]}
        row |= found.setup.ask(found.run("memory"))
        row |= {f"{name}_{key}": value for name, pair in agreements.items() for key, value in vars(pair).items()}
        rows.append(row | {"bytes_per_gaussian": stored / count})
    return rows


def show(rows: list[Row]) -> list[Goal]:
    """Prints sizes and losses, and returns the goals."""
    print_table(
        ("method", "stored per Gaussian", "MB per million Gaussians"),
        ((method, stored, f"{size:,}") for method, stored, size in STORAGE),
        title="Language latents, all levels",
    )
    kept = {(row["seed"], row["encoding"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    figures = (
        "bytes_per_gaussian",
        "latents_mean",
        "latents_worst",
        "embeddings_mean",
        "embeddings_worst",
        "cosine",
        "miou",
        "localization",
    )
    joined = {
        (name, encoding): (min if name.endswith("worst") else statistics.mean)(
            kept[seed, encoding][name] for seed in seeds
        )
        for name in figures
        for encoding in ENCODINGS
    }
    print_table(
        ("", *ENCODINGS),
        ((name, *(f"{joined[name, encoding]:.6f}" for encoding in ENCODINGS)) for name in figures),
        title=f"{len(seeds)} composed scenes; rows from cosine on: compared with the ground truth",
    )
    goals = []
    for encoding in ENCODINGS[1:]:
        lost = [100 * (kept[seed, "float32"]["miou"] - kept[seed, encoding]["miou"]) for seed in seeds]
        goals += [
            Goal(f"{encoding}, worst cosine of an embedding", joined["embeddings_worst", encoding], ">=", 0.99),
            Goal(f"{encoding}, points of mIoU lost (worst scene)", max(lost), "<=", 0.1),
        ]
    return goals


@dataclass(frozen=True, kw_only=True)
class CompressionBenchmark(Benchmark):
    """The loss from compressed latents."""

    data: Path
    """Folder of all data sets."""
    seeds: int = 3
    """Number of composed scenes."""
    quick: bool = False
    """Measure one scene."""

    def measure(self) -> Results:
        """Measures the scenes."""
        rows = [row for seed in range(1 if self.quick else self.seeds) for row in measure_scene(self.data, seed)]
        return rows, show(rows)


if __name__ == "__main__":
    CompressionBenchmark.main()
