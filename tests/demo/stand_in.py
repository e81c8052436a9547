"""A run whose latents come from the true outlines, like a perfect language field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from genlangsplat_ns.evaluation.labels import ViewLabels
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity

LATENT_DIM = 12


@dataclass
class StandInView:
    name: str
    split: str


class WordEncoder:
    """Encodes a text as the direction of its category; all unknown texts share another direction."""

    def __init__(self, meanings: Mapping[str, str], name: str = "stand-in"):
        self.name = name
        self.identity = f"{name} v1"
        self.meanings = dict(meanings)
        self.categories = []

    def direction(self, category: str) -> Tensor:
        if category not in self.categories:
            self.categories.append(category)
        return F.one_hot(torch.tensor(1 + self.categories.index(category)), LATENT_DIM).float()

    def encode_texts(self, texts):
        nothing = F.one_hot(torch.tensor(0), LATENT_DIM).float()
        return torch.stack([self.direction(self.meanings[t]) if t in self.meanings else nothing for t in texts])


class StandInRun:
    """Renders the photographs as colors and the directions of the outlined categories as latents."""

    def __init__(self, images: Path, labels: Mapping[str, ViewLabels], encoder: WordEncoder, held_out: set[str]):
        self.images, self.labels, self.encoder = images, labels, encoder
        self.autoencoder_identity = AutoencoderIdentity("identity", encoder.identity, LATENT_DIM, LATENT_DIM)
        self._views = [
            StandInView(path.name, "eval" if path.name in held_out else "train") for path in sorted(images.iterdir())
        ]

    def views(self, split):
        return [view for view in self._views if split in ("all", view.split)]

    def image(self, view):
        return torch.from_numpy(np.array(Image.open(self.images / view.name).convert("RGB")))

    def mask(self, view) -> None:
        """All pixels count."""

    def latents(self, view) -> Tensor:
        labels = self.labels[Path(view.name).stem]
        latents = torch.zeros(labels.height, labels.width, LATENT_DIM)
        latents[..., 0] = 1
        for category in labels.categories:
            latents[torch.from_numpy(labels.truth(category).mask)] = self.encoder.direction(category)
        return latents

    def render(self, view):
        noise = 0.01 * torch.randn(self.image(view).shape, generator=torch.Generator().manual_seed(0))
        rgb = (self.image(view) / 255 + noise).clamp(0, 1)
        return SimpleNamespace(rgb=rgb, latents=self.latents(view)[:, :, None].expand(-1, -1, 3, -1) * 0.9)

    def decode(self, latents):
        return latents
