"""Fakes of slow parts: a small exact encoder and mask generator that count their calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.levels import LEVELS

DIM = 6


class TileMasks:
    """Square tiles of three sizes; dark pixels have no region."""

    name = "tiles"

    @property
    def settings(self) -> dict[str, str | int | float]:
        return {"size": 4}

    def generate(self, image: Tensor, kept: Tensor | None = None) -> ViewMasks:
        rows, columns = torch.meshgrid(*(torch.arange(size) for size in image.shape[:2]), indexing="ij")
        # The ids have gaps on purpose.
        levels = torch.stack([(rows // size) * 1000 + columns // size for size in (2, 4, 8)])
        return ViewMasks.from_ids(torch.where(image.float().mean(-1) < 10, -1, levels).int().numpy())


class MeanColorEncoder:
    """Embeds a region as its mean color and its mean squared color."""

    name = "colors"
    identity = "colors/1"
    embedding_dim = DIM

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.num_views = 0

    def encode_regions(self, image: Tensor, masks: ViewMasks) -> Tensor:
        self.num_views += 1
        time.sleep(self.seconds)
        colors = torch.cat([image.float() / 255 + 0.01, (image.float() / 255) ** 2], dim=-1)
        size = image.shape[:2]
        means = torch.stack([colors[torch.from_numpy(mask.pixels(*size))].mean(0) for mask in masks.masks])
        return torch.nn.functional.normalize(means, dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.ones(len(texts), DIM) / DIM**0.5


def make_views(count: int) -> list[tuple[str, Tensor, Tensor | None]]:
    rng = np.random.default_rng(7)
    images = torch.from_numpy(rng.integers(20, 256, (count, 12, 16, 3), dtype=np.uint8))
    return [(f"images/{index:04d}.jpg", image, None) for index, image in enumerate(images)]


def open_store(root: Path, levels: tuple[str, ...] = LEVELS) -> FeatureStore:
    identity = StoreIdentity("colors", MeanColorEncoder.identity, DIM, TileMasks.name, TileMasks().settings, levels)
    return FeatureStore.open(root, identity)
