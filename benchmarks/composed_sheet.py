"""Draws a composed scene as a contact sheet, and measures the cosines of its regions with the texts.

    python benchmarks/composed_sheet.py --data DATA --out sheet.png --json sheet.json

The sheet has a row per view: the image, its labels, and its subparts, parts and wholes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path
from support.benchmark import Benchmark, Results
from support.composed_scene import MODALITIES, ComposedScene, RegionSettings, compose, region_features
from support.tables import print_table
from support.timing import Stopwatch

ERRORS = ("mislabeled", "merged", "split", "missing")


def text_cosines(scene: ComposedScene, settings: RegionSettings) -> tuple[Tensor, Tensor]:
    """Cosines of the whole objects of all views with their own text, and with the texts of other objects."""
    own, other = [], []
    for index, labels in enumerate(scene.labels):
        features = region_features(scene, index, settings)
        cosines = features.embeddings @ scene.texts.T
        for name in labels[labels >= 0].unique():
            rows, counts = features.regions[-1][labels == name].unique(return_counts=True)
            row = cosines[rows[counts.argmax()]]
            own.append(row[name])
            other.append(torch.cat([row[:name], row[name + 1 :]]))
    return torch.stack(own), torch.cat(other)


def contact_sheet(scene: ComposedScene, settings: RegionSettings, count: int = 6) -> Image.Image:
    """Arranges views in rows: the image, its labels, and its subparts, parts and wholes."""
    order = np.arange(256)
    palette = colormaps["hsv"](order * 0.618 % 1)[:, :3] * (1 - 0.25 * (order % 3))[:, None]
    palette = np.concatenate([(palette * 255).astype(np.uint8), np.zeros((1, 3), dtype=np.uint8)])
    rows = []
    for index in np.linspace(0, len(scene.views) - 1, count).astype(int).tolist():
        features = region_features(scene, index, settings)
        maps = torch.cat([scene.labels[index][None], features.regions]).numpy()
        rows.append(
            np.concatenate([scene.images[index].numpy(), *palette[np.where(maps < 0, 256, maps % 256)]], axis=1)
        )
    return Image.fromarray(np.concatenate(rows))


@dataclass(frozen=True, kw_only=True)
class ComposedSheetBenchmark(Benchmark):
    """A composed scene, and the cosines of its regions with the texts."""

    data: Path
    """Folder of all data sets."""
    out: Path
    """PNG file for the contact sheet."""
    seed: int = 0
    """Random seed of the scene."""
    objects: int = 8
    """Number of objects."""
    views: int = 40
    """Number of cameras."""
    errors: float = 0.0
    """Rate of each kind of region error in the sheet."""
    quick: bool = False
    """Compose a fifth of the views."""

    def measure(self) -> Results:
        """Composes the scene, writes the sheet and measures the cosines."""
        watch = Stopwatch()
        with watch:
            scene = compose(self.data, self.seed, self.objects, max(1, self.views // 5) if self.quick else self.views)
        CONSOLE.print(f"{', '.join(scene.objects)}: {len(scene.gaussians.means)} Gaussians, {watch.wall / 1e3:.1f} s")
        rates = dict.fromkeys(ERRORS, self.errors)
        sheet = contact_sheet(scene, RegionSettings(**rates, boundary_shift=10 * self.errors))
        with atomic_path(self.out) as path:
            sheet.save(path)
        lines, rows = [], []
        for modality in MODALITIES:
            cosines = text_cosines(scene, RegionSettings(modality=modality))
            lines.append((modality, *(f"{values.mean():.3f}, spread {values.std():.3f}" for values in cosines)))
            figures = {
                f"{name}_{figure}": float(value)
                for name, values in zip(("own", "other"), cosines, strict=True)
                for figure, value in (("mean", values.mean()), ("spread", values.std()))
            }
            rows.append({"seed": self.seed, "views": len(scene.views), "modality": modality, **figures})
        print_table(("modality", "cosine with the own text", "with the others'"), lines)
        return rows, []


if __name__ == "__main__":
    ComposedSheetBenchmark.main()
