"""Hours and gigabytes that the check will take, from the number and the size of the photographs.

Every rate is stated with its source. None of those for a card was measured by this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from genlangsplat_ns.installation.scene_needs import Photographs, estimate_needs
from paper.scenes import Scene

EMBEDDING_DIM = 512
"""Numbers of an embedding of ViT-B-16."""

REPORT_GIGABYTES = 0.05
"""Of the pages, tables and logs of a scene."""

COPIES = 2
"""Checkpoints of a run that are on the disk while the newer one is written."""


@dataclass(frozen=True)
class Rates:
    """Seconds that parts of the work take."""

    view: float
    """Masks and embeddings of a view."""
    step: float
    """A training step, per megapixel."""
    lifting: float
    """Lifting a view, per megapixel."""
    pair: float
    """Scoring a pair of view and text by all protocols with both decoders, per megapixel."""
    sources: tuple[str, ...]
    """A sentence for each rate, which says where it comes from."""


CARD = Rates(
    view=20.0,
    step=0.03,
    lifting=0.5,
    pair=1.0,
    sources=(
        "20 s for SAM ViT-H and CLIP in a view: what users of LangSplat report for SAM on an RTX 3090",
        "30 ms for a training step per megapixel (assumed)",
        "0.5 s for lifting a view per megapixel (assumed)",
        "1 s for scoring a pair of view and text per megapixel, both decoders (assumed)",
    ),
)
"""A card like an RTX 3090."""

CPU = Rates(
    view=500.0,
    step=0.7,
    lifting=1.5,
    pair=10.3,
    sources=(
        "500 s for SAM ViT-H and CLIP in a view: about 70 TFLOP at 0.15 TFLOP per second (assumed)",
        "0.7 s for a training step per megapixel with a million Gaussians (assumed, after benchmarks/training.py)",
        "1.5 s for lifting a view per megapixel (from benchmarks/language_phase.py)",
        "10.3 s for scoring a pair of view and text per megapixel, both decoders (from benchmarks/evaluation.py)",
    ),
)
"""Two cores of a server without a card."""


@dataclass(frozen=True)
class Estimate:
    """What a scene takes."""

    scene: str
    hours: dict[str, float]
    """By part."""
    gigabytes: dict[str, float]
    """On the disk, by what takes them."""

    @property
    def total_hours(self) -> float:
        """Of all parts."""
        return sum(self.hours.values())

    @property
    def total_gigabytes(self) -> float:
        """Of all that is written for the scene."""
        return sum(self.gigabytes.values())


def estimate_scene(scene: Scene, steps: int, rates: Rates) -> Estimate:
    """Estimates a scene whose colors are trained for a number of steps."""
    model = SimpleNamespace(max_gaussians=None, sh_degree=3, language_cache_gb=0.0)
    photographs = Photographs(scene.photographs, scene.pixels, scene.longest)
    disk = estimate_needs(photographs, model, "sam", EMBEDDING_DIM, on_cuda=True).disk
    size = scene.megapixels
    return Estimate(
        scene.name,
        {
            "masks and embeddings": scene.photographs * rates.view / 3600,
            "training": (steps * rates.step + scene.photographs * rates.lifting) * size / 3600,
            "evaluation": scene.pairs * rates.pair * size / 3600,
        },
        {
            "features": disk["feature store"] / 1e9,
            "checkpoints": COPIES * disk["checkpoint"] / 1e9,
            "reports": REPORT_GIGABYTES,
        },
    )


def remaining_hours(estimates: Sequence[Estimate], measured: Mapping[str, float]) -> float:
    """Estimates what is left: the estimates of unfinished scenes, scaled by what finished ones took.

    Args:
        estimates: Of all scenes.
        measured: Hours of the finished ones, by name.
    """
    done = sum(item.total_hours for item in estimates if item.scene in measured)
    left = sum(item.total_hours for item in estimates if item.scene not in measured)
    return left * sum(measured.values()) / done if done > 0 else left


def describe_estimates(scenes: Sequence[Scene], estimates: Sequence[Estimate], download: float, rates: Rates) -> str:
    """Describes the estimates as a Markdown table, with their sum and the assumptions below it.

    Args:
        scenes: The scenes.
        estimates: One for each.
        download: Gigabytes of missing weights.
        rates: The rates of the estimates.
    """
    lines = [
        "| scene | photographs | megapixels each | pairs | h masks | h training | h evaluation | GB on disk |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for scene, item in zip(scenes, estimates, strict=True):
        hours = " | ".join(f"{value:.2f}" for value in item.hours.values())
        size = f"{scene.photographs} | {scene.megapixels:.2f} | {scene.pairs}"
        lines.append(f"| {scene.name} | {size} | {hours} | {item.total_gigabytes:.2f} |")
    hours = sum(item.total_hours for item in estimates)
    gigabytes = sum(item.total_gigabytes for item in estimates) + download
    lines.append(f"In all about {hours:.1f} hours and {gigabytes:.1f} GB of disk; {download:.2f} GB are downloaded.")
    lines.append(f"Assumed: {'; '.join(rates.sources)}; a million Gaussians and 400 regions of a view.")
    return "\n".join(lines)
