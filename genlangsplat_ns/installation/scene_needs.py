"""What a scene needs of disk and memory, estimated before anything runs, against what is free.

The constants are measurements; each estimate says what it multiplies.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genlangsplat_ns.installation.checks import Finding

if TYPE_CHECKING:
    from genlangsplat_ns.datamanager import GenLangSplatDataManager

REGIONS = {"watershed": 172, "sam": 400}
"""Regions of a view at all levels: the most that watershed makes, and what SAM found in views of 988x731."""

MAP_BYTES = 0.08
"""Compressed bytes per pixel of the map of regions: 0.08 in the fox scene, 0.07 in the gallery."""

WEIGHT_BYTES = 190
"""Bytes per pixel of the compositing weights in half precision: 180 to 188 in the fox scene, 135 to 142 in the gallery.
"""

PROCESS_BYTES = 1.7e9
"""Memory of a training without a GPU apart from what is counted here (README: 3.0 GB in all for the fox scene)."""

GAUSSIAN_BYTES = 1400
"""Memory per Gaussian in a training step on the CPU (docs/performance.md)."""

UNCAPPED_GAUSSIANS = 1_000_000
"""Gaussians assumed for a method without a limit."""


@dataclass(frozen=True)
class Photographs:
    """The photographs of a scene: their number, and their pixels in all and on the longest side."""

    count: int
    pixels: int
    longest: int

    def limited(self, side: int | None) -> Photographs:
        """Returns the photographs scaled by one factor to at most `side` pixels on the longest side."""
        if side is None or self.longest <= side:
            return self
        return Photographs(self.count, int(self.pixels * (side / self.longest) ** 2), side)


@dataclass(frozen=True)
class Needs:
    """Bytes that a method needs for a scene, by what needs them; `basis` says how they were estimated."""

    disk: dict[str, float]
    memory: dict[str, float]
    basis: str


def photographs_of(views: GenLangSplatDataManager) -> Photographs:
    """Counts the photographs of an opened scene; a photograph in both splits counts once. Reads no pixel."""
    sizes = {
        path: views.raw_size(split, index)
        for split in views.splits
        for index, path in enumerate(views.dataset(split).image_filenames)
    }
    return Photographs(
        len(sizes), sum(width * height for width, height in sizes.values()), max(map(max, sizes.values()))
    )


def estimate_needs(photographs: Photographs, model: Any, masks: str, embedding_dim: int, on_cuda: bool) -> Needs:
    """Estimates what a method needs.

    Args:
        photographs: At the size at which the method trains.
        model: The method's `GenLangSplatModelConfig`.
        masks: Name of the masks.
        embedding_dim: Width of the encoder's embeddings.
        on_cuda: Whether a GPU renders, which needs no cache of compositing weights.
    """
    gaussians = model.max_gaussians or UNCAPPED_GAUSSIANS
    regions = REGIONS.get(masks, max(REGIONS.values()))
    # Position, scale, rotation, opacity and harmonics, of which Adam keeps two moments; latents at three levels.
    numbers = 3 * (3 + 3 + 4 + 1 + 3 * (model.sh_degree + 1) ** 2) + 3 * 16
    weights = min(model.language_cache_gb * 1e9, WEIGHT_BYTES * photographs.pixels)
    return Needs(
        disk={
            "feature store": photographs.count * regions * embedding_dim * 2 + MAP_BYTES * photographs.pixels,
            "checkpoint": 4.0 * numbers * gaussians,
        },
        memory={
            "photographs": 3.0 * photographs.pixels,
            "Gaussians": float(GAUSSIAN_BYTES * gaussians),
            # A GPU renders again instead of storing weights, and its process is in the memory of the host.
            "compositing weights": 0.0 if on_cuda else weights,
            "process": 0.0 if on_cuda else PROCESS_BYTES,
        },
        basis=f"{regions} regions of a view, {gaussians:,} Gaussians{'' if model.max_gaussians else ' (assumed)'}",
    )


def check_scene(data: Path, data_format: str = "nerfstudio") -> Iterator[Finding]:
    """Reads the cameras of a scene, and compares what both methods need for it with what is free.

    Raises:
        GenLangSplatError: The data cannot be read.
    """
    import psutil
    import torch

    from genlangsplat_ns import config
    from genlangsplat_ns.features.settings import FeatureSettings
    from genlangsplat_ns.scene.extraction import open_views
    from genlangsplat_ns.views.settings import ViewSettings

    views = open_views(ViewSettings(data=data, data_format=data_format), FeatureSettings())
    photographs, on_cuda = photographs_of(views), torch.cuda.is_available()
    found = f"{photographs.count} photographs, {photographs.pixels / 1e6 / photographs.count:.2f} megapixels on average"
    yield Finding("scene", "ok", f"{found}, at most {photographs.longest} pixels on a side")
    free_disk = float(shutil.disk_usage(data).free)
    free_memory = float(torch.cuda.mem_get_info()[0] if on_cuda else psutil.virtual_memory().available)
    where = "memory of the GPU" if on_cuda else "memory"
    for method in (config.gen_langsplat.config, config.gen_langsplat_lite.config):
        pipeline: Any = method.pipeline
        limited = photographs.limited(pipeline.datamanager.max_image_side)
        extractor = views.extractor
        needs = estimate_needs(limited, pipeline.model, extractor.mask_name, extractor.embedding_dim, on_cuda)
        advice = "Free disk space, or move the scene and --output-dir to a larger disk."
        yield compare(f"{method.method_name}: disk", needs.disk, free_disk, needs.basis, advice)
        advice = "--pipeline.model.max-gaussians N, --pipeline.datamanager.max-image-side N, or gen-langsplat-lite"
        yield compare(f"{method.method_name}: {where}", needs.memory, free_memory, needs.basis, advice)


def compare(name: str, needs: dict[str, float], free: float, basis: str, advice: str) -> Finding:
    """Compares estimated needs in bytes with what is free."""
    parts = ", ".join(f"{what} {size / 1e9:.2f}" for what, size in needs.items() if size)
    found = f"about {sum(needs.values()) / 1e9:.2f} GB of {free / 1e9:.2f} GB free ({parts}; for {basis})"
    enough = sum(needs.values()) <= free
    return Finding(name, "ok" if enough else "warning", found, "" if enough else advice)
