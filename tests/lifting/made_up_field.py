"""A made-up language field: square regions that all views share, and a code that is a random rotation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genlangsplat_ns.lifting.health import CodeSample
from genlangsplat_ns.lifting.health_measures import RenderedRegions

HEIGHT, WIDTH, LEVELS, LATENT_DIM, EMBEDDING_DIM = 96, 128, 3, 16, 48
CELL = 24
"""Side of the square regions."""


def smooth_field(generator: torch.Generator, reach: float) -> Tensor:
    """Random offsets of every pixel along both axes, in pixels, which change slowly."""
    coarse = reach * (2 * torch.rand(1, 2, HEIGHT // 12, WIDTH // 12, generator=generator) - 1)
    return F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[0].round().long()


def moved(regions: Tensor, offsets: Tensor) -> Tensor:
    """Reads a map of regions at displaced positions."""
    y = (torch.arange(HEIGHT)[:, None] + offsets[0]).clamp(0, HEIGHT - 1)
    x = (torch.arange(WIDTH)[None] + offsets[1]).clamp(0, WIDTH - 1)
    return regions[:, y, x]


class Field:
    """A made-up field: square regions, which all views share, and a code that is a random rotation."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        rows = torch.arange(HEIGHT)[:, None] // CELL * -(-WIDTH // CELL) + torch.arange(WIDTH)[None] // CELL
        self.count = int(rows.max()) + 1
        self.regions = torch.stack([rows + level * self.count for level in range(LEVELS)]).int()
        # The objects have something in common, as embeddings of images do.
        common = torch.ones(LATENT_DIM) / LATENT_DIM**0.5
        self.latents = F.normalize(common + self.random(LEVELS * self.count, LATENT_DIM) / 3, dim=-1)
        basis = torch.linalg.qr(self.random(EMBEDDING_DIM, EMBEDDING_DIM))[0][:LATENT_DIM]
        self.embeddings = F.normalize(
            self.latents @ basis + 0.05 * self.random(len(self.latents), EMBEDDING_DIM), dim=-1
        )
        self.basis = basis

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def view(self, regions: Tensor | None = None, rendered: Tensor | None = None) -> RenderedRegions:
        """A view; by default with the latents of its regions and a little noise, at an opacity of 0.9."""
        regions = self.regions if regions is None else regions
        if rendered is None:
            rendered = self.latents[self.regions.permute(1, 2, 0).long()]
            rendered = 0.9 * (rendered + 0.05 * self.random(*rendered.shape))
        return RenderedRegions(regions, self.latents, rendered)

    def code(self, basis: Tensor | None = None) -> CodeSample:
        """The code of the field, or a linear code with another basis."""
        basis = self.basis if basis is None else basis
        latents = F.normalize(self.embeddings @ basis.T, dim=-1)

        def decode(values: Tensor) -> Tensor:
            return F.normalize(values @ basis, dim=-1)

        groups = torch.arange(len(latents)) // self.count
        return CodeSample(self.embeddings, latents, groups, decode)

    def gaussians(self) -> Tensor:
        return self.latents[:, None].expand(-1, LEVELS, -1)
