"""Views of a small scene with features in a store, like those of a run."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from genlangsplat_ns.features.store import FeatureStore, StoreIdentity, ViewFeatures
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.lifting.region_views import PosedView, RegionViews
from genlangsplat_ns.rasterization import View
from tests.rasterization.gaussian_scenes import small_scene

IDENTITY = StoreIdentity("tiny", "tiny/1", 12, "stripes", {}, ("subpart", "part", "whole"))
WIDTH, HEIGHT = 48, 36


def stored_views(folder: Path, count: int = 7, width: int = WIDTH, height: int = HEIGHT) -> RegionViews:
    """Views of a camera that turns about the scene; every third has one mislabeled region."""
    scene = small_scene(width=width, height=height)
    store = FeatureStore.open(folder, IDENTITY)
    generator = torch.Generator().manual_seed(3)
    meanings = F.normalize(torch.randn(6, 12, generator=generator), dim=1)
    views = []
    for number in range(count):
        turn = torch.eye(4)
        angle = 0.1 * (number - count / 2)
        turn[0, 0] = turn[2, 2] = math.cos(angle)
        turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
        rows = torch.arange(height)[:, None] * 6 // height + torch.zeros(1, width, dtype=torch.int64)
        regions = torch.stack([rows, 6 + rows // 2, 9 + rows // 3]).int()
        regions[:, :, :2] = -1
        embeddings = meanings[[*range(6), 0, 2, 4, 0, 3]].clone()
        if number % 3 == 2:
            embeddings[number % 6] = meanings[(number + 1) % 6]
        key = f"view-{number}"
        store.save(key, ViewFeatures(regions, embeddings))
        views.append(PosedView(f"{number}.png", key, View(turn @ scene.viewmats[0], scene.Ks[0], width, height)))
    torch.manual_seed(0)
    identity = AutoencoderIdentity(name="tiny", encoder="tiny/1", embedding_dim=12, latent_dim=4)
    return RegionViews(scene.gaussians, "classic", views, store, Autoencoder(identity).eval().requires_grad_(False))


class DeadlyStore(FeatureStore):
    """A store that kills the process that first loads one of its views."""

    @classmethod
    def of(cls, store: FeatureStore, key: str, death: Path) -> DeadlyStore:
        deadly = cls(store.folder, store.identity)
        deadly.key_of_death, deadly.death = key, death
        return deadly

    def load(self, key: str) -> Any:
        if key == self.key_of_death and not self.death.exists():
            self.death.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(key)
